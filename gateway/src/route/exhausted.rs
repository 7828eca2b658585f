//! What a caller is told when no attempt could answer. Some clients retry for minutes what looks as if it may pass, and
//! lock a whole provider for one 401: they get an error that makes them go elsewhere at once. Must never hide from a
//! caller what only the caller can mend.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::time::Instant;
use weir_protocol::EngineError;

use super::Refusal;
use crate::caller::ClientKind;
use crate::config::attempts::{ExhaustedWritten, Telling};

/// The refusal as this kind of client should see it.
pub(super) fn told(refusal: Refusal, client: ClientKind, settings: &ExhaustedWritten) -> Refusal {
    let telling = match client {
        ClientKind::OpenClaw => settings.openclaw,
        ClientKind::Other => settings.others,
    };
    let retry_after = match telling {
        Telling::Plain => return refusal,
        Telling::RetryLater => Some(Duration::from_secs(settings.retry_after_s)),
        Telling::NotFound => None,
    };
    // Too long for every backend: only a shorter conversation helps, and clients shorten it when they hear of it.
    let theirs = matches!(refusal.error, EngineError::ContextTooLong { .. } | EngineError::Unsupported { .. });
    if theirs || !refusal.error.may_try_another() {
        return refusal;
    }
    Refusal { error: EngineError::Exhausted { retry_after }, ..refusal }
}

/// What became of an attempt, or why none was made.
pub(super) struct Failure {
    pub(super) backend: String,
    pub(super) error: EngineError,
    pub(super) at: Instant,
}

/// What a wait counts as that nobody knows: no backend is left alone for longer because it asks for it.
const WAIT_UNKNOWN: Duration = Duration::from_secs(60);

/// Which of several failures helps the caller most: one that no other attempt could mend; else of those that may pass by
/// themselves, since trying again is worth it, the one that passes first; else the last the caller can mend; else the last.
/// Of one backend its last counts. Waits are told as what is left of them.
pub(super) fn most_useful(failures: Vec<Failure>, now: Instant) -> EngineError {
    let worth = |error: &EngineError| match error {
        EngineError::InvalidRequest { .. }
        | EngineError::UnknownModel { .. }
        | EngineError::Denied { .. }
        | EngineError::Exhausted { .. }
        | EngineError::Cancelled => 3,
        EngineError::ContextTooLong { .. }
        | EngineError::Unsupported { .. }
        | EngineError::Upstream { status: 400 | 403 | 422, .. } => 1,
        EngineError::RateLimited { .. }
        | EngineError::Overloaded { .. }
        | EngineError::Timeout { .. }
        | EngineError::Upstream { .. }
        | EngineError::StreamCut { .. } => 2,
        EngineError::Unauthorized { .. } | EngineError::EmptyAnswer | EngineError::Internal { .. } => 0,
    };
    let wait = |error: &EngineError| match error {
        EngineError::RateLimited { retry_after: Some(wait) }
        | EngineError::Upstream { retry_after: Some(wait), .. }
        | EngineError::Overloaded { retry_after: Some(wait), .. } => *wait,
        // A place may be free at any time.
        EngineError::Overloaded { retry_after: None, .. } => Duration::ZERO,
        _ => WAIT_UNKNOWN,
    };
    let mut last: Vec<Failure> = Vec::new();
    for failure in failures {
        last.retain(|known| known.backend != failure.backend);
        last.push(failure);
    }
    let errors = last.into_iter().map(|failure| left(failure.error, now.saturating_duration_since(failure.at)));
    // Of equals, `max_by_key` gives the last.
    let best = errors.max_by_key(|error| (worth(error), Reverse(wait(error))));
    best.unwrap_or_else(|| EngineError::internal("the plan has no attempts"))
}

/// The error with what is left of its wait after so long.
fn left(mut error: EngineError, since: Duration) -> EngineError {
    if let EngineError::RateLimited { retry_after: Some(wait) }
    | EngineError::Upstream { retry_after: Some(wait), .. }
    | EngineError::Overloaded { retry_after: Some(wait), .. } = &mut error
    {
        *wait = wait.saturating_sub(since);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(client: ClientKind, telling: Telling, error: EngineError, expect: EngineError) {
        let settings = ExhaustedWritten { openclaw: telling, ..ExhaustedWritten::default() };
        assert_eq!(told(Refusal { report: None, error }, client, &settings).error, expect);
    }

    #[test]
    fn openclaw_is_sent_elsewhere_and_others_are_told_the_truth() {
        let key = || EngineError::Unauthorized { status: 401 };
        let later = EngineError::Exhausted { retry_after: Some(Duration::from_secs(120)) };
        check(ClientKind::OpenClaw, Telling::RetryLater, key(), later);
        check(ClientKind::OpenClaw, Telling::NotFound, key(), EngineError::Exhausted { retry_after: None });
        check(ClientKind::OpenClaw, Telling::Plain, key(), key());
        check(ClientKind::Other, Telling::RetryLater, key(), key());
    }

    /// What is told 20 s after the first of these, each of a backend and some seconds after the first.
    fn useful(failures: Vec<(&str, u64, EngineError)>) -> EngineError {
        let first = Instant::now();
        let at = |seconds| first + Duration::from_secs(seconds);
        let failure = |(backend, after, error): (&str, u64, EngineError)| Failure {
            backend: backend.to_owned(),
            error,
            at: at(after),
        };
        most_useful(failures.into_iter().map(failure).collect(), at(20))
    }

    fn said(status: u16, wait: Option<u64>) -> EngineError {
        EngineError::Upstream { status, message: String::new(), retry_after: wait.map(Duration::from_secs) }
    }

    fn limited(wait: u64) -> EngineError {
        EngineError::RateLimited { retry_after: Some(Duration::from_secs(wait)) }
    }

    #[test]
    fn what_may_pass_is_worth_more_than_a_refusal() {
        let key = EngineError::Unauthorized { status: 401 };
        assert_eq!(useful(vec![("a", 0, said(503, None)), ("b", 0, said(400, None))]), said(503, None));
        assert_eq!(useful(vec![("a", 0, key), ("b", 0, said(422, None))]), said(422, None));
    }

    #[test]
    fn the_soonest_end_of_a_wait_is_told() {
        assert_eq!(useful(vec![("a", 20, limited(5)), ("b", 20, limited(30))]), limited(5));
        assert_eq!(useful(vec![("a", 20, said(503, Some(30))), ("b", 20, limited(5))]), limited(5));
        // What is left of it.
        assert_eq!(useful(vec![("a", 0, limited(24)), ("b", 20, limited(5))]), limited(4));
        assert_eq!(useful(vec![("a", 0, limited(5)), ("b", 20, said(500, None))]), limited(0));
        // A backend's own last word.
        assert_eq!(useful(vec![("a", 18, limited(1)), ("a", 20, limited(30))]), limited(30));
        // A long wait says less than a failure that may be over at any time.
        assert_eq!(useful(vec![("a", 20, said(500, None)), ("b", 20, limited(3600))]), said(500, None));
        let full = EngineError::Overloaded { limit: 1, retry_after: None };
        assert_eq!(useful(vec![("a", 20, full.clone()), ("b", 20, limited(5))]), full);
    }

    #[test]
    fn what_the_caller_can_mend_is_said() {
        for error in [
            EngineError::invalid("messages", "empty"),
            EngineError::ContextTooLong { limit: 1, got: 2 },
            EngineError::UnknownModel { model: "x".into(), hint: String::new() },
        ] {
            check(ClientKind::OpenClaw, Telling::NotFound, error.clone(), error);
        }
    }
}
