//! Any bytes as a GGUF file: an error or a model, never a panic; what `verify` passes must load.
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
        assert!(LogitsModel::open(&path).is_ok(), "verify passed what does not load");
    }
});
