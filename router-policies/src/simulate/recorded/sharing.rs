//! How much undisturbed work could be done between two moments, from what was under way at once: the recorded side of
//! what `machine` does forwards. Must never know what a span was for.

/// Seconds, from when until when something was under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) from: f64,
    pub(super) until: f64,
}

/// Moments at which something began or ended, with what was under way from then on.
#[derive(Debug)]
pub(super) struct Traffic {
    moments: Vec<(f64, u32)>,
    begins: Vec<f64>,
    /// Half of all take at most so long.
    usual: f64,
    pub(super) most_at_once: u32,
}

impl Traffic {
    pub(super) fn of(spans: impl Iterator<Item = Span> + Clone) -> Self {
        let mut begins: Vec<f64> = spans.clone().map(|span| span.from).collect();
        begins.sort_by(f64::total_cmp);
        let mut took: Vec<f64> = spans.clone().map(|span| span.until - span.from).collect();
        took.sort_by(f64::total_cmp);
        let usual = took.get(took.len() / 2).copied().unwrap_or(0.0);
        let mut changes: Vec<(f64, i32)> = spans.flat_map(|span| [(span.from, 1), (span.until, -1)]).collect();
        // Of the same moment ends come first: who follows another is not beside it.
        changes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut at_once = 0_i32;
        let moments = changes.into_iter().map(|(at, change)| {
            at_once += change;
            (at, at_once.unsigned_abs())
        });
        let moments: Vec<_> = moments.collect();
        let most_at_once = moments.iter().map(|(_, at_once)| *at_once).max().unwrap_or(0);
        Traffic { moments, begins, usual, most_at_once }
    }

    /// Others that began about when this one did. Unlike what was under way it is no consequence of how long things took:
    /// whatever holds up a machine makes them longer and more at once together.
    pub(super) fn beside(&self, span: Span) -> f64 {
        let until = self.begins.partition_point(|at| *at <= span.from + self.usual);
        let from = self.begins.partition_point(|at| *at < span.from - self.usual);
        until.saturating_sub(from + 1) as f64
    }

    /// Seconds of undisturbed work that one request could have had done by each moment, if a processor of this capacity
    /// was shared.
    pub(super) fn shared(&self, capacity: f64) -> Done<'_> {
        let (mut sum, mut before) = (0.0, None);
        let by = self.moments.iter().map(|(at, at_once)| {
            if let Some((since, at_once)) = before.replace((*at, *at_once)) {
                sum += (at - since) * pace(at_once, capacity);
            }
            sum
        });
        Done { by: by.collect(), traffic: self, capacity }
    }
}

fn pace(at_once: u32, capacity: f64) -> f64 {
    if f64::from(at_once) > capacity { capacity / f64::from(at_once) } else { 1.0 }
}

/// See [`Traffic::shared`].
#[derive(Debug)]
pub(super) struct Done<'a> {
    traffic: &'a Traffic,
    by: Vec<f64>,
    capacity: f64,
}

impl Done<'_> {
    fn until(&self, moment: f64) -> f64 {
        let after = self.traffic.moments.partition_point(|(at, _)| *at <= moment);
        let Some(last) = after.checked_sub(1) else { return 0.0 };
        let (at, at_once) = self.traffic.moments[last];
        self.by[last] + (moment - at) * pace(at_once, self.capacity)
    }

    /// Within a span.
    pub(super) fn within(&self, span: Span) -> f64 {
        (self.until(span.until) - self.until(span.from)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_counts_less() {
        let spans = [(0.0, 4.0), (1.0, 3.0), (2.0, 3.0)].map(|(from, until)| Span { from, until });
        let traffic = Traffic::of(spans.into_iter());
        assert_eq!(traffic.most_at_once, 3);
        let within = |capacity: f64| spans.map(|span| traffic.shared(capacity).within(span));
        assert_eq!(within(f64::INFINITY), [4.0, 2.0, 1.0]);
        // One, two, three, one at once: 1 + 1/2 + 1/3 + 1.
        assert!((within(1.0)[0] - (2.0 + 0.5 + 1.0 / 3.0)).abs() < 1e-9);
        assert!((within(2.0)[1] - (1.0 + 2.0 / 3.0)).abs() < 1e-9);
    }
}
