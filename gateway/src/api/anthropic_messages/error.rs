//! How an error looks to Anthropic's clients, as a body and as an event.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use crate::api::answering::failure::{Class, Failure};

/// `{"type": "error", "error": …}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ErrorBody {
    #[serde(rename = "type")]
    kind: &'static str,
    error: ErrorDetail,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ErrorDetail {
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
    /// Weir's own two: the error for programs, and the field at fault.
    code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<String>,
}

impl From<&Failure> for ErrorBody {
    fn from(failure: &Failure) -> Self {
        let kind = match failure.class {
            Class::TooLong { .. } if failure.status == StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
            Class::Invalid | Class::TooLong { .. } => "invalid_request_error",
            Class::NotFound => "not_found_error",
            Class::Key => "authentication_error",
            Class::Forbidden => "permission_error",
            Class::RateLimited => "rate_limit_error",
            Class::Overloaded => "overloaded_error",
            Class::Timeout => "timeout_error",
            Class::Cancelled | Class::Upstream | Class::Internal => "api_error",
        };
        let message = match failure.class {
            // Clients look for these very words, to shorten the conversation.
            Class::TooLong { tokens: Some((limit, got)) } => {
                format!("prompt is too long: {got} tokens > {limit} maximum")
            }
            Class::TooLong { tokens: None } if failure.status == StatusCode::BAD_REQUEST => {
                format!("prompt is too long: {}", failure.message)
            }
            _ => failure.message.clone(),
        };
        let error = ErrorDetail { kind, message, code: failure.code.clone(), param: failure.param.clone() };
        ErrorBody { kind: "error", error }
    }
}

/// The answer that shows it.
pub(crate) fn response(failure: &Failure) -> Response {
    let status = match failure.class {
        Class::Overloaded => StatusCode::from_u16(529).unwrap_or(failure.status),
        _ => failure.status,
    };
    failure.headed((status, Json(ErrorBody::from(failure))).into_response())
}

#[cfg(test)]
mod tests {
    use weir_protocol::{EngineError, TimeoutPhase};

    use super::*;

    #[track_caller]
    fn check(error: EngineError, expect: &str) {
        let failure = Failure::from(&error);
        let body = serde_json::to_string(&ErrorBody::from(&failure)).expect("plain data");
        assert_eq!(format!("{} {body}", response(&failure).status().as_u16()), expect);
    }

    #[test]
    fn each_kind_has_its_status_and_words() {
        check(
            EngineError::invalid("messages[2].role", "x"),
            r#"400 {"type":"error","error":{"type":"invalid_request_error","message":"messages[2].role: x","code":"invalid_value","param":"messages[2].role"}}"#,
        );
        check(
            EngineError::UnknownModel { model: "x".into(), hint: String::new() },
            r#"404 {"type":"error","error":{"type":"not_found_error","message":"unknown model `x`","code":"model_not_found","param":"model"}}"#,
        );
        check(
            EngineError::ContextTooLong { limit: 9, got: 10 },
            r#"400 {"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 10 tokens > 9 maximum","code":"context_length_exceeded","param":"messages"}}"#,
        );
        check(
            EngineError::ContextTooLong { limit: 9, got: 0 },
            r#"400 {"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: this model's maximum context length is 9 tokens","code":"context_length_exceeded","param":"messages"}}"#,
        );
        check(
            EngineError::Overloaded { limit: 3, retry_after: None },
            r#"529 {"type":"error","error":{"type":"overloaded_error","message":"no room for another request beside the 3 already there","code":"overloaded"}}"#,
        );
        for status in [503, 529] {
            let error = EngineError::Upstream { status, message: "type `x`".into(), retry_after: None };
            let detail = r#"{"type":"error","error":{"type":"overloaded_error","message":"upstream error"#;
            check(error, &format!("529 {detail} (HTTP {status}): type `x`\",\"code\":\"upstream_overloaded\"}}}}"));
        }
        check(
            EngineError::RateLimited { retry_after: None },
            r#"429 {"type":"error","error":{"type":"rate_limit_error","message":"the backend is rate limited","code":"rate_limit_exceeded"}}"#,
        );
        check(
            EngineError::Timeout { phase: TimeoutPhase::Idle, waited_ms: 7 },
            r#"504 {"type":"error","error":{"type":"timeout_error","message":"timed out after 7 ms waiting for idle","code":"timeout_idle"}}"#,
        );
        // Not 401: a client would drop a key that is right.
        check(
            EngineError::Unauthorized { status: 401 },
            r#"502 {"type":"error","error":{"type":"api_error","message":"the backend refused its credentials (HTTP 401)","code":"upstream_unauthorized"}}"#,
        );
        check(
            EngineError::internal("tensor 7 is odd"),
            r#"500 {"type":"error","error":{"type":"api_error","message":"internal error","code":"internal"}}"#,
        );
    }

    #[test]
    fn a_body_that_is_too_large_has_a_word_of_its_own() {
        let failure = Failure::of_layer(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "x");
        assert_eq!(ErrorBody::from(&failure).error.kind, "request_too_large");
        assert_eq!(response(&failure).status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
