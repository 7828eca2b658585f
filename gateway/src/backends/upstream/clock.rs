//! How long an upstream may take for each part of an answer. Must never let an answer outlive the total.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use weir_protocol::{EngineError, TimeoutPhase};

use crate::config::BackendSettings;

/// After the finish reason only counts and the terminator are missing: an upstream that keeps the connection open
/// instead, and says nothing, must not keep the caller waiting.
const TAIL: Duration = Duration::from_secs(3);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Headers,
    FirstContent,
    /// The next piece, since the last one was taken.
    Idle(Instant),
    /// The end, since the finish reason came, and since the last piece.
    Tail {
        reason: Instant,
        piece: Instant,
    },
}

/// The limits of one answer.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    headers: Duration,
    first_content: Duration,
    idle: Duration,
    total: Duration,
}

impl Clock {
    pub(super) fn start(settings: &BackendSettings) -> Self {
        Clock {
            started: Instant::now(),
            headers: settings.wire.headers_timeout,
            first_content: settings.first_content_timeout,
            idle: settings.idle_timeout,
            total: settings.total_timeout,
        }
    }

    /// Waits for `work`, but no longer than its limit and the total allow.
    pub(super) async fn bound<T>(&self, wait: Wait, work: impl Future<Output = T>) -> Result<T, EngineError> {
        let (since, limit, phase) = match wait {
            // The headers come before the content, so they may never take longer.
            Wait::Headers => (self.started, self.headers.min(self.first_content), TimeoutPhase::Headers),
            Wait::FirstContent => (self.started, self.first_content, TimeoutPhase::FirstContent),
            Wait::Idle(since) => (since, self.idle, TimeoutPhase::Idle),
            Wait::Tail { reason, piece } => {
                let most = (reason + self.idle).saturating_duration_since(piece);
                (piece, most.min(TAIL), TimeoutPhase::Idle)
            }
        };
        let (own, total) = (since + limit, self.started + self.total);
        let (deadline, phase, limit) =
            if total < own { (total, TimeoutPhase::Total, self.total) } else { (own, phase, limit) };
        // What is at hand already would be taken at any time: from an upstream without an end, whose caller reads slowly.
        if total <= Instant::now() {
            return Err(ran_out(TimeoutPhase::Total, self.total));
        }
        timeout_at(deadline, work).await.map_err(|_| ran_out(phase, limit))
    }
}

/// The error for a wait that ran out.
pub(super) fn ran_out(phase: TimeoutPhase, limit: Duration) -> EngineError {
    EngineError::Timeout { phase, waited_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_at_hand_does_not_outlive_the_total() {
        let [short, long] = [1, 10].map(Duration::from_secs);
        let clock = Clock { started: Instant::now(), headers: short, first_content: short, idle: short, total: long };
        assert_eq!(clock.bound(Wait::Idle(Instant::now()), async { "piece" }).await, Ok("piece"));
        tokio::time::advance(long).await;
        let late = clock.bound(Wait::Idle(Instant::now()), async { "piece" }).await;
        assert_eq!(late, Err(ran_out(TimeoutPhase::Total, long)));
    }
    #[tokio::test(start_paused = true)]
    async fn an_end_that_still_comes_is_waited_for_but_not_for_ever() {
        let [idle, total] = [10, 60].map(Duration::from_secs);
        let clock = Clock { started: Instant::now(), headers: idle, first_content: idle, idle, total };
        let reason = Instant::now();
        for piece in [0, 2, 4, 6, 8].map(|after| reason + Duration::from_secs(after)) {
            let waits = clock.bound(Wait::Tail { reason, piece }, std::future::pending::<()>());
            let begun = tokio::time::timeout_at(piece, waits).await;
            assert!(begun.is_err(), "it is waited for until the next piece");
        }
        let piece = Instant::now();
        assert!(clock.bound(Wait::Tail { reason, piece }, std::future::pending::<()>()).await.is_err());
        assert_eq!(reason.elapsed(), idle);
        let (reason, begin) = (Instant::now(), Instant::now());
        assert!(clock.bound(Wait::Tail { reason, piece: reason }, std::future::pending::<()>()).await.is_err());
        assert_eq!(begin.elapsed(), TAIL);
    }
}
