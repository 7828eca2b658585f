//! How an error looks to OpenAI's clients, as a body and as an event.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::answering::failure::{Class, Failure};

/// `{"error": …}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ErrorBody {
    /// What happened.
    pub(crate) error: ErrorDetail,
}

/// The inside of an error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ErrorDetail {
    /// For people. Of an overflow clients look for its very words, to shorten the conversation.
    pub(crate) message: String,
    /// Class of the error.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The field at fault.
    pub(crate) param: Option<String>,
    /// The error, for programs.
    pub(crate) code: String,
}

impl From<Failure> for ErrorBody {
    fn from(failure: Failure) -> Self {
        let kind = match failure.class {
            Class::Invalid | Class::NotFound | Class::TooLong { .. } => "invalid_request_error",
            Class::Key => "authentication_error",
            Class::Forbidden => "permission_error",
            Class::RateLimited => "rate_limit_error",
            Class::Overloaded => "overloaded_error",
            Class::Timeout => "timeout_error",
            Class::Cancelled => "cancelled_error",
            Class::Upstream => "upstream_error",
            Class::Internal => "server_error",
        };
        let Failure { message, param, code, .. } = failure;
        ErrorBody { error: ErrorDetail { message, kind, param, code } }
    }
}

/// The answer that shows it.
pub(crate) fn response(failure: Failure) -> Response {
    let status = failure.status;
    let body = Json(ErrorBody::from(failure.clone()));
    failure.headed((status, body).into_response())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header;
    use weir_protocol::{EngineError, TimeoutPhase};

    use super::*;

    #[track_caller]
    fn check(error: EngineError, expect: &str) {
        let failure = Failure::from(&error);
        let detail = ErrorBody::from(failure.clone()).error;
        let response = response(failure);
        let retry = response.headers().get(header::RETRY_AFTER).map_or("-", |value| value.to_str().expect("ascii"));
        let param = detail.param.as_deref().unwrap_or("-");
        let line = format!("{} {} {} {param} {retry}", response.status().as_u16(), detail.kind, detail.code);
        assert_eq!(line, expect);
    }

    #[test]
    fn each_kind_has_its_status_and_words() {
        let upstream = EngineError::Upstream { status: 500, message: "x".into(), retry_after: None };
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
        let busy = EngineError::Upstream { status: 503, message: "x".into(), retry_after: late };
        check(busy, "503 overloaded_error upstream_overloaded - 7");
        check(EngineError::StreamCut { message: "x".into() }, "502 upstream_error stream_cut - -");
        check(EngineError::Exhausted { retry_after: late }, "429 rate_limit_error exhausted - 7");
        check(EngineError::Exhausted { retry_after: None }, "404 invalid_request_error model_not_found model -");
        check(EngineError::Cancelled, "499 cancelled_error cancelled - -");
        check(EngineError::internal("x"), "500 server_error internal - -");
    }

    #[test]
    fn inner_faults_stay_inside() {
        assert_eq!(Failure::from(&EngineError::internal("tensor 7 is odd")).message, "internal error");
    }

    #[test]
    fn a_field_has_the_name_that_the_callers_dialect_has_for_it() {
        let names: &[(&str, &str)] = &[("messages", "input"), (".function.parameters", ".parameters")];
        let check = |field: &str, expect: &str| {
            let error = EngineError::Unsupported { field: field.into(), message: "x".into() };
            let failure = Failure::from(&error).named(names);
            assert_eq!(failure.param.as_deref(), Some(expect));
            assert_eq!(failure.message, format!("this backend cannot take `{expect}`: x"));
        };
        check("messages", "input");
        check("tools[2].function.parameters", "tools[2].parameters");
        check("n", "n");
        check("old_messages", "old_messages");
        let long = EngineError::ContextTooLong { limit: 9, got: 10 };
        assert_eq!(Failure::from(&long).named(names).param.as_deref(), Some("input"));
    }

    #[test]
    fn clients_recognise_an_overflow_by_its_words() {
        assert_eq!(
            Failure::from(&EngineError::ContextTooLong { limit: 4096, got: 5000 }).message,
            "this model's maximum context length is 4096 tokens, this request needs 5000"
        );
    }
}
