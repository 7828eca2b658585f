//! LLaDA2.1's joint decoder (report 2.1 §2, equations 1 and 2): masked positions become tokens above one threshold
//! (M2T, at least a scheduled number of them), and written tokens are replaced above another (T2T), from the same forward. Prompt
//! positions are never touched.

use super::{Candidate, Canvas, Edit, List, likeliest};

/// What one step writes.
#[derive(Debug, PartialEq)]
pub(crate) struct JointEdits {
    /// Masks that become tokens.
    pub(crate) unmask: List<Edit>,
    /// Tokens that are replaced.
    pub(crate) replace: List<Edit>,
}

/// The edits of one step. `candidates` has one entry per position of the canvas.
/// `least` masks become tokens however unsure they are (the report's `num_to_transfer`, 1).
pub(crate) fn edits(
    canvas: &Canvas,
    candidates: &[Candidate],
    threshold: f32,
    editing: f32,
    least: usize,
) -> JointEdits {
    let masked = canvas.masked();
    let surer_than = |at: usize, limit: f32| candidates.get(at).filter(|candidate| candidate.probability > limit);
    let sure: List<usize> = masked.iter().copied().filter(|at| surer_than(*at, threshold).is_some()).collect();
    let unmask = if sure.len() < least { likeliest(masked, candidates, least) } else { sure };
    let unmask = unmask
        .into_iter()
        .filter_map(|at| candidates.get(at).map(|candidate| Edit { at, token: candidate.token }))
        .collect();
    let replace = replacements(canvas, candidates, editing);
    JointEdits { unmask, replace }
}

/// T2T alone: the written tokens whose candidate differs and is surer than `editing`.
pub(crate) fn replacements(canvas: &Canvas, candidates: &[Candidate], editing: f32) -> List<Edit> {
    let written = canvas.tokens.iter().enumerate().skip(canvas.fixed).filter(|(at, _)| !canvas.is_masked(*at));
    written
        .filter_map(|(at, token)| {
            let candidate = candidates.get(at).filter(|candidate| candidate.probability > editing)?;
            (candidate.token != *token).then_some(Edit { at, token: candidate.token })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::{canvas_and_candidates, plain_top};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the equations written with whole-block sets.
        #[test]
        fn equals_the_plain_form((canvas, candidates) in canvas_and_candidates(), threshold in 0.0f32..1.0, editing in 0.0f32..1.0, least in 1usize..4) {
            let n = canvas.tokens.len();
            let active: Vec<bool> = (0..n).map(|i| i >= canvas.fixed && canvas.tokens[i] == canvas.mask).collect();
            let mut gamma: Vec<bool> = (0..n).map(|i| active[i] && candidates[i].probability > threshold).collect();
            if gamma.iter().filter(|chosen| **chosen).count() < least {
                let confidence: Vec<f32> =
                    (0..n).map(|i| if active[i] { candidates[i].probability } else { f32::NEG_INFINITY }).collect();
                gamma = plain_top(&confidence, least.min(active.iter().filter(|is| **is).count()));
            }
            let delta: Vec<bool> = (0..n)
                .map(|i| {
                    i >= canvas.fixed
                        && !active[i]
                        && canvas.tokens[i] != candidates[i].token
                        && candidates[i].probability > editing
                })
                .collect();
            let got = edits(&canvas, &candidates, threshold, editing, least);
            let set = |edits: &[Edit]| (0..n).map(|i| edits.iter().any(|edit| edit.at == i)).collect::<Vec<bool>>();
            prop_assert_eq!(set(&got.unmask), gamma);
            prop_assert_eq!(set(&got.replace), delta);
            for edit in got.unmask.iter().chain(&got.replace) {
                prop_assert_eq!(edit.token, candidates[edit.at].token);
            }
        }
    }
}
