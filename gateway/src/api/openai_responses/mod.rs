//! OpenAI responses: `POST /v1/responses`. Nothing is stored: a conversation comes whole each time.

pub mod decode;

pub(crate) mod encode;
mod events;
mod items;
mod joined;
mod stream;
mod theirs;
mod whole;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;
use weir_protocol::{ChatRequest, EngineError};

use super::answering::collect::Collected;
use super::answering::failure::Failure;
use super::answering::{Identity, Speaks, answer, frames};
use super::counting::Counts;
use super::openai_chat::error;
use crate::caller::Caller;
use crate::stack::Gateway;
use stream::ResponsesGrammar;
use whole::Whole;

/// Answers one request.
pub async fn responses(State(gateway): State<Arc<Gateway>>, caller: Caller, body: Bytes) -> Response {
    answer::<OpenAiResponses>(gateway, caller, body).await
}

pub(crate) struct OpenAiResponses;

impl Speaks for OpenAiResponses {
    type Grammar = ResponsesGrammar;
    type Whole = Whole;
    const KEEP_ALIVE: &'static [u8] = frames::COMMENT;

    fn decode(body: &[u8]) -> Result<ChatRequest, EngineError> {
        decode::decode(body)
    }

    fn grammar(request: &ChatRequest) -> ResponsesGrammar {
        ResponsesGrammar::new(identity(), request)
    }

    fn whole(request: &ChatRequest, answer: Collected) -> Result<Whole, EngineError> {
        Ok(Whole::new(identity(), request, answer))
    }

    fn joined(pieces: &[String]) -> Option<String> {
        joined::joined(pieces).as_ref().map(Value::to_string)
    }

    fn refused(failure: Failure) -> Response {
        error::response(failure.named(FIELDS))
    }
}

impl Counts for OpenAiResponses {
    const OBJECT: Option<&'static str> = Some("response.input_tokens");
}

/// Fields that chat completions call otherwise.
const FIELDS: &[(&str, &str)] = &[
    ("messages", "input"),
    ("response_format", "text.format"),
    ("response_format.json_schema.schema", "text.format.schema"),
    (".function.parameters", ".parameters"),
];

fn identity() -> Identity {
    Identity::fresh("resp_")
}
