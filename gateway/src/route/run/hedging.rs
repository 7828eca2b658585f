//! A second attempt beside one that is slow: when, at whom, and what becomes of those that lost. Must never be free: each
//! is paid from the asked backend's budget.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Next, Search};
use crate::route::open::{Racer, Step};
use crate::route::standing::Purpose;

/// Until a hedge is looked for again: a place may be free by then.
const HEDGE_AGAIN: Duration = Duration::from_millis(50);

impl Next {
    /// Whether it could be a hedge beside `leader`.
    fn may_hedge(&self, leader: Option<&str>) -> bool {
        self.not_before.is_none() && Some(self.step.backend.as_str()) != leader
    }
}

impl Search<'_> {
    /// When to start a second one beside `step`.
    pub(super) fn hedge_at(&self, step: &Step) -> Option<Instant> {
        let hedge = self.given.settings.hedge.as_ref().filter(|_| !self.queue.is_empty())?;
        let after = step.standing.p95(&self.given.class).or(hedge.unknown)?;
        Some(Instant::now() + after.max(hedge.earliest))
    }

    /// Starts the next of the plan that may be asked now and can pay for it.
    pub(super) fn hedge(&mut self, leader: Option<&str>) -> Option<Racer> {
        let mut at = 0;
        while let Some(next) = self.queue.get(at) {
            let backend = &next.step.backend;
            if !next.may_hedge(leader) || !next.step.standing.is_in(Instant::now()) {
                at += 1;
            } else if !next.step.standing.spend() {
                self.flight.hedged(backend, "not_paid");
                at += 1;
            } else if let Some(next) = self.queue.remove(at)
                // Another may have taken the last place meanwhile.
                && let Some(racer) = self.start(Next { purpose: Purpose::Extra, ..next }, true)
            {
                return Some(racer);
            }
        }
        None
    }

    /// When to look for a hedge again, where all that might be one were full or left alone.
    pub(super) fn hedge_again(&self, leader: Option<&str>) -> Option<Instant> {
        let now = Instant::now();
        let mut others = self.queue.iter().filter(|next| next.may_hedge(leader)).peekable();
        others.peek()?;
        others.all(|next| !next.step.standing.is_in(now)).then(|| now + HEDGE_AGAIN)
    }

    /// Another answered first. Should that one break off, who lost to it may still stand in: a hedge in its place of the plan,
    /// the first when nobody else is left.
    pub(super) fn overtaken(&mut self, step: Arc<Step>, by_hedge: bool) {
        if by_hedge {
            self.queue.push_back(Next { owes: true, ..Next::first(step) });
        } else {
            self.flight.hedged(&step.backend, "lost");
            self.queue.push_front(Next::first(step));
        }
    }
}
