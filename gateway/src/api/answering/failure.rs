//! What went wrong as callers may see it, before a dialect puts it into its words: the one place that knows which
//! status an error has. Must never show an upstream's own 401 (a client would block its key for us) nor our inner
//! faults.

use std::time::Duration;

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use weir_protocol::{Denial, EngineError};

use crate::record::Outcome;

/// What a caller waits before it tries a full queue again, where there is no measure of the wait.
const RETRY_OVERLOADED: Duration = Duration::from_secs(1);

/// An error to show.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    /// The answer's status; after the first byte only the rest is left.
    pub(crate) status: StatusCode,
    /// What sort of error it is: dialects have a word for each.
    pub(crate) class: Class,
    /// The error, for programs.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
    /// The field at fault.
    pub(crate) param: Option<String>,
    /// When to come back.
    pub(crate) retry_after: Option<Duration>,
    /// What it counts as: the kind of error behind it.
    pub(crate) kind: &'static str,
}

/// The sorts of errors dialects tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The request is wrong, or nobody here can do what it asks.
    Invalid,
    /// No such model or path.
    NotFound,
    /// The body or the conversation is too long.
    TooLong {
        /// The window in tokens and what was needed of it, where both are known.
        tokens: Option<(u64, u64)>,
    },
    /// The caller sent no key that somebody has.
    Key,
    /// Its key does not allow this.
    Forbidden,
    /// The backend has enough of us, or the caller's limit is reached.
    RateLimited,
    /// Too much work here, or at the backend.
    Overloaded,
    /// A wait ran out.
    Timeout,
    /// The caller left.
    Cancelled,
    /// The backend failed.
    Upstream,
    /// We failed.
    Internal,
}

impl Failure {
    fn new(status: StatusCode, class: Class, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Failure { status, class, code, message, param: None, retry_after: None, kind: "internal" }
    }

    /// An error of the layers around the handlers (no such path, body too large, too many requests).
    pub(crate) fn of_layer(status: StatusCode, code: &'static str, message: &str) -> Self {
        let class = match status {
            StatusCode::SERVICE_UNAVAILABLE => Class::Overloaded,
            StatusCode::NOT_FOUND => Class::NotFound,
            StatusCode::PAYLOAD_TOO_LARGE => Class::TooLong { tokens: None },
            status if status.is_client_error() => Class::Invalid,
            _ => Class::Internal,
        };
        Failure { kind: code, ..Failure::new(status, class, code, message) }
    }

    /// With the field as the caller's dialect calls it. Backends name fields as chat completions do; `names` has those that
    /// are called otherwise, and what ends otherwise (`.…`).
    pub(crate) fn named(mut self, names: &[(&str, &str)]) -> Self {
        let renamed = self.param.as_deref().and_then(|param| {
            names.iter().find_map(|(ours, theirs)| {
                let before = param.strip_suffix(ours)?;
                (before.is_empty() || ours.starts_with('.'))
                    .then(|| (format!("`{param}`"), format!("{before}{theirs}")))
            })
        });
        if let Some((quoted, theirs)) = renamed {
            self.message = self.message.replace(&quoted, &format!("`{theirs}`"));
            self.param = Some(theirs);
        }
        self
    }

    fn param(mut self, field: &str) -> Self {
        self.param = Some(field.to_owned()).filter(|field| !field.is_empty());
        self
    }

    fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Adds the headers that go with it to a response that shows it, and what it counts as.
    pub(crate) fn headed(&self, mut response: Response) -> Response {
        response.extensions_mut().insert(Outcome(self.kind));
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: earlier than asked is worse than later.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

impl From<&EngineError> for Failure {
    fn from(error: &EngineError) -> Self {
        let failure = |status, class, code: &str| Failure::new(status, class, code, error.to_string());
        let shown = match error {
            // The field is in the message, too: most clients print that alone.
            EngineError::InvalidRequest { field, .. } => {
                failure(StatusCode::BAD_REQUEST, Class::Invalid, "invalid_value").param(field)
            }
            EngineError::Unsupported { field, .. } => {
                failure(StatusCode::BAD_REQUEST, Class::Invalid, "unsupported_parameter").param(field)
            }
            EngineError::UnknownModel { .. } => {
                failure(StatusCode::NOT_FOUND, Class::NotFound, "model_not_found").param("model")
            }
            EngineError::ContextTooLong { limit, got } => {
                let mut text = format!("this model's maximum context length is {limit} tokens");
                if *got > 0 {
                    text.push_str(&format!(", this request needs {got}"));
                }
                let class = Class::TooLong { tokens: (*got > 0).then_some((*limit, *got)) };
                Failure::new(StatusCode::BAD_REQUEST, class, "context_length_exceeded", text).param("messages")
            }
            // Ours to mend, not the caller's: 401 here would make clients drop a key that is right.
            EngineError::Unauthorized { .. } => {
                failure(StatusCode::BAD_GATEWAY, Class::Upstream, "upstream_unauthorized")
            }
            EngineError::RateLimited { retry_after } => {
                failure(StatusCode::TOO_MANY_REQUESTS, Class::RateLimited, "rate_limit_exceeded")
                    .retry_after(*retry_after)
            }
            EngineError::Overloaded { retry_after, .. } => {
                failure(StatusCode::SERVICE_UNAVAILABLE, Class::Overloaded, "overloaded")
                    .retry_after(Some(retry_after.unwrap_or(RETRY_OVERLOADED)))
            }
            EngineError::Timeout { phase, .. } => {
                failure(StatusCode::GATEWAY_TIMEOUT, Class::Timeout, &format!("timeout_{}", phase.as_str()))
            }
            // It said that it has no room now. Some clients tell that from a fault, and wait.
            EngineError::Upstream { status: 503 | 529, retry_after, .. } => {
                failure(StatusCode::SERVICE_UNAVAILABLE, Class::Overloaded, "upstream_overloaded")
                    .retry_after(*retry_after)
            }
            // It understood the request and would not take it: asking again, as clients do after a 502, changes nothing. A 403
            // about our key is none of these.
            EngineError::Upstream { status: 400 | 403 | 422, .. } => {
                failure(StatusCode::BAD_REQUEST, Class::Invalid, "upstream_refused")
            }
            EngineError::Upstream { retry_after, .. } => {
                failure(StatusCode::BAD_GATEWAY, Class::Upstream, "upstream_error").retry_after(*retry_after)
            }
            EngineError::StreamCut { .. } => failure(StatusCode::BAD_GATEWAY, Class::Upstream, "stream_cut"),
            EngineError::EmptyAnswer => failure(StatusCode::BAD_GATEWAY, Class::Upstream, "empty_answer"),
            EngineError::Denied { denial, retry_after, .. } => {
                let (status, class) = match denial {
                    Denial::Key => (StatusCode::UNAUTHORIZED, Class::Key),
                    Denial::Forbidden => (StatusCode::FORBIDDEN, Class::Forbidden),
                    Denial::Limited => (StatusCode::TOO_MANY_REQUESTS, Class::RateLimited),
                    Denial::Unchecked => (StatusCode::SERVICE_UNAVAILABLE, Class::Overloaded),
                };
                failure(status, class, denial.as_str()).retry_after(*retry_after)
            }
            EngineError::Exhausted { retry_after: Some(wait) } => {
                failure(StatusCode::TOO_MANY_REQUESTS, Class::RateLimited, "exhausted").retry_after(Some(*wait))
            }
            EngineError::Exhausted { retry_after: None } => {
                failure(StatusCode::NOT_FOUND, Class::NotFound, "model_not_found").param("model")
            }
            EngineError::Cancelled => {
                let closed = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
                failure(closed, Class::Cancelled, "cancelled")
            }
            EngineError::Internal { message } => {
                tracing::error!(%message, "internal error");
                Failure::new(StatusCode::INTERNAL_SERVER_ERROR, Class::Internal, "internal", "internal error")
            }
        };
        Failure { kind: error.kind(), ..shown }
    }
}
