//! What a backend may be asked beyond its first attempts: retries and hedges. A fixed number of retries multiplies an
//! outage by that number; a share of the traffic cannot. Each first attempt earns a part of an extra one, up to a burst.

/// A token bucket without a clock.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: f64,
    ratio: f64,
    burst: f64,
}

impl Budget {
    /// Full.
    pub(super) fn new(ratio: f64, burst: u32) -> Self {
        Budget { tokens: f64::from(burst), ratio, burst: f64::from(burst) }
    }

    /// A first attempt is made.
    pub(super) fn earn(&mut self) {
        self.tokens = (self.tokens + self.ratio).min(self.burst);
    }

    /// Pays for an extra attempt, if there is enough.
    pub(super) fn spend(&mut self) -> bool {
        // Sums of a ratio such as 0.2 fall short of 1 by rounding.
        let enough = self.tokens >= 1.0 - 1e-9;
        if enough {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
        enough
    }

    pub(super) fn left(&self) -> f64 {
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_attempts_are_a_share_of_the_first_ones() {
        let mut budget = Budget::new(0.2, 10);
        let mut extra = 0;
        for _ in 0..1000 {
            budget.earn();
            while budget.spend() {
                extra += 1;
            }
        }
        assert_eq!(extra, 10 + 200 - 1, "the burst, and a fifth; the first earning found a full bucket");
    }

    #[test]
    fn nothing_is_saved_beyond_the_burst() {
        let mut budget = Budget::new(1.0, 2);
        (0..100).for_each(|_| budget.earn());
        assert_eq!((budget.spend(), budget.spend(), budget.spend()), (true, true, false));
        let mut none = Budget::new(0.0, 0);
        none.earn();
        assert!(!none.spend());
    }
}
