//! Any bytes as a chat request, from the body to the last event of the answer: the decoder, the features that routing
//! looks at, the engine's settings, the form (schema, regex, grammar) and a few denoise steps on the tests' small
//! model. An answer ends exactly once, in a result or an error that is the caller's; never in a panic or one of ours.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use weir_diffusion_engine::{Engine, EngineOptions, GenerationEvent, ModelFiles};
use weir_gateway::api::openai_chat::decode::decode;
use weir_protocol::EngineError;
use weir_router_policies::Features;

#[path = "place.rs"]
mod place;

static ENGINE: OnceLock<Engine> = OnceLock::new();

/// Enough for two blocks of eight and for the way home of a form that is cut short.
const MAX_TOKENS: u32 = 16;

fuzz_target!(init: {
    place::let_caught_panics_be();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../diffusion-engine/tests/fixtures/small.gguf");
    let engine = Engine::load(ModelFiles::Dir(file), EngineOptions::default()).expect("the fixture loads");
    ENGINE.set(engine).expect("once");
}, |data: &[u8]| {
    let Ok(mut request) = decode(data) else { return };
    let _ = Features::of(&request);
    request.max_tokens = Some(request.max_tokens.unwrap_or(MAX_TOKENS).min(MAX_TOKENS));
    let mut answer = match ENGINE.get().expect("loaded").generate(&request) {
        Ok(answer) => answer,
        Err(EngineError::Internal { .. }) => panic!("a refusal that is ours"),
        Err(_) => return,
    };
    let mut ends = 0;
    while let Some(event) = answer.next_blocking() {
        match event {
            GenerationEvent::Done { .. } => ends += 1,
            GenerationEvent::Failed(EngineError::Internal { .. }) => panic!("an error that is ours"),
            GenerationEvent::Failed(_) => ends += 1,
            _ => assert_eq!(ends, 0, "an event after the end"),
        }
    }
    assert_eq!(ends, 1, "an answer ends once");
});
