//! Any bytes as one of the small model's JSON files; the first byte says which. An error or a model, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_diffusion_engine::inspect::inspect;

#[path = "place.rs"]
mod place;

const NAMES: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];

fuzz_target!(init: {
    place::let_caught_panics_be();
    // A header without tensors: only the JSON files matter here.
    let empty = [&2u64.to_le_bytes()[..], b"{}"].concat();
    std::fs::write(place::folder().join("model.safetensors"), empty).expect("writable");
}, |data: &[u8]| {
    let Some((which, text)) = data.split_first() else { return };
    let which = NAMES[*which as usize % NAMES.len()];
    for name in NAMES {
        let bytes = if name == which { text.to_vec() } else { place::small(name) };
        std::fs::write(place::folder().join(name), bytes).expect("writable");
    }
    let _ = inspect(&place::folder());
});
