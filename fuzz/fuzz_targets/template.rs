//! Any texts as a conversation: the chat template and the tokenizer give tokens or an error, never a panic.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use weir_diffusion_engine::{Engine, EngineOptions, ModelFiles};
use weir_protocol::{ChatRequest, Message, Role};

#[path = "place.rs"]
mod place;

static ENGINE: OnceLock<Engine> = OnceLock::new();

fuzz_target!(init: {
    place::let_caught_panics_be();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../diffusion-engine/tests/fixtures/small.gguf");
    let engine = Engine::load(ModelFiles::Dir(file), EngineOptions::default()).expect("the fixture loads");
    ENGINE.set(engine).expect("once");
}, |data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let roles = [Role::User, Role::Assistant, Role::System];
    let parts = text.split('\u{1}').enumerate();
    let messages = parts.map(|(at, part)| Message::text(roles[at % roles.len()], part)).collect();
    let request = ChatRequest { messages, ..ChatRequest::default() };
    let _ = ENGINE.get().expect("loaded").count_prompt_tokens(&request);
});
