//! Any bytes as a caller's body, in every dialect, to the bytes that each kind of upstream would get.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "place.rs"]
mod place;

fuzz_target!(init: place::let_caught_panics_be(), |data: &[u8]| weir_gateway::fuzzing::body(data));
