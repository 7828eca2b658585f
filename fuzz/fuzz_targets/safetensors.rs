//! Any bytes as `model.safetensors` of the small model: an error or a model, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_diffusion_engine::LogitsModel;
use weir_diffusion_engine::inspect::{inspect, verify};

#[path = "place.rs"]
mod place;

fuzz_target!(init: {
    place::let_caught_panics_be();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::write(place::folder().join(name), place::small(name)).expect("writable");
    }
}, |data: &[u8]| {
    let folder = place::folder();
    std::fs::write(folder.join("model.safetensors"), data).expect("writable");
    let described = inspect(&folder);
    if verify(&folder, |_| {}).is_empty() {
        assert!(described.is_ok());
        assert!(LogitsModel::open(&folder).is_ok(), "verify passed what does not load");
    }
});
