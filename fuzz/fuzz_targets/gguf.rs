//! Any bytes as a GGUF file, of LLaDA2 or of a dense chat model: an error or a model, never a panic; what `verify` passes
//! must load, and a forward of it must come back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_diffusion_engine::LogitsModel;
use weir_diffusion_engine::inspect::{inspect, verify};

#[path = "place.rs"]
mod place;

fuzz_target!(init: place::let_caught_panics_be(), |data: &[u8]| {
    let path = place::folder().join("fuzz.gguf");
    std::fs::write(&path, data).expect("writable");
    let described = inspect(&path);
    let faults = verify(&path, |_| {});
    if faults.is_empty() {
        assert!(described.is_ok());
        let model = LogitsModel::open(&path).expect("verify passed what does not load");
        // A context of two positions may refuse three tokens.
        let _ = model.logits(&[0, 1, 0], 1, true);
    }
});
