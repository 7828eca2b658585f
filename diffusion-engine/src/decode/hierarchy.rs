//! dInfer's hierarchical decoder (`parallel_strategy.py`; divide and conquer): besides everything surer than the
//! threshold, each gap of neighbouring masks gets its surest token if that is surer than [`LOW`], so that a gap falls
//! into two and its tokens soon have neighbours. Filled up to the scheduled number by the surest of the rest. Written
//! tokens stay.

use super::{Candidate, Canvas, Edit, List, likeliest};

/// Least confidence of a gap's own token (dInfer's `low_threshold`).
const LOW: f32 = 0.4;

/// What one step writes. `candidates` has one entry per position of the canvas.
pub(crate) fn edits(canvas: &Canvas, candidates: &[Candidate], threshold: f32, least: usize) -> List<Edit> {
    let masked = canvas.masked();
    let surer_than = |at: usize, limit: f32| candidates.get(at).is_some_and(|candidate| candidate.probability > limit);
    let gaps = masked.chunk_by(|a, b| a + 1 == *b);
    let middles: List<usize> = gaps.filter_map(|gap| likeliest(gap.into(), candidates, 1).pop()).collect();
    let (mut chosen, rest): (List<usize>, List<usize>) =
        masked.into_iter().partition(|at| surer_than(*at, threshold) || (middles.contains(at) && surer_than(*at, LOW)));
    let missing = least.saturating_sub(chosen.len());
    chosen.extend(likeliest(rest, candidates, missing));
    chosen
        .into_iter()
        .filter_map(|at| candidates.get(at).map(|candidate| Edit { at, token: candidate.token }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::{canvas_and_candidates, plain_top};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_gap_is_split_and_an_unsure_one_is_left() {
        const MASK: u32 = 9;
        let canvas = Canvas { tokens: vec![7, MASK, MASK, 1, MASK, MASK, 2, MASK], fixed: 1, mask: MASK };
        let candidates: Vec<Candidate> = [0.99, 0.3, 0.5, 0.9, 0.45, 0.41, 0.9, 0.2]
            .into_iter()
            .zip(10..)
            .map(|(probability, token)| Candidate { token, probability })
            .collect();
        let written: Vec<usize> = edits(&canvas, &candidates, 0.9, 1).iter().map(|edit| edit.at).collect();
        assert_eq!(written, [2, 4], "the surest of each gap above 0.4");
        let all: Vec<usize> = edits(&canvas, &candidates, 0.9, 4).iter().map(|edit| edit.at).collect();
        assert_eq!(all, [2, 4, 5, 1], "then the surest of the rest");
    }

    proptest! {
        /// Against the rule written with whole-block vectors.
        #[test]
        fn equals_the_plain_form((canvas, candidates) in canvas_and_candidates(), threshold in 0.0f32..1.0, least in 0usize..5) {
            let n = canvas.tokens.len();
            let active: Vec<bool> = (0..n).map(|i| i >= canvas.fixed && canvas.tokens[i] == canvas.mask).collect();
            let p = |i: usize| candidates[i].probability;
            let mut expected: Vec<bool> = (0..n).map(|i| active[i] && p(i) > threshold).collect();
            for i in (0..n).filter(|i| active[*i] && p(*i) > 0.4) {
                // The surest of its gap: nothing before it in the gap as sure, nothing after it surer.
                let before = (0..i).rev().take_while(|j| active[*j]).all(|j| p(j) < p(i));
                let after = (i + 1..n).take_while(|j| active[*j]).all(|j| p(j) <= p(i));
                expected[i] |= before && after;
            }
            let count = expected.iter().filter(|chosen| **chosen).count();
            let rest: Vec<f32> =
                (0..n).map(|i| if active[i] && !expected[i] { p(i) } else { f32::NEG_INFINITY }).collect();
            let waiting = rest.iter().filter(|c| c.is_finite()).count();
            for (i, more) in plain_top(&rest, least.saturating_sub(count).min(waiting)).into_iter().enumerate() {
                expected[i] |= more;
            }
            let got = edits(&canvas, &candidates, threshold, least);
            let set: Vec<bool> = (0..n).map(|i| got.iter().any(|edit| edit.at == i)).collect();
            prop_assert_eq!(set, expected);
            prop_assert!(got.iter().all(|edit| edit.token == candidates[edit.at].token));
        }
    }
}
