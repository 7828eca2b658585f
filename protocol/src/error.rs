//! How an attempt fails. A small closed set: each kind says at birth whether another attempt may help, and `route`
//! keeps no second table. Messages must never carry prompt text or secrets.

use std::time::Duration;

/// Which wait ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeoutPhase {
    /// Opening the connection.
    Connect,
    /// Until the response headers.
    Headers,
    /// Until the first content.
    FirstContent,
    /// Between two pieces of the answer.
    Idle,
    /// The whole answer.
    Total,
}

impl TimeoutPhase {
    /// Stable word for metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            TimeoutPhase::Connect => "connect",
            TimeoutPhase::Headers => "headers",
            TimeoutPhase::FirstContent => "first_content",
            TimeoutPhase::Idle => "idle",
            TimeoutPhase::Total => "total",
        }
    }
}

/// What keeps a caller out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// It sent no key, or one that nobody has.
    Key,
    /// Its key does not allow this.
    Forbidden,
    /// One of its limits is reached.
    Limited,
    /// Its limits cannot be checked now.
    Unchecked,
}

impl Denial {
    /// Stable word for metrics and error codes.
    pub fn as_str(self) -> &'static str {
        match self {
            Denial::Key => "invalid_api_key",
            Denial::Forbidden => "forbidden",
            Denial::Limited => "limit_reached",
            Denial::Unchecked => "limits_unchecked",
        }
    }
}

/// Why a backend could not answer, or could not finish.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The request itself is wrong; no backend can help.
    #[error("{field}{}{message}", if field.is_empty() { "" } else { ": " })]
    InvalidRequest {
        /// Path of the field in the caller's body, e.g. `messages[2].role`; empty for the whole.
        field: String,
        /// What is wrong and how to mend it.
        message: String,
    },
    /// This backend cannot do what is asked (an image, `n` > 1); another may.
    #[error("this backend cannot take `{field}`: {message}")]
    Unsupported {
        /// Field or feature.
        field: String,
        /// Why.
        message: String,
    },
    /// The model id is not known here.
    #[error("unknown model `{model}`{hint}")]
    UnknownModel {
        /// What the caller asked for.
        model: String,
        /// ` (did you mean …?)`, or empty.
        hint: String,
    },
    /// Prompt and answer do not fit.
    #[error("the request needs {got} tokens, this backend takes at most {limit}")]
    ContextTooLong {
        /// The backend's window in tokens.
        limit: u64,
        /// Tokens needed.
        got: u64,
    },
    /// The backend refused our credentials.
    #[error("the backend refused its credentials (HTTP {status})")]
    Unauthorized {
        /// Upstream status.
        status: u16,
    },
    /// Too many requests for the backend's taste.
    #[error("the backend is rate limited")]
    RateLimited {
        /// When it asks us to come back.
        retry_after: Option<Duration>,
    },
    /// As many as may are there already: in an engine's queue, or under way where nobody queues.
    #[error("no room for another request beside the {limit} already there{}", expected(.retry_after))]
    Overloaded {
        /// How many may wait or be under way.
        limit: u64,
        /// How long the wait would have been, where there is a measure of it.
        retry_after: Option<Duration>,
    },
    /// A wait ran out.
    #[error("timed out after {waited_ms} ms waiting for {}", .phase.as_str())]
    Timeout {
        /// Which wait.
        phase: TimeoutPhase,
        /// How long it was.
        waited_ms: u64,
    },
    /// The upstream answered with an error status, or could not be reached (status 0).
    #[error("upstream error{}: {message}", if *.status == 0 { String::new() } else { format!(" (HTTP {})", .status) })]
    Upstream {
        /// HTTP status, 0 when there was none.
        status: u16,
        /// Cleaned reason without body text of the user.
        message: String,
        /// When it asks us to come back, where it does.
        retry_after: Option<Duration>,
    },
    /// The answer stopped before its end.
    #[error("the answer was cut before its end: {message}")]
    StreamCut {
        /// What was seen.
        message: String,
    },
    /// The model ended its turn without a word. Not a fault of the backend: another model may have more to say.
    #[error("the answer is empty")]
    EmptyAnswer,
    /// The caller may not do this, or not now: its key, what the key allows, or its limits.
    #[error("{message}")]
    Denied {
        /// What denies it.
        denial: Denial,
        /// For the caller.
        message: String,
        /// When it may come back.
        retry_after: Option<Duration>,
    },
    /// Every attempt failed, and this caller is told so in the way that makes it go elsewhere at once. Says nothing of
    /// the failures: some clients read meaning into every word.
    #[error("no backend could answer this request now")]
    Exhausted {
        /// When to come back, where the caller is to take this for a rate limit; `None`: for a model that is not there.
        retry_after: Option<Duration>,
    },
    /// The caller left.
    #[error("cancelled by the caller")]
    Cancelled,
    /// A fault of ours.
    #[error("internal error: {message}")]
    Internal {
        /// What broke, for the log.
        message: String,
    },
}

