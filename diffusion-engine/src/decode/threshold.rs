//! LLaDA2.0's decoder (report §6): every masked position whose candidate is surer than a threshold is written, and
//! at least a scheduled number of them. Written tokens stay.

use super::{Candidate, Canvas, Edit, List, likeliest};

/// Least number of writes in step `step` (from 0) of `steps`, so that they sum up to `block_length`; afterwards no
/// position may wait any longer.
pub(crate) fn least_writes(block_length: usize, steps: usize, step: usize) -> usize {
    let steps = steps.max(1);
    if step >= steps {
        return block_length;
    }
    block_length / steps + usize::from(step < block_length % steps)
}

/// What one step writes. `candidates` has one entry per position of the canvas.
pub(crate) fn edits(canvas: &Canvas, candidates: &[Candidate], threshold: f32, least: usize) -> List<Edit> {
    let masked = canvas.masked();
    let sure = |at: &usize| candidates.get(*at).is_some_and(|candidate| candidate.probability > threshold);
    let chosen: List<usize> = masked.iter().copied().filter(sure).collect();
    let chosen = if chosen.len() < least { likeliest(masked, candidates, least) } else { chosen };
    let edit = |at: usize| candidates.get(at).map(|candidate| Edit { at, token: candidate.token });
    chosen.into_iter().filter_map(edit).collect()
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::{canvas_and_candidates, plain_top};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_schedule_sums_up_to_the_block() {
        for (length, steps) in [(32, 32), (32, 5), (8, 3), (1, 1), (7, 7)] {
            assert_eq!((0..steps).map(|step| least_writes(length, steps, step)).sum::<usize>(), length);
        }
        assert_eq!(least_writes(32, 4, 4), 32);
    }

    proptest! {
        /// Against the report's pseudo-code written with whole-block vectors.
        #[test]
        fn equals_the_plain_form((canvas, candidates) in canvas_and_candidates(), threshold in 0.0f32..1.0, least in 0usize..5) {
            let confidence: Vec<f32> = (0..canvas.tokens.len())
                .map(|i| if i >= canvas.fixed && canvas.tokens[i] == canvas.mask { candidates[i].probability } else { f32::NEG_INFINITY })
                .collect();
            let active = confidence.iter().filter(|c| c.is_finite()).count();
            let mut transfer: Vec<bool> = confidence.iter().map(|c| *c > threshold).collect();
            if transfer.iter().filter(|t| **t).count() < least {
                transfer = plain_top(&confidence, least.min(active));
            }
            let mut expected = canvas.tokens.clone();
            for i in 0..expected.len() {
                if transfer[i] {
                    expected[i] = candidates[i].token;
                }
            }
            let mut got = canvas.clone();
            got.write(&edits(&canvas, &candidates, threshold, least));
            prop_assert_eq!(got.tokens, expected);
        }
    }
}
