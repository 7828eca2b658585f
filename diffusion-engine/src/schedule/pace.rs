//! How fast requests leave, so that a refusal can say how long the wait would have been. Counts only the time in which
//! the engine worked; reads no clock, so that tests can write the time themselves.

use std::time::Duration;

/// How much the newest interval counts.
const WEIGHT: f64 = 0.2;

/// The measured pace.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Worked since somebody left last.
    worked: Duration,
    /// Seconds of work between two that leave.
    interval: Option<f64>,
}

impl Pace {
    /// A step took `took`, and `left` requests were complete after it.
    pub(crate) fn step(&mut self, took: Duration, left: usize) {
        self.worked += took;
        if left == 0 {
            return;
        }
        let interval = self.worked.as_secs_f64() / left as f64;
        self.worked = Duration::ZERO;
        self.interval = Some(self.interval.map_or(interval, |before| before + WEIGHT * (interval - before)));
    }

    /// How long until `requests` have left; `None` before anybody did.
    pub(crate) fn until(&self, requests: usize) -> Option<Duration> {
        Duration::try_from_secs_f64(self.interval? * requests as f64).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_the_pace() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::default();
        assert_eq!(pace.until(3), None);
        pace.step(second, 0);
        pace.step(second, 1);
        assert_eq!(pace.until(3), Some(6 * second), "two seconds of work for one");
        pace.step(4 * second, 4);
        let faster = pace.until(1).expect("measured");
        assert!(second < faster && faster < 2 * second, "{faster:?}");
        (0..60).for_each(|_| pace.step(second / 2, 1));
        let settled = pace.until(2).expect("measured").as_secs_f64();
        assert!((settled - 1.0).abs() < 1e-3, "{settled}");
    }
}
