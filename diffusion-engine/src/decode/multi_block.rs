//! LLaDA2.1's Multi-Block Editing. The report (2.1 §4.3) says that it lets the model "revisit and revise previously
//! generated blocks based on the content of newly decoded blocks", and no more; this is Weir's own design:
//!
//! 1. A block is written by [`super::joint`]. When it is final it is not handed out: up to `multi_block_window` blocks,
//!    the newest included, stay open.
//! 2. When the newest block is final and older ones are open, one *revisit* forward feeds the whole window as one large
//!    block: older blocks see newer ones for once. In the older blocks a token whose candidate differs and is surer than
//!    the editing threshold is replaced (`edits`). A token is only replaced, so an open block stays full.
//! 3. If that changed anything, the K/V of the window is made anew under the strict block mask and the newest block goes
//!    through the joint rule again, since what it follows has changed; then it is revisited once more, at most
//!    [`MOST_REVISITS`] times.
//! 4. The oldest block leaves the window: only now it is final, goes out as text, and its K/V can be shared.
//!
//! A revisit's K/V is scratch: it was made under another mask. The window is fed again, strictly, together with the next
//! block's first step, so the commit rule holds and costs no forward of its own.
//!
//! Cost for each block after the first: one forward over the window, and one window more of tokens in the next block's
//! first step; where something changed, the joint steps of the newest block again (at least one).
//! What it brings on the embedded model stands in `docs/decoders.md`.

use super::{Candidate, Canvas, Edit, List, joint};

/// How often the window is revisited for one new block.
pub(crate) const MOST_REVISITS: u32 = 2;

/// The edits of one open, full block. `candidates` has one entry per position.
pub(crate) fn edits(canvas: &Canvas, candidates: &[Candidate], editing: f32) -> List<Edit> {
    joint::replacements(canvas, candidates, editing)
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::canvas_and_candidates;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the sentence: every written token of the answer that differs from a surer candidate becomes it.
        #[test]
        fn equals_the_plain_form((canvas, candidates) in canvas_and_candidates(), editing in 0.0f32..1.0) {
            let mut expected = canvas.tokens.clone();
            for at in canvas.fixed..expected.len() {
                if expected[at] != canvas.mask && candidates[at].probability > editing {
                    expected[at] = candidates[at].token;
                }
            }
            let mut got = canvas.clone();
            let edits = edits(&canvas, &candidates, editing);
            got.write(&edits);
            prop_assert_eq!(got.tokens, expected);
            prop_assert!(edits.iter().all(|edit| canvas.tokens[edit.at] != edit.token), "an edit changes something");
        }
    }
}
