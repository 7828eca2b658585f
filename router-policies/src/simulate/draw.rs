//! Draws from a seed. The same seed gives the same draws on every machine; must never be used for anything but
//! simulation.

/// SplitMix64.
#[derive(Debug, Clone)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Draw(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// Above 0, below 1.
    pub(super) fn share(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Seconds until the next of `rate` events a second.
    pub(super) fn wait(&mut self, rate: f64) -> f64 {
        -self.share().ln() / rate
    }

    /// Log-normal around `median`.
    pub(super) fn around(&mut self, median: f64, spread: f64) -> f64 {
        if spread == 0.0 {
            return median;
        }
        let normal = (-2.0 * self.share().ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos();
        median * (spread * normal).exp()
    }

    /// Of `sorted`, equally likely values with all between them.
    pub(super) fn among(&mut self, sorted: &[f64]) -> f64 {
        let place = self.share() * sorted.len().saturating_sub(1) as f64;
        let below = place as usize;
        match (sorted.get(below), sorted.get(below + 1)) {
            (Some(low), Some(high)) => low + (high - low) * place.fract(),
            (low, _) => low.copied().unwrap_or(1.0),
        }
    }

    /// Below `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }
}
