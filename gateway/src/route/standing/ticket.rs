//! One attempt at a backend, as a guard: whoever holds it is counted in flight, and whatever becomes of the attempt, the
//! backend's standing hears of it exactly once. Must never outlive the attempt: it travels inside the event stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use weir_protocol::EngineError;

use super::Standing;
use super::latencies::Class;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ticket {
    standing: Arc<Standing>,
    class: Class,
    started: Instant,
    probe: bool,
    has_answered: bool,
    is_over: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Ticket {
    pub(super) fn new(
        standing: Arc<Standing>,
        class: Class,
        started: Instant,
        probe: bool,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        standing.in_flight.fetch_add(1, Ordering::Relaxed);
        Ticket { standing, class, started, probe, has_answered: false, is_over: false, _place: place }
    }

    /// The first content is there.
    pub(crate) fn answered(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.has_answered, true) {
            let probe = std::mem::take(&mut self.probe);
            self.standing.answered(&self.class, now.saturating_duration_since(self.started), probe, now);
        }
    }

    /// The answer is complete.
    pub(crate) fn finished(&mut self, now: Instant) {
        self.answered(now);
        if !std::mem::replace(&mut self.is_over, true) {
            self.standing.finished(now);
        }
    }

    /// The attempt failed, before its first content or after it.
    pub(crate) fn failed(&mut self, error: &EngineError, now: Instant) {
        self.fail(error, false, now);
    }

    /// The plan's time for the first content ran out; the backend's own had not.
    pub(crate) fn over_budget(&mut self, error: &EngineError, now: Instant) {
        self.fail(error, true, now);
    }

    fn fail(&mut self, error: &EngineError, over_budget: bool, now: Instant) {
        if !std::mem::replace(&mut self.is_over, true) {
            let probe = std::mem::take(&mut self.probe);
            self.standing.failed(error, over_budget, probe, now);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.standing.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.is_over {
            let waited = (!self.has_answered).then(|| self.started.elapsed());
            self.standing.left(&self.class, waited, self.probe);
        }
    }
}
