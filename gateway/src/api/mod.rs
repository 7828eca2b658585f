//! The only place that knows dialects: decodes a body into a `ChatRequest`, encodes events as the caller expects them.
//! Must never choose a backend nor call one except through `route`.
//!
//! A folder for each dialect, over what they share: [`reading`] for bodies, [`answering`] for answers.

pub mod anthropic_messages;
pub mod any_dialect;
pub(crate) mod counting;
pub mod models;
pub mod openai_chat;
pub mod openai_completions;
pub mod openai_responses;
pub mod route_explain;

pub(crate) mod answering;
pub(crate) mod paths;
pub(crate) mod reading;

use axum::response::Response;
use http::StatusCode;
use weir_protocol::EngineError;

use answering::failure::Failure;

/// An error that came before the handler, as the clients of this path expect errors.
pub fn refused(path: &str, error: &EngineError) -> Response {
    shown(path, Failure::from(error))
}

/// An error of the layers around the handlers (no such path, body too large, too many requests), as the clients of this
/// path expect errors.
pub fn refusal(path: &str, status: StatusCode, code: &'static str, message: &str) -> Response {
    shown(path, Failure::of_layer(status, code, message))
}

/// Nothing is at this path.
pub fn nowhere(path: &str) -> Response {
    let mut message = "no such path".to_owned();
    if let Some(meant) = meant(path) {
        message.push_str(&format!("; did you mean `/v1{meant}`?"));
    }
    refusal(path, StatusCode::NOT_FOUND, "not_found", &message)
}

/// What a client asks for, below `/v1`, whose base URL has one part too many or lacks one.
fn meant(path: &str) -> Option<&'static str> {
    let path = path.trim_end_matches('/');
    paths::all().find(|asked| {
        let base = path.strip_suffix(asked).map(|base| base.trim_start_matches('/'));
        base.is_some_and(|base| base.split('/').all(|part| ["", "api", "openai", "anthropic", "v1"].contains(&part)))
    })
}

fn shown(path: &str, failure: Failure) -> Response {
    match path.starts_with(paths::MESSAGES) {
        true => anthropic_messages::error::response(&failure),
        false => openai_chat::error::response(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_wrong_base_url_is_told_the_right_path() {
        for path in
            ["/chat/completions", "/v1/v1/chat/completions", "/v1/chat/completions/", "/api/v1/chat/completions"]
        {
            assert_eq!(meant(path), Some("/chat/completions"), "{path}");
        }
        assert_eq!(meant("/messages/count_tokens"), Some("/messages/count_tokens"));
        assert_eq!(meant("/responses/input_tokens"), Some("/responses/input_tokens"));
        for path in ["/", "/v1", "/v1/embeddings", "/v1/threads/7/messages", "/v1/messages/batches", "/readyz"] {
            assert_eq!(meant(path), None, "{path}");
        }
    }
}
