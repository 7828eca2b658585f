//! Anthropic messages: `POST /v1/messages`.

pub mod decode;

pub(crate) mod encode;
pub(crate) mod error;
mod joined;
mod stream;
mod whole;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use weir_protocol::{ChatRequest, EngineError};

use super::answering::collect::Collected;
use super::answering::failure::Failure;
use super::answering::{Identity, Speaks, answer};
use super::counting::Counts;
use crate::caller::Caller;
use crate::stack::Gateway;
use encode::MessageBody;
use stream::MessagesGrammar;

/// Answers one request.
pub async fn messages(State(gateway): State<Arc<Gateway>>, caller: Caller, body: Bytes) -> Response {
    answer::<AnthropicMessages>(gateway, caller, body).await
}

pub(crate) struct AnthropicMessages;

impl Speaks for AnthropicMessages {
    type Grammar = MessagesGrammar;
    type Whole = MessageBody;
    const KEEP_ALIVE: &'static [u8] = encode::PING;

    fn decode(body: &[u8]) -> Result<ChatRequest, EngineError> {
        decode::decode(body)
    }

    fn grammar(request: &ChatRequest) -> MessagesGrammar {
        MessagesGrammar::new(identity(), &request.sampling.stop)
    }

    fn whole(request: &ChatRequest, mut answer: Collected) -> Result<MessageBody, EngineError> {
        answer.stopped_at = answer.stopped_at.filter(|text| request.sampling.stop.contains(text));
        MessageBody::new(identity(), answer)
    }

    fn joined(pieces: &[String]) -> Option<String> {
        joined::joined(pieces)
    }

    fn refused(failure: Failure) -> Response {
        error::response(&failure.named(FIELDS))
    }
}

impl Counts for AnthropicMessages {
    const OBJECT: Option<&'static str> = None;
}

/// Fields that chat completions call otherwise.
const FIELDS: &[(&str, &str)] = &[
    ("response_format", "output_config.format"),
    ("response_format.json_schema.schema", "output_config.format.schema"),
    ("stop", "stop_sequences"),
    ("prefill", "messages"),
    ("server_tool_use", "messages"),
    (".function.parameters", ".input_schema"),
];

fn identity() -> Identity {
    Identity::fresh("msg_")
}