fn expected(wait: &Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| format!("; the wait would be about {:.1} s", wait.as_secs_f64()))
}

impl EngineError {
    /// Shorthand for [`EngineError::InvalidRequest`].
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        EngineError::InvalidRequest { field: field.into(), message: message.into() }
    }

    /// Shorthand for [`EngineError::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        EngineError::Internal { message: message.into() }
    }

    /// Whether another backend may succeed where this one failed.
    pub fn may_try_another(&self) -> bool {
        match self {
            EngineError::InvalidRequest { .. }
            | EngineError::UnknownModel { .. }
            | EngineError::Denied { .. }
            | EngineError::Exhausted { .. }
            | EngineError::Cancelled => false,
            EngineError::Unsupported { .. }
            | EngineError::ContextTooLong { .. }
            | EngineError::Unauthorized { .. }
            | EngineError::RateLimited { .. }
            | EngineError::Overloaded { .. }
            | EngineError::Timeout { .. }
            | EngineError::Upstream { .. }
            | EngineError::StreamCut { .. }
            | EngineError::EmptyAnswer
            | EngineError::Internal { .. } => true,
        }
    }

    /// Whether it speaks against the backend itself: enough of these, and it is left alone for a while. A full queue, a
    /// rate limit or a request that does not fit do not.
    pub fn speaks_against_backend(&self) -> bool {
        match self {
            EngineError::Unauthorized { .. }
            | EngineError::Timeout { .. }
            | EngineError::StreamCut { .. }
            | EngineError::Internal { .. } => true,
            EngineError::Upstream { status, .. } => !(400..500).contains(status) || *status == 408,
            EngineError::InvalidRequest { .. }
            | EngineError::Unsupported { .. }
            | EngineError::UnknownModel { .. }
            | EngineError::ContextTooLong { .. }
            | EngineError::RateLimited { .. }
            | EngineError::Overloaded { .. }
            | EngineError::EmptyAnswer
            | EngineError::Denied { .. }
            | EngineError::Exhausted { .. }
            | EngineError::Cancelled => false,
        }
    }

    /// Whether the same backend may answer if it is asked again, and how long it wants to be left alone before. A wait
    /// that ran out is not waited for a second time.
    pub fn may_pass(&self) -> Option<Duration> {
        match self {
            EngineError::StreamCut { .. } => Some(Duration::ZERO),
            EngineError::Upstream { status: 0 | 408 | 500.., retry_after, .. }
            | EngineError::Overloaded { retry_after, .. } => Some(retry_after.unwrap_or_default()),
            EngineError::RateLimited { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// Stable word for metrics labels (a bounded set) and error codes.
    pub fn kind(&self) -> &'static str {
        match self {
            EngineError::InvalidRequest { .. } => "invalid_request",
            EngineError::Unsupported { .. } => "unsupported",
            EngineError::UnknownModel { .. } => "unknown_model",
            EngineError::ContextTooLong { .. } => "context_too_long",
            EngineError::Unauthorized { .. } => "unauthorized",
            EngineError::RateLimited { .. } => "rate_limited",
            EngineError::Overloaded { .. } => "overloaded",
            EngineError::Timeout { .. } => "timeout",
            EngineError::Upstream { .. } => "upstream",
            EngineError::StreamCut { .. } => "stream_cut",
            EngineError::EmptyAnswer => "empty_answer",
            EngineError::Denied { denial, .. } => denial.as_str(),
            EngineError::Exhausted { .. } => "exhausted",
            EngineError::Cancelled => "cancelled",
            EngineError::Internal { .. } => "internal",
        }
    }
}
