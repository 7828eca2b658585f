//! The only place that knows dialects: decodes a body into a `ChatRequest`, encodes events as the caller expects them.
//! Must never choose a backend nor call one except through `route`.
//!
//! A folder for each dialect, over what they share: [`reading`] for bodies, [`answering`] for answers.

pub mod anthropic_messages;
pub mod any_dialect;
pub mod models;
pub mod openai_chat;
pub mod openai_completions;
pub mod openai_responses;
pub mod route_explain;

pub(crate) mod answering;
pub(crate) mod reading;

use axum::response::Response;
use http::StatusCode;
use weir_protocol::EngineError;

use answering::failure::Failure;

/// Under this path callers speak Anthropic's dialect.
pub(crate) const MESSAGES: &str = "/v1/messages";

/// An error that came before the handler, as the clients of this path expect errors.
pub fn refused(path: &str, error: &EngineError) -> Response {
    shown(path, Failure::from(error))
}

/// An error of the layers around the handlers (no such path, body too large, too many requests), as the clients of this
/// path expect errors.
pub fn refusal(path: &str, status: StatusCode, code: &'static str, message: &str) -> Response {
    shown(path, Failure::of_layer(status, code, message))
}

fn shown(path: &str, failure: Failure) -> Response {
    match path.starts_with(MESSAGES) {
        true => anthropic_messages::error::response(&failure),
        false => openai_chat::error::response(failure),
    }
}
