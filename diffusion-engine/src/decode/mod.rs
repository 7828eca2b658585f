//! From logits to written tokens: [`settings`] (what was asked for), [`published`] (where nobody asked), [`sampling`]
//! (one candidate per position), [`threshold`], [`joint`], [`multi_block`], [`levenshtein`], [`hierarchy`],
//! [`credit`] (what is written, one paper's rule each), [`block`] (a block from masks to final). [`rules`] come
//! before all of them, [`logprobs`] after. Pure: no IO, no clock, no model.

pub(crate) mod block;
pub(crate) mod credit;
pub(crate) mod hierarchy;
pub(crate) mod joint;
pub(crate) mod levenshtein;
pub(crate) mod logprobs;
pub(crate) mod multi_block;
pub(crate) mod published;
pub(crate) mod rules;
pub(crate) mod sampling;
pub(crate) mod settings;
pub(crate) mod threshold;

use smallvec::SmallVec;

/// A list about a block's positions: a step makes a few of them, and up to LLaDA2's block length they cost no allocation.
pub(crate) type List<T> = SmallVec<[T; 32]>;

/// The token a forward proposes for one position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) token: u32,
    /// Its probability under the distribution it was taken from.
    pub(crate) probability: f32,
}

/// A token to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Index in the canvas.
    pub(crate) at: usize,
    pub(crate) token: u32,
}

/// A block being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Canvas {
    pub(crate) tokens: Vec<u32>,
    /// Leading tokens that belong to the prompt and never change.
    pub(crate) fixed: usize,
    pub(crate) mask: u32,
}

impl Canvas {
    /// Whether the position waits for its first token.
    pub(crate) fn is_masked(&self, at: usize) -> bool {
        at >= self.fixed && self.tokens.get(at) == Some(&self.mask)
    }

    /// Becomes like `other`, in the memory it has.
    pub(crate) fn copy(&mut self, other: &Canvas) {
        self.tokens.clone_from(&other.tokens);
        (self.fixed, self.mask) = (other.fixed, other.mask);
    }

    /// Positions that wait, ascending.
    pub(crate) fn masked(&self) -> List<usize> {
        (0..self.tokens.len()).filter(|at| self.is_masked(*at)).collect()
    }

    /// Writes `edits`.
    pub(crate) fn write(&mut self, edits: &[Edit]) {
        for edit in edits {
            if let Some(token) = self.tokens.get_mut(edit.at) {
                *token = edit.token;
            }
        }
    }
}

/// The `count` positions whose candidates are likeliest; of equals the earlier.
fn likeliest(mut positions: List<usize>, candidates: &[Candidate], count: usize) -> List<usize> {
    let probability = |at: &usize| candidates.get(*at).map_or(0.0, |candidate| candidate.probability);
    positions.sort_by(|a, b| probability(b).total_cmp(&probability(a)));
    positions.truncate(count);
    positions
}
