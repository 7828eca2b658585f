//! One attempt at a backend, as a guard: whoever holds it is counted in flight, and whatever becomes of the attempt, the
//! backend's standing hears of it exactly once. Must never outlive the attempt: it travels inside the event stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use weir_protocol::{EngineError, Event};

use super::Standing;
use super::latencies::Class;
use crate::route::foresight::Lesson;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ticket {
    standing: Arc<Standing>,
    class: Class,
    started: Instant,
    probe: bool,
    has_answered: bool,
    is_over: bool,
    /// When the first content came.
    answered_at: Option<Instant>,
    /// What the attempt teaches about the backend's times.
    lesson: Option<Lesson>,
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
        Ticket {
            standing,
            class,
            started,
            probe,
            has_answered: false,
            is_over: false,
            answered_at: None,
            lesson: None,
            _place: place,
        }
    }

    /// What becomes of the attempt is to be learnt from.
    pub(crate) fn teaches(&mut self, lesson: Option<Lesson>) {
        self.lesson = lesson;
    }

    /// An event goes to the caller.
    pub(crate) fn saw(&mut self, event: &Event) {
        if let Some(lesson) = &mut self.lesson {
            lesson.saw(event);
        }
    }

    /// The first content is there.
    pub(crate) fn answered(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.has_answered, true) {
            self.answered_at = Some(now);
            let probe = std::mem::take(&mut self.probe);
            self.standing.answered(&self.class, now.saturating_duration_since(self.started), probe, now);
        }
    }

    /// The answer is complete.
    pub(crate) fn finished(&mut self, now: Instant) {
        self.answered(now);
        if !std::mem::replace(&mut self.is_over, true) {
            self.standing.finished(now);
            if let Some(lesson) = self.lesson.take() {
                let since = |at: Instant| at.saturating_duration_since(self.started);
                lesson.finished(since(self.answered_at.unwrap_or(now)), since(now));
            }
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
            if let Some(lesson) = self.lesson.take() {
                lesson.failed(error);
            }
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
