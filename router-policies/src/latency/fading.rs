//! A mean and a spread of what was seen lately, old sightings fading. Must never hold a number that is none.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Fading {
    weight: f64,
    sum: f64,
    squares: f64,
}

impl Fading {
    pub(super) fn fade(&mut self, share: f64) {
        self.weight *= share;
        self.sum *= share;
        self.squares *= share;
    }

    pub(super) fn seen(&mut self, value: f64) {
        if value.is_finite() {
            self.weight += 1.0;
            self.sum += value;
            self.squares += value * value;
        }
    }

    pub(super) fn weight(&self) -> f64 {
        self.weight
    }

    pub(super) fn is_sound(&self) -> bool {
        [self.weight, self.sum, self.squares].iter().all(|number| number.is_finite())
            && self.weight >= 0.0
            && self.squares >= 0.0
    }

    /// The mean, with a prior that is worth `worth` sightings.
    pub(super) fn mean(&self, prior: f64, worth: f64) -> f64 {
        (self.sum + prior * worth) / (self.weight + worth).max(f64::MIN_POSITIVE)
    }

    /// The variance around 0 or around the own mean, with a prior that is worth `worth` sightings.
    pub(super) fn spread(&self, prior: f64, worth: f64) -> f64 {
        let mean = if self.weight > 0.0 { self.sum / self.weight } else { 0.0 };
        let own = (self.squares - self.weight * mean * mean).max(0.0);
        (own + prior * worth) / (self.weight + worth).max(f64::MIN_POSITIVE)
    }
}
