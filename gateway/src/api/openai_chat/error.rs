//! How an error looks in this dialect, before the first byte and after it: the one place that knows status codes and
//! error words. Must never show an upstream's own 401 (a client would block its key for us) nor our inner faults.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use weir_protocol::EngineError;

/// What a caller waits before it tries a full queue again, where there is no measure of the wait.
const RETRY_OVERLOADED: Duration = Duration::from_secs(1);

/// An error as the caller sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorReply {
    /// The answer's status; after the first byte only the body is left.
    pub status: StatusCode,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// The JSON.
    pub body: ErrorBody,
}

/// `{"error": …}`, as a body and as an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorBody {
    /// What happened.
    pub error: ErrorDetail,
}

/// The inside of an error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorDetail {
    /// For people.
    pub message: String,
    /// Class of the error.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The field at fault.
    pub param: Option<String>,
    /// The error, for programs.
    pub code: String,
}

impl ErrorReply {
    fn new(status: StatusCode, kind: &'static str, code: impl Into<String>, message: impl Into<String>) -> Self {
        let error = ErrorDetail { message: message.into(), kind, param: None, code: code.into() };
        ErrorReply { status, retry_after: None, body: ErrorBody { error } }
    }

    fn param(mut self, field: &str) -> Self {
        self.body.error.param = Some(field.to_owned()).filter(|field| !field.is_empty());
        self
    }

    fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

impl From<&EngineError> for ErrorReply {
    fn from(error: &EngineError) -> Self {
        let message = error.to_string();
        let reply = |status, kind, code: &str| ErrorReply::new(status, kind, code, message.clone());
        match error {
            EngineError::InvalidRequest { field, .. } => {
                reply(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_value").param(field)
            }
            EngineError::Unsupported { field, .. } => {
                reply(StatusCode::BAD_REQUEST, "invalid_request_error", "unsupported_parameter").param(field)
            }
            EngineError::UnknownModel { .. } => {
                reply(StatusCode::NOT_FOUND, "invalid_request_error", "model_not_found").param("model")
            }
            EngineError::ContextTooLong { limit, got } => {
                // Clients look for these very words to shorten the conversation.
                let mut text = format!("the maximum context length is {limit} tokens");
                if *got > 0 {
                    text.push_str(&format!(", this request needs {got}"));
                }
                let code = "context_length_exceeded";
                ErrorReply::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, text).param("messages")
            }
            // Ours to mend, not the caller's: 401 here would make clients drop a key that is right.
            EngineError::Unauthorized { .. } => {
                reply(StatusCode::BAD_GATEWAY, "upstream_error", "upstream_unauthorized")
            }
            EngineError::RateLimited { retry_after } => {
                reply(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded")
                    .retry_after(*retry_after)
            }
            EngineError::Overloaded { retry_after, .. } => {
                reply(StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", "overloaded")
                    .retry_after(Some(retry_after.unwrap_or(RETRY_OVERLOADED)))
            }
            EngineError::Timeout { phase, .. } => {
                reply(StatusCode::GATEWAY_TIMEOUT, "timeout_error", &format!("timeout_{}", phase.as_str()))
            }
            EngineError::Upstream { .. } => reply(StatusCode::BAD_GATEWAY, "upstream_error", "upstream_error"),
            EngineError::StreamCut { .. } => reply(StatusCode::BAD_GATEWAY, "upstream_error", "stream_cut"),
            EngineError::Exhausted { retry_after: Some(wait) } => {
                reply(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "exhausted").retry_after(Some(*wait))
            }
            EngineError::Exhausted { retry_after: None } => {
                reply(StatusCode::NOT_FOUND, "invalid_request_error", "model_not_found").param("model")
            }
            EngineError::Cancelled => {
                let closed = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
                reply(closed, "cancelled_error", "cancelled")
            }
            EngineError::Internal { message } => {
                tracing::error!(%message, "internal error");
                ErrorReply::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal", "internal error")
            }
        }
    }
}

impl IntoResponse for ErrorReply {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: earlier than asked is worse than later.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// An error of the layers around the handlers (no such path, body too large, too many requests), in the same shape.
pub fn refusal(status: StatusCode, code: &'static str, message: &str) -> Response {
    let kind = match status {
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "server_error",
    };
    ErrorReply::new(status, kind, code, message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::TimeoutPhase;

    #[track_caller]
    fn check(error: EngineError, expect: &str) {
        let reply = ErrorReply::from(&error);
        let detail = reply.body.error.clone();
        let response = reply.into_response();
        let retry = response.headers().get(header::RETRY_AFTER).map_or("-", |value| value.to_str().expect("ascii"));
        let param = detail.param.as_deref().unwrap_or("-");
        let line = format!("{} {} {} {param} {retry}", response.status().as_u16(), detail.kind, detail.code);
        assert_eq!(line, expect);
    }

    #[test]
    fn each_kind_has_its_status_and_words() {
        let upstream = EngineError::Upstream { status: 500, message: "x".into() };
        let timeout = EngineError::Timeout { phase: TimeoutPhase::Idle, waited_ms: 7 };
        let late = Some(Duration::from_millis(6_100));
        check(
            EngineError::invalid("messages[2].role", "x"),
            "400 invalid_request_error invalid_value messages[2].role -",
        );
        check(
            EngineError::Unsupported { field: "n".into(), message: "x".into() },
            "400 invalid_request_error unsupported_parameter n -",
        );
        check(
            EngineError::UnknownModel { model: "x".into(), hint: String::new() },
            "404 invalid_request_error model_not_found model -",
        );
        check(
            EngineError::ContextTooLong { limit: 9, got: 10 },
            "400 invalid_request_error context_length_exceeded messages -",
        );
        check(EngineError::Unauthorized { status: 401 }, "502 upstream_error upstream_unauthorized - -");
        check(EngineError::RateLimited { retry_after: late }, "429 rate_limit_error rate_limit_exceeded - 7");
        check(EngineError::RateLimited { retry_after: None }, "429 rate_limit_error rate_limit_exceeded - -");
        check(EngineError::Overloaded { limit: 3, retry_after: None }, "503 overloaded_error overloaded - 1");
        check(EngineError::Overloaded { limit: 3, retry_after: late }, "503 overloaded_error overloaded - 7");
        check(timeout, "504 timeout_error timeout_idle - -");
        check(upstream, "502 upstream_error upstream_error - -");
        check(EngineError::StreamCut { message: "x".into() }, "502 upstream_error stream_cut - -");
        check(EngineError::Exhausted { retry_after: late }, "429 rate_limit_error exhausted - 7");
        check(EngineError::Exhausted { retry_after: None }, "404 invalid_request_error model_not_found model -");
        check(EngineError::Cancelled, "499 cancelled_error cancelled - -");
        check(EngineError::internal("x"), "500 server_error internal - -");
    }

    #[test]
    fn inner_faults_stay_inside() {
        let reply = ErrorReply::from(&EngineError::internal("tensor 7 is odd"));
        assert_eq!(reply.body.error.message, "internal error");
    }

    #[test]
    fn clients_recognise_an_overflow_by_its_words() {
        let reply = ErrorReply::from(&EngineError::ContextTooLong { limit: 4096, got: 5000 });
        assert_eq!(reply.body.error.message, "the maximum context length is 4096 tokens, this request needs 5000");
    }
}
