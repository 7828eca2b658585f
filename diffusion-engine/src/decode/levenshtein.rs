//! LLaDA2.2's decoder (report 2.2 §3): written tokens are kept, substituted, deleted, or pushed right by an insertion.
//! The model says DELETE and SPLIT by two tokens of its vocabulary: `edits` is the joint rule, whose replacements may be
//! these tokens, and `rewrite` carries them out from left to right. DELETE drops its position, SPLIT becomes a mask and
//! the token that stood there; the block is filled up with masks or cut at its length. The prompt's part never moves.
//!
//! Edits can undo each other forever. Where a step would return to a canvas the block had before, `avoiding` lets the
//! least sure of the step's edits take the next likeliest token instead, until the canvas is a new one. (The reference
//! draws at random; sglang and FluxServe are deterministic as here.)

use super::{Candidate, Canvas, Edit, List, joint};

/// The tokens that move others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlTokens {
    pub(crate) delete: u32,
    pub(crate) split: u32,
}

impl ControlTokens {
    pub(crate) fn contains(self, token: u32) -> bool {
        token == self.delete || token == self.split
    }
}

/// Where the token at a position of the rewritten canvas comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// It stood at this position before, token or mask.
    Kept(usize),
    /// The candidate of this position.
    Written(usize),
    /// A mask that was not there before.
    Opened,
}

/// A canvas after edits that may move tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rewritten {
    pub(crate) tokens: Vec<u32>,
    /// As many as tokens.
    pub(crate) slots: Vec<Slot>,
}

impl Rewritten {
    /// Masks that were not there before.
    pub(crate) fn opened(&self) -> usize {
        self.slots.iter().filter(|slot| **slot == Slot::Opened).count()
    }
}

/// The edits of one step: replacements of written tokens may be control tokens, those of masks never are.
pub(crate) fn edits(
    canvas: &Canvas,
    candidates: &[Candidate],
    threshold: f32,
    editing: f32,
    least: usize,
) -> List<Edit> {
    let joint::JointEdits { mut unmask, replace } = joint::edits(canvas, candidates, threshold, editing, least);
    unmask.extend(replace);
    unmask
}

/// The canvas after `edits`.
pub(crate) fn rewrite(canvas: &Canvas, edits: &[Edit], control: ControlTokens) -> Rewritten {
    let length = canvas.tokens.len();
    let mut rewritten = Rewritten { tokens: Vec::with_capacity(length + 1), slots: Vec::with_capacity(length + 1) };
    let mut put = |token: u32, slot: Slot| {
        rewritten.tokens.push(token);
        rewritten.slots.push(slot);
    };
    for (at, old) in canvas.tokens.iter().enumerate() {
        match edits.iter().find(|edit| edit.at == at).map(|edit| edit.token) {
            None => put(*old, Slot::Kept(at)),
            Some(token) if token == control.delete => {}
            Some(token) if token == control.split => {
                put(canvas.mask, Slot::Opened);
                put(*old, Slot::Kept(at));
            }
            Some(token) => put(token, Slot::Written(at)),
        }
    }
    rewritten.tokens.resize(length, canvas.mask);
    rewritten.slots.resize(length, Slot::Opened);
    rewritten
}

