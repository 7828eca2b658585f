//! How a backend's answers went lately: good and bad ones of the last half minute, in slots of five seconds. An exact
//! count and no moving average, so that a burst of failures weighs as much as the same failures spread out.

use std::time::Duration;

use tokio::time::Instant;

const SLOT: Duration = Duration::from_secs(5);
const SLOTS: usize = 6;

/// Good and bad answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) good: u32,
    pub(super) bad: u32,
}

impl Counts {
    pub(super) fn total(self) -> u32 {
        self.good.saturating_add(self.bad)
    }

    /// Share of bad ones, 0 where there are none at all.
    pub(super) fn failure_rate(self) -> f64 {
        if self.total() == 0 { 0.0 } else { f64::from(self.bad) / f64::from(self.total()) }
    }
}

/// The last half minute.
#[derive(Debug)]
pub(super) struct Window {
    slots: [Counts; SLOTS],
    /// Begin of the newest slot, `slots[0]`.
    newest: Instant,
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Window { slots: [Counts::default(); SLOTS], newest: now }
    }

    pub(super) fn record(&mut self, good: bool, now: Instant) {
        self.roll(now);
        let slot = &mut self.slots[0];
        let count = if good { &mut slot.good } else { &mut slot.bad };
        *count = count.saturating_add(1);
    }

    pub(super) fn counts(&mut self, now: Instant) -> Counts {
        self.roll(now);
        self.slots.iter().fold(Counts::default(), |sum, slot| Counts {
            good: sum.good.saturating_add(slot.good),
            bad: sum.bad.saturating_add(slot.bad),
        })
    }

    pub(super) fn clear(&mut self) {
        self.slots = [Counts::default(); SLOTS];
    }

    fn roll(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.newest).as_nanos() / SLOT.as_nanos();
        let steps = usize::try_from(passed).unwrap_or(SLOTS).min(SLOTS);
        if steps == 0 {
            return;
        }
        self.slots.rotate_right(steps);
        self.slots[..steps].fill(Counts::default());
        // After a long silence the slots are empty, so where exactly they begin does not matter.
        self.newest = if steps == SLOTS { now } else { self.newest + SLOT * steps as u32 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_forgotten_after_half_a_minute() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let after = |seconds| start + Duration::from_secs(seconds);
        window.record(true, start);
        window.record(false, after(4));
        window.record(false, after(7));
        assert_eq!(window.counts(after(29)), Counts { good: 1, bad: 2 });
        assert_eq!(window.counts(after(30)), Counts { good: 0, bad: 1 });
        assert_eq!(window.counts(after(36)), Counts::default());
        window.record(true, after(10_000));
        assert_eq!(window.counts(after(10_001)), Counts { good: 1, bad: 0 });
    }

    #[test]
    fn a_rate_needs_answers() {
        assert_eq!(Counts::default().failure_rate(), 0.0);
        assert_eq!(Counts { good: 1, bad: 3 }.failure_rate(), 0.75);
    }
}
