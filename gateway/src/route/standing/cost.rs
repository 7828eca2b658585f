//! How long a backend takes to its first content, as a moving average that jumps up at once and comes down slowly (peak
//! EWMA, as in Finagle and tower): of equals, the one that got slow is avoided with its first slow answer.

use std::time::Duration;

use tokio::time::Instant;

/// After this long an old figure weighs 1/e.
const DECAY: Duration = Duration::from_secs(10);
/// No backend is better than this, so that attempts under way always weigh.
const FLOOR_SECONDS: f64 = 0.001;

#[derive(Debug, Default)]
pub(super) struct Cost {
    seconds: Option<(f64, Instant)>,
}

impl Cost {
    /// An attempt took so long, or at least so long.
    pub(super) fn seen(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let average = match self.seconds {
            Some((average, at)) if took < average => {
                let weight = decayed(at, now);
                average * weight + took * (1.0 - weight)
            }
            _ => took,
        };
        self.seconds = Some((average, now));
    }

    /// What one more attempt would cost beside `in_flight` others. A backend nobody knows yet is tried first, but only
    /// by one at a time.
    pub(super) fn of(&self, in_flight: usize, now: Instant) -> f64 {
        match self.seconds {
            Some((average, at)) => (average * decayed(at, now)).max(FLOOR_SECONDS) * (in_flight as f64 + 1.0),
            None if in_flight == 0 => 0.0,
            None => f64::MAX,
        }
    }

    /// Seconds, for the dashboards.
    pub(super) fn shown(&self, now: Instant) -> Option<f64> {
        self.seconds.map(|(average, at)| average * decayed(at, now))
    }
}

fn decayed(at: Instant, now: Instant) -> f64 {
    (-now.saturating_duration_since(at).as_secs_f64() / DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut cost = Cost::default();
        cost.seen(Duration::from_millis(100), start);
        cost.seen(Duration::from_secs(2), after(1));
        assert_eq!(cost.of(0, after(1)), 2.0);
        cost.seen(Duration::from_millis(100), after(2));
        let soon = cost.of(0, after(2));
        assert!((1.7..2.0).contains(&soon), "{soon}");
        cost.seen(Duration::from_millis(100), after(40));
        let late = cost.of(0, after(40));
        assert!((0.1..0.2).contains(&late), "{late}");
    }

    #[test]
    fn attempts_under_way_weigh() {
        let now = Instant::now();
        let mut cost = Cost::default();
        assert_eq!((cost.of(0, now), cost.of(1, now)), (0.0, f64::MAX));
        cost.seen(Duration::ZERO, now);
        assert_eq!((cost.of(0, now), cost.of(3, now)), (FLOOR_SECONDS, 4.0 * FLOOR_SECONDS));
    }
}
