//! The circuit breaker of one backend: closed while it answers, open after too many failures, then half open: one
//! request tries it, and decides. Two signals open it: failures in a row catch a dead backend within a few requests, the
//! share of failures catches one that fails every second time. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

use super::window::{Counts, Window};
use crate::config::attempts::StandingSettings;

/// Answers without which a share means nothing.
const RATE_ANSWERS_MIN: u32 = 20;

/// Whether a request may go to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Pass,
    /// It may, as the one that tries.
    Probe,
    /// Not for so long.
    Shut(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probing: bool },
}

/// What the dashboards show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Closed,
    HalfOpen,
    Open,
}

#[derive(Debug)]
pub(super) struct Breaker {
    settings: StandingSettings,
    state: State,
    window: Window,
    in_a_row: u32,
    /// How often it opened without a good time in between: the pause doubles with it.
    level: u32,
    closed_at: Instant,
    opened: u64,
}

impl Breaker {
    pub(super) fn new(settings: StandingSettings, now: Instant) -> Self {
        let window = Window::new(now);
        Breaker { settings, state: State::Closed, window, in_a_row: 0, level: 0, closed_at: now, opened: 0 }
    }

    /// Whether a request may go. A [`Gate::Probe`] must be followed by exactly one of [`Breaker::answered`],
    /// [`Breaker::failed`] and [`Breaker::let_go`] with `probe`.
    pub(super) fn gate(&mut self, now: Instant) -> Gate {
        if let State::Open { until } = self.state
            && now >= until
        {
            self.state = State::HalfOpen { probing: false };
        }
        match self.state {
            State::Closed => Gate::Pass,
            State::Open { until } => Gate::Shut(until - now),
            State::HalfOpen { probing: true } => Gate::Shut(Duration::ZERO),
            State::HalfOpen { probing: false } => {
                self.state = State::HalfOpen { probing: true };
                Gate::Probe
            }
        }
    }

    /// The backend took a request and has something to say.
    pub(super) fn answered(&mut self, probe: bool, now: Instant) {
        if probe {
            self.state = State::Closed;
            self.closed_at = now;
            self.in_a_row = 0;
            self.window.clear();
        }
    }

    /// An answer is complete.
    pub(super) fn finished(&mut self, now: Instant) {
        self.in_a_row = 0;
        self.window.record(true, now);
    }

    /// It failed. Says whether that opened the breaker.
    pub(super) fn failed(&mut self, probe: bool, now: Instant) -> bool {
        self.window.record(false, now);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let counts = self.window.counts(now);
        let too_many = self.in_a_row >= self.settings.failures
            || counts.total() >= RATE_ANSWERS_MIN && counts.failure_rate() >= self.settings.rate;
        if probe || self.state == State::Closed && too_many {
            self.open(now);
            return true;
        }
        false
    }

    /// A probe ended without telling anything: its caller left.
    pub(super) fn let_go(&mut self, probe: bool) {
        if probe && self.state == (State::HalfOpen { probing: true }) {
            self.state = State::HalfOpen { probing: false };
        }
    }

    /// From now on it is left alone, whoever says so.
    pub(super) fn open(&mut self, now: Instant) {
        if now.saturating_duration_since(self.closed_at) > self.settings.open_max && self.state == State::Closed {
            self.level = 0;
        }
        let pause = self.settings.open.saturating_mul(2_u32.saturating_pow(self.level)).min(self.settings.open_max);
        self.level = self.level.saturating_add(1);
        self.state = State::Open { until: now + pause };
        self.opened += 1;
        self.in_a_row = 0;
    }

    /// Whether [`Breaker::gate`] would let a request go.
    pub(super) fn lets_in(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => now >= until,
            State::HalfOpen { probing } => !probing,
        }
    }

    pub(super) fn counts(&mut self, now: Instant) -> Counts {
        self.window.counts(now)
    }

    pub(super) fn shown(&self, now: Instant) -> Shown {
        match self.state {
            State::Closed => Shown::Closed,
            State::Open { until } if now < until => Shown::Open,
            State::Open { .. } | State::HalfOpen { .. } => Shown::HalfOpen,
        }
    }

    /// How often it opened.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::attempts::AttemptSettings;

    fn breaker() -> (Breaker, Instant) {
        let now = Instant::now();
        // 5 in a row, half of 20, 5 s doubling to 60 s.
        (Breaker::new(AttemptSettings::default().standing, now), now)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failures_in_a_row_open_it_and_a_good_one_starts_anew() {
        let (mut breaker, now) = breaker();
        for _ in 0..4 {
            assert!(!breaker.failed(false, now));
        }
        breaker.finished(now);
        for _ in 0..4 {
            assert!(!breaker.failed(false, now));
        }
        assert_eq!(breaker.gate(now), Gate::Pass);
        assert!(breaker.failed(false, now));
        assert_eq!(breaker.gate(now + SECOND), Gate::Shut(4 * SECOND));
        assert_eq!(breaker.shown(now), Shown::Open);
    }

    #[test]
    fn a_share_of_failures_opens_it() {
        let (mut breaker, now) = breaker();
        let mut opened = 0;
        for _ in 0..10 {
            breaker.finished(now);
            opened += u32::from(breaker.failed(false, now));
        }
        assert_eq!(opened, 1, "with the twentieth answer half have failed");
    }

    #[test]
    fn one_probe_decides() {
        let (mut breaker, now) = breaker();
        breaker.open(now);
        let half = now + 5 * SECOND;
        assert_eq!(breaker.gate(half), Gate::Probe);
        assert_eq!(breaker.gate(half), Gate::Shut(Duration::ZERO), "only one at a time");
        breaker.let_go(true);
        assert_eq!(breaker.gate(half), Gate::Probe, "a caller that left tells nothing");
        assert!(breaker.failed(true, half));
        assert_eq!(breaker.gate(half), Gate::Shut(10 * SECOND), "twice as long");
        let again = half + 10 * SECOND;
        assert_eq!(breaker.gate(again), Gate::Probe);
        breaker.answered(true, again);
        assert_eq!(breaker.gate(again), Gate::Pass);
        assert_eq!(breaker.opened(), 2);
    }

    #[test]
    fn the_pause_grows_up_to_its_limit_and_shrinks_after_a_good_time() {
        let (mut breaker, mut now) = breaker();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            breaker.open(now);
            let Gate::Shut(pause) = breaker.gate(now) else { panic!("open") };
            pauses.push(pause.as_secs());
            now += pause;
            assert_eq!(breaker.gate(now), Gate::Probe);
            breaker.answered(true, now);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        now += 61 * SECOND;
        breaker.open(now);
        assert_eq!(breaker.gate(now), Gate::Shut(5 * SECOND));
    }

    #[test]
    fn late_news_of_old_requests_change_nothing() {
        let (mut breaker, now) = breaker();
        breaker.open(now);
        assert!(!breaker.failed(false, now), "open already");
        breaker.answered(false, now);
        breaker.finished(now);
        breaker.let_go(false);
        assert_eq!(breaker.gate(now), Gate::Shut(5 * SECOND));
    }
}
