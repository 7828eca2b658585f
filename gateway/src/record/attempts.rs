//! What was tried for a request, attempt by attempt. A note is written by the guard that lives as long as its attempt, so
//! that a cancelled one has an end, too.

use std::sync::OnceLock;

use tokio::time::Instant;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttemptEnd {
    /// When.
    pub(crate) at: Instant,
    /// `finished`, `lost` (another answered first), `cancelled`, or the kind of error.
    pub(crate) outcome: &'static str,
    /// The upstream's status, where it gave one with its error.
    pub(crate) status: Option<u16>,
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
            end: OnceLock::new(),
        }
    }

    /// The first word on its end holds.
    pub(crate) fn end(&self, outcome: &'static str, status: Option<u16>) {
        let _ = self.end.set(AttemptEnd { at: Instant::now(), outcome, status });
    }

    /// How it ended; an attempt nobody said anything about was cancelled now.
    pub(crate) fn ended(&self) -> AttemptEnd {
        self.end.get().copied().unwrap_or_else(|| AttemptEnd { at: Instant::now(), outcome: "cancelled", status: None })
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
