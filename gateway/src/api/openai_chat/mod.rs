//! OpenAI chat completions: `POST /v1/chat/completions`.

pub mod decode;

pub(crate) mod encode;
pub(crate) mod error;
pub(crate) mod joined;
mod stream;
mod whole;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;
use weir_protocol::{ChatRequest, EngineError};

use super::answering::collect::Collected;
use super::answering::failure::Failure;
use super::answering::{Identity, Speaks, answer, frames};
use crate::caller::Caller;
use crate::stack::Gateway;
use encode::Completion;
use stream::ChatGrammar;
pub(crate) use stream::without_usage;

/// Answers one chat request.
pub async fn chat(State(gateway): State<Arc<Gateway>>, caller: Caller, body: Bytes) -> Response {
    answer::<OpenAiChat>(gateway, caller, body).await
}

pub(crate) struct OpenAiChat;

impl Speaks for OpenAiChat {
    type Grammar = ChatGrammar;
    type Whole = Completion;
    const KEEP_ALIVE: &'static [u8] = frames::COMMENT;

    fn decode(body: &[u8]) -> Result<ChatRequest, EngineError> {
        decode::decode(body)
    }

    fn grammar(request: &ChatRequest) -> ChatGrammar {
        ChatGrammar::new(identity(), request)
    }

    fn whole(_: &ChatRequest, answer: Collected) -> Result<Completion, EngineError> {
        Ok(Completion::new(identity(), answer))
    }

    fn joined(pieces: &[String]) -> Option<String> {
        joined::joined(pieces).as_ref().map(Value::to_string)
    }

    fn refused(failure: Failure) -> Response {
        error::response(failure)
    }
}

fn identity() -> Identity {
    Identity::fresh("chatcmpl-")
}
