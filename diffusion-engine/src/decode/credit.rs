//! dInfer's credit decoder (`parallel_strategy.py`): a token that a position proposes step after step earns credit, and
//! credit raises its logit, so that steady proposals pass the threshold earlier than a single look would allow.
//!
//! ```text
//! credit ← β · credit        for all tokens of the position
//! credit[likeliest] += p(likeliest)^γ
//! logit[token] += α · ln(1 + credit[token])
//! ```
//! What is written then is [`super::threshold`]'s rule on the raised logits.

use super::Candidate;

/// α: weight of the credit in the logits.
const WEIGHT: f32 = 0.7;
/// β: what is left of a credit after a step.
const DECAY: f32 = 0.8;
/// γ: below 1 it lets unsure proposals earn nearly as much as sure ones.
const POWER: f32 = 0.2;

/// The credit of one block's positions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credits {
    /// Tokens with credit, by position.
    of: Vec<Vec<(u32, f32)>>,
}

impl Credits {
    /// Books what position `at` proposes in this step and returns by how much which logits rise.
    pub(crate) fn book(&mut self, at: usize, proposed: Candidate) -> impl Iterator<Item = (u32, f32)> {
        if self.of.len() <= at {
            self.of.resize_with(at + 1, Vec::new);
        }
        let credits = &mut self.of[at];
        for (_, credit) in credits.iter_mut() {
            *credit *= DECAY;
        }
        let earned = proposed.probability.powf(POWER);
        match credits.iter_mut().find(|(token, _)| *token == proposed.token) {
            Some((_, credit)) => *credit += earned,
            None => credits.push((proposed.token, earned)),
        }
        credits.iter().map(|(token, credit)| (*token, WEIGHT * credit.ln_1p()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the matrix `[positions, tokens]` kept whole.
        #[test]
        fn equals_the_whole_matrix(steps in prop::collection::vec(prop::collection::vec((0u32..4, 1u8..=10), 3), 1..8)) {
            let mut credits = Credits::default();
            let mut matrix = [[0.0f64; 4]; 3];
            for step in steps {
                for (at, (token, tenths)) in step.into_iter().enumerate() {
                    let probability = f32::from(tenths) / 10.0;
                    matrix[at].iter_mut().for_each(|credit| *credit *= 0.8);
                    matrix[at][token as usize] += f64::from(probability).powf(0.2);
                    let mut raised = [0.0f32; 4];
                    for (token, by) in credits.book(at, Candidate { token, probability }) {
                        raised[token as usize] += by;
                    }
                    for (got, credit) in raised.iter().zip(matrix[at]) {
                        prop_assert!((f64::from(*got) - 0.7 * (credit + 1.0).ln()).abs() < 1e-5);
                    }
                }
            }
        }
    }

    #[test]
    fn a_steady_proposal_rises_and_a_past_one_fades() {
        let mut credits = Credits::default();
        let rise = |credits: &mut Credits, token| -> Vec<(u32, f32)> {
            credits.book(0, Candidate { token, probability: 0.5 }).collect()
        };
        let first = rise(&mut credits, 7)[0].1;
        let second = rise(&mut credits, 7)[0].1;
        assert!(second > first, "{first} {second}");
        let then = rise(&mut credits, 8);
        assert!(then[0].1 < second && then[1] == (8, first), "{then:?}");
    }
}
