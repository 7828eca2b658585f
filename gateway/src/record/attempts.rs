//! What was tried for a request, attempt by attempt. A note is written by the guard that lives as long as its attempt, so
//! that a cancelled one has an end, too.

use std::sync::OnceLock;

use tokio::time::Instant;
use weir_protocol::{EngineError, Usage};

use super::closed::CANCELLED;

/// Why an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The plan's first.
    First,
    /// Another backend, after a failure.
    Fallback,
    /// The same backend once more.
    Retry,
    /// Beside a slow one.
    Hedge,
    /// Goes on where another was cut.
    Continuation,
}

impl Purpose {
    /// The word in logs and spans.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Purpose::First => "first",
            Purpose::Fallback => "fallback",
            Purpose::Retry => "retry",
            Purpose::Hedge => "hedge",
            Purpose::Continuation => "continuation",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptEnd {
    /// When.
    pub(crate) at: Instant,
    /// `finished`, `lost` (another answered first), `cancelled`, or the kind of error.
    pub(crate) outcome: &'static str,
    /// The upstream's status, where it gave one with its error.
    pub(crate) status: Option<u16>,
    /// What is known beside the kind of error.
    pub(crate) why: Option<String>,
}

impl AttemptEnd {
    fn now(outcome: &'static str) -> Self {
        AttemptEnd { at: Instant::now(), outcome, status: None, why: None }
    }
}

/// What an error tells beside its kind: in our own words, or in an upstream's codes; never in a caller's.
pub(crate) fn why(error: &EngineError) -> Option<String> {
    match error {
        EngineError::Timeout { phase, waited_ms } => Some(format!("{} after {waited_ms} ms", phase.as_str())),
        EngineError::Upstream { message, .. } | EngineError::StreamCut { message } => Some(message.clone()),
        EngineError::ContextTooLong { limit, got } if *got > 0 => Some(format!("{got} tokens, {limit} fit")),
        EngineError::RateLimited { retry_after: Some(wait) } => Some(format!("it asks to wait {} s", wait.as_secs())),
        EngineError::Denied { message, .. } => Some(message.clone()),
        _ => None,
    }
    .filter(|why| !why.is_empty())
}

/// The status an upstream gave with its error.
fn status(error: &EngineError) -> Option<u16> {
    match error {
        EngineError::Upstream { status, .. } | EngineError::Unauthorized { status } => {
            Some(*status).filter(|status| *status > 0)
        }
        _ => None,
    }
}

/// One attempt.
#[derive(Debug)]
pub(crate) struct AttemptNote {
    /// The backend's name.
    pub(crate) backend: String,
    /// Why it was made.
    pub(crate) purpose: Purpose,
    /// When it began.
    pub(crate) started: Instant,
    /// When its first content came.
    pub(crate) first_content: OnceLock<Instant>,
    /// Its span, where the request is recorded.
    pub(crate) span_id: Option<u64>,
    /// What it took, where that is known though what it brought is not the answer.
    pub(crate) usage: OnceLock<Usage>,
    end: OnceLock<AttemptEnd>,
}

impl AttemptNote {
    pub(crate) fn new(backend: &str, purpose: Purpose, span_id: Option<u64>) -> Self {
        let backend = backend.to_owned();
        AttemptNote {
            backend,
            purpose,
            started: Instant::now(),
            first_content: OnceLock::new(),
            span_id,
            usage: OnceLock::new(),
            end: OnceLock::new(),
        }
    }

    /// It is over without an error. The first word on its end holds.
    pub(crate) fn end(&self, outcome: &'static str) {
        let _ = self.end.set(AttemptEnd::now(outcome));
    }

    /// It is over with this error. The first word on its end holds.
    pub(crate) fn failed(&self, error: &EngineError) {
        let end = AttemptEnd::now(error.kind());
        let _ = self.end.set(AttemptEnd { status: status(error), why: why(error), ..end });
    }

    /// How it ended; an attempt nobody said anything about was cancelled now.
    pub(crate) fn ended(&self) -> AttemptEnd {
        self.end.get().cloned().unwrap_or_else(|| AttemptEnd::now(CANCELLED))
    }
}

/// A backend of the plan that was not asked.
#[derive(Debug, Clone)]
pub(crate) struct Skipped {
    /// Its name.
    pub(crate) backend: String,
    /// Why.
    pub(crate) cause: &'static str,
}
