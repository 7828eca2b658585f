//! What kind of work a request is, with the probability that this is right. Demands that leave no doubt are rules; the
//! rest is a linear model over hashed words and letters whose weights are part of the program (`models/router/`, with
//! its card). Tens of microseconds. Must never call a language model, and never say more than the bare asked text shows.
//!
//! [`family`]: the kinds; [`grams`]: what of a text is looked at; [`weights`]: the file; `rules`: what leaves no doubt.

pub mod family;
pub mod grams;
mod rules;
pub mod weights;

use std::sync::LazyLock;

pub use family::Family;
use grams::Grams;
use serde::Serialize;
use weights::{WIDTH, Weights, WeightsError};

use crate::features::Features;
use crate::unwrap::Asked;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Judged {
    /// The likeliest family, or [`Family::Unsure`] where it is not likely enough.
    pub family: Family,
    /// The probability of the likeliest family, whether or not it was enough; 1 where a rule decided.
    pub probability: f32,
}

/// A model, ready to judge.
#[derive(Debug)]
pub struct Classifier {
    weights: Weights,
}

static EMBEDDED: LazyLock<Classifier> = LazyLock::new(|| {
    // A test reads the embedded file; were it damaged all the same, everything would be `unsure`.
    let file = include_bytes!("../../../models/router/weights.bin");
    Classifier::read(file).unwrap_or_else(|_| Classifier { weights: Weights::ignorant() })
});

impl Judged {
    /// A family that somebody named: nothing about it was guessed.
    pub fn named(family: Family) -> Judged {
        Judged { family, probability: 1.0 }
    }
}

impl Classifier {
    /// The one that is part of the program.
    pub fn embedded() -> &'static Classifier {
        &EMBEDDED
    }

    /// Reads a weights file.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(file: &[u8]) -> Result<Classifier, WeightsError> {
        Weights::parse(file).map(|weights| Classifier { weights })
    }

    /// One with these weights.
    pub fn new(weights: Weights) -> Classifier {
        Classifier { weights }
    }

    /// Its weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Judges what was asked. The same text and features give the same answer, bit for bit.
    pub fn classify(&self, asked: &Asked<'_>, features: &Features) -> Judged {
        match rules::certain(features) {
            Some(family) => Judged::named(family),
            None => self.judge(&Grams::of(&asked.text, features)),
        }
    }

    /// The model alone, without rules.
    pub fn judge(&self, grams: &Grams) -> Judged {
        let probabilities = self.probabilities(grams);
        // The first of equals: an order, so that ties are decided always alike.
        let likeliest = probabilities.iter().enumerate().fold((0, -1.0), |best: (usize, f32), (at, probability)| {
            if *probability > best.1 { (at, *probability) } else { best }
        });
        let enough = likeliest.1 >= self.weights.floor;
        let family = if enough { self.weights.families.get(likeliest.0).copied() } else { None };
        Judged { family: family.unwrap_or(Family::Unsure), probability: likeliest.1.max(0.0) }
    }

    /// The probability of each family of [`Weights::families`].
    pub fn probabilities(&self, grams: &Grams) -> Vec<f32> {
        let scores = self.scores(grams);
        let scores = &scores[..self.weights.families.len()];
        let most = scores.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f32> = scores.iter().map(|score| ((score - most) / self.weights.temperature).exp()).collect();
        let sum: f32 = powers.iter().sum();
        powers.into_iter().map(|power| power / sum).collect()
    }

    fn scores(&self, grams: &Grams) -> [f32; WIDTH] {
        let mut scores = self.weights.bias;
        for (part, rows) in grams.parts.iter().enumerate() {
            let mut sums = [0_i32; WIDTH];
            for row in rows {
                // Whole numbers: a sum is the same in every order and on every machine. It cannot wrap, and is not asked
                // whether it did: so all columns are added at once.
                if let Some(row) = self.weights.rows.get(*row as usize) {
                    sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum = sum.wrapping_add(i32::from(*weight)));
                }
            }
            let share = share_of(part, rows.len());
            for ((score, sum), scale) in scores.iter_mut().zip(sums).zip(self.weights.scale[part]) {
                *score += sum as f32 * scale * share;
            }
        }
        scores
    }
}

/// How much one gram of a part counts beside `count` of them. Measures count in full.
pub fn share_of(part: usize, count: usize) -> f32 {
    if part == 2 { 1.0 } else { 1.0 / (count.max(1) as f32).sqrt() }
}

impl Weights {
    /// A model that knows nothing: everything is `unsure`.
    fn ignorant() -> Weights {
        Weights {
            families: vec![Family::Chat],
            bias: [0.0; WIDTH],
            scale: [[0.0; WIDTH]; 3],
            temperature: 1.0,
            floor: f32::MAX,
            rows: Vec::new(),
        }
    }
}
