//! Any bytes as an upstream's answer, of every kind, whole and in pieces, to the frames of every dialect.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "place.rs"]
mod place;

fuzz_target!(init: place::let_caught_panics_be(), |data: &[u8]| weir_gateway::fuzzing::answer(data));
