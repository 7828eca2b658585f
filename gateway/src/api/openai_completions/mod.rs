//! OpenAI completions: `POST /v1/completions`. A text is gone on with, or a gap in it filled.

pub mod decode;

mod encode;
mod stream;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;
use weir_protocol::{ChatRequest, EngineError};

use super::answering::collect::Collected;
use super::answering::failure::Failure;
use super::answering::{Identity, Speaks, answer, frames};
use super::openai_chat::error;
use super::openai_chat::joined::grown;
use crate::caller::Caller;
use crate::stack::Gateway;
use stream::{CompletionsGrammar, Whole};

/// Answers one request.
pub async fn completions(State(gateway): State<Arc<Gateway>>, caller: Caller, body: Bytes) -> Response {
    answer::<OpenAiCompletions>(gateway, caller, body).await
}

pub(crate) struct OpenAiCompletions;

impl Speaks for OpenAiCompletions {
    type Grammar = CompletionsGrammar;
    type Whole = Whole;
    const KEEP_ALIVE: &'static [u8] = frames::COMMENT;

    fn decode(body: &[u8]) -> Result<ChatRequest, EngineError> {
        decode::decode(body)
    }

    fn grammar(request: &ChatRequest) -> CompletionsGrammar {
        CompletionsGrammar::new(identity(), request)
    }

    fn whole(request: &ChatRequest, answer: Collected) -> Result<Whole, EngineError> {
        Whole::new(identity(), request, answer)
    }

    fn joined(pieces: &[String]) -> Option<String> {
        let (mut whole, choice) = grown(pieces)?;
        whole.insert("choices".into(), Value::Array(vec![choice.into()]));
        Some(Value::Object(whole).to_string())
    }

    fn refused(failure: Failure) -> Response {
        error::response(failure.named(FIELDS))
    }
}

/// Fields that chat completions call otherwise.
const FIELDS: &[(&str, &str)] = &[("messages", "prompt")];

fn identity() -> Identity {
    Identity::fresh("cmpl-")
}
