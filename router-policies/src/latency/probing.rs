//! When a backend that nobody asks any more is asked once: without it, one that was slow for an hour would be thought slow
//! for ever. A counter, no dice: the same decisions give the same probes.

use super::LatencySettings;

#[derive(Debug, Clone, Default)]
pub(super) struct Probing {
    decisions: u64,
}

impl Probing {
    /// `last` says when each candidate was seen. Never the first one: it is asked anyway.
    pub(super) fn due(&mut self, last: &[f64], now: f64, settings: &LatencySettings) -> Option<usize> {
        if settings.probe_every == 0 || last.len() < 2 {
            return None;
        }
        self.decisions = self.decisions.wrapping_add(1);
        if !self.decisions.is_multiple_of(settings.probe_every) {
            return None;
        }
        // One seen in the future was seen before the clock was put back.
        let stale = (1..last.len()).filter(|at| (now - last[*at]).abs() >= settings.probe_after_s);
        stale.min_by(|one, other| last[*one].total_cmp(&last[*other]))
    }
}
