//! Chance for the choices that need it: jitter and the two of "power of two choices". From a seed, so that a test draws
//! the same. Must never make a secret: it is predictable.

use std::sync::atomic::{AtomicU64, Ordering};

/// splitmix64 (Steele, Lea, Flood 2014), shared without a lock.
#[derive(Debug)]
pub(super) struct Dice(AtomicU64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(AtomicU64::new(seed))
    }

    fn draw(&self) -> u64 {
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least 0, less than 1.
    pub(super) fn fraction(&self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Less than `n`; 0 for 0.
    pub(super) fn below(&self, n: usize) -> usize {
        // The bias of a remainder does not matter for a handful of backends.
        usize::try_from(self.draw() % (n.max(1) as u64)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_and_repeatable() {
        let (one, same) = (Dice::new(7), Dice::new(7));
        let mut seen = [0; 4];
        for _ in 0..4000 {
            assert_eq!(one.draw(), same.draw());
            seen[one.below(4)] += 1;
            same.draw();
        }
        assert!(seen.iter().all(|count| (900..1100).contains(count)), "{seen:?}");
        let mean = (0..4000).map(|_| one.fraction()).sum::<f64>() / 4000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
        assert_eq!(one.below(0), 0);
    }
}
