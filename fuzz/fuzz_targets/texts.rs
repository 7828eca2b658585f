//! Any text as a policy, a line of the request log, a config, a `traceparent` or a scenario.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "place.rs"]
mod place;

fuzz_target!(init: place::let_caught_panics_be(), |data: &[u8]| weir_gateway::fuzzing::text(&place::folder(), data));