/// Like [`rewrite`], but not to one of the canvases `seen`, if one edit can be changed so. `runner_up(at, token)` is the
/// likeliest token of a position besides `token`.
pub(crate) fn avoiding(
    seen: &[Vec<u32>],
    canvas: &Canvas,
    edits: &[Edit],
    candidates: &[Candidate],
    control: ControlTokens,
    runner_up: impl Fn(usize, u32) -> Option<u32>,
) -> Rewritten {
    let plain = rewrite(canvas, edits, control);
    if !seen.contains(&plain.tokens) {
        return plain;
    }
    let probability = |edit: &Edit| candidates.get(edit.at).map_or(0.0, |candidate| candidate.probability);
    let mut least_sure: Vec<usize> = (0..edits.len()).collect();
    least_sure.sort_by(|a, b| probability(&edits[*a]).total_cmp(&probability(&edits[*b])));
    let changed = least_sure.into_iter().find_map(|changed| {
        let mut edits = edits.to_vec();
        let edit = &mut edits[changed];
        edit.token = runner_up(edit.at, edit.token).filter(|token| !control.contains(*token))?;
        let rewritten = rewrite(canvas, &edits, control);
        (!seen.contains(&rewritten.tokens)).then_some(rewritten)
    });
    changed.unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::canvas_and_candidates;
    use super::*;
    use proptest::prelude::*;

    const MASK: u32 = 5;
    const CONTROL: ControlTokens = ControlTokens { delete: 3, split: 4 };

    fn canvas(tokens: &[u32], fixed: usize) -> Canvas {
        Canvas { tokens: tokens.to_vec(), fixed, mask: MASK }
    }

    #[test]
    fn deleted_tokens_close_up_and_split_ones_make_room() {
        let edits = [Edit { at: 1, token: 3 }, Edit { at: 3, token: 4 }, Edit { at: 4, token: 9 }];
        let got = rewrite(&canvas(&[7, 0, 1, 2, MASK, 8], 1), &edits, CONTROL);
        assert_eq!(got.tokens, [7, 1, MASK, 2, 9, 8], "delete and insert in one step");
        use Slot::{Kept, Opened, Written};
        assert_eq!(got.slots, [Kept(0), Kept(2), Opened, Kept(3), Written(4), Kept(5)]);
        let got = rewrite(&canvas(&[0, 1, 2], 0), &[Edit { at: 0, token: 4 }], CONTROL);
        assert_eq!((got.tokens, got.slots.len()), (vec![MASK, 0, 1], 3), "the last one is pushed out");
        let got = rewrite(&canvas(&[0, 1, 2], 0), &[Edit { at: 0, token: 3 }], CONTROL);
        assert_eq!(got.tokens, [1, 2, MASK]);
    }

    #[test]
    fn a_canvas_seen_before_is_left_by_the_least_sure_edit() {
        let canvas = canvas(&[0, 1, 2], 0);
        let edits = [Edit { at: 0, token: 8 }, Edit { at: 2, token: 9 }];
        let candidates: Vec<Candidate> = [(8, 0.9), (1, 0.9), (9, 0.6)]
            .into_iter()
            .map(|(token, probability)| Candidate { token, probability })
            .collect();
        let avoid =
            |seen: &[Vec<u32>]| avoiding(seen, &canvas, &edits, &candidates, CONTROL, |_, token| Some(token + 1));
        assert_eq!(avoid(&[]).tokens, [8, 1, 9]);
        assert_eq!(avoid(&[vec![8, 1, 9]]).tokens, [8, 1, 10]);
        assert_eq!(avoid(&[vec![8, 1, 9], vec![8, 1, 10]]).tokens, [9, 1, 9]);
        assert_eq!(avoid(&[vec![8, 1, 9], vec![8, 1, 10], vec![9, 1, 9]]).tokens, [8, 1, 9], "no way out");
    }

    proptest! {
        /// Against the report's words: one list of symbols per position, flattened, filled up, cut.
        #[test]
        fn equals_the_plain_form((canvas, candidates) in canvas_and_candidates(), threshold in 0.0f32..1.0, editing in 0.0f32..1.0, least in 1usize..4) {
            // Masked rows never propose control tokens: the writer forbids them there.
            let candidates: Vec<Candidate> = candidates
                .into_iter()
                .enumerate()
                .map(|(at, c)| if canvas.is_masked(at) && CONTROL.contains(c.token) { Candidate { token: 0, ..c } } else { c })
                .collect();
            let edits = edits(&canvas, &candidates, threshold, editing, least);
            let got = rewrite(&canvas, &edits, CONTROL);
            let mut expected: Vec<u32> = Vec::new();
            for (at, old) in canvas.tokens.iter().enumerate() {
                let edit = edits.iter().find(|edit| edit.at == at);
                expected.extend(match edit.map(|edit| edit.token) {
                    None => vec![*old],
                    Some(3) => vec![],
                    Some(4) => vec![MASK, *old],
                    Some(token) => vec![token],
                });
            }
            expected.extend([MASK; 12]);
            expected.truncate(canvas.tokens.len());
            prop_assert_eq!(&got.tokens, &expected);
            prop_assert_eq!(&got.tokens[..canvas.fixed], &canvas.tokens[..canvas.fixed], "the prompt stays");
            for (token, slot) in got.tokens.iter().zip(&got.slots) {
                prop_assert_eq!(*token, match slot {
                    Slot::Kept(at) => canvas.tokens[*at],
                    Slot::Written(at) => candidates[*at].token,
                    Slot::Opened => MASK,
                });
            }
        }
    }
}
