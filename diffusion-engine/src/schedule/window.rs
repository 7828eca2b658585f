//! Blocks that are finished but stay open to edits ([`crate::decode::multi_block`] says why and when): held back here,
//! oldest first, until they leave. Must never hand out a block that may still change.

use std::collections::VecDeque;

use crate::decode::logprobs::TokenScore;
use crate::decode::{Candidate, Canvas};

use super::lane::DiffusionJob;
use super::token_writer::Written;

/// A block with where it stands and the log-probabilities asked for.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) canvas: Canvas,
    /// Absolute position of its first token.
    pub(crate) start: usize,
    /// The token before it.
    pub(crate) left: Option<u32>,
    /// By position of the canvas.
    pub(crate) scores: Vec<Option<TokenScore>>,
}

impl Block {
    /// What stands for the candidate of a position nobody asked about: what is there, with no confidence at all.
    pub(crate) fn unasked(&self, at: usize) -> Candidate {
        Candidate { token: self.canvas.tokens.get(at).copied().unwrap_or(self.canvas.mask), probability: 0.0 }
    }

    /// The tokens that belong to the answer.
    pub(crate) fn answered(&self) -> &[u32] {
        self.canvas.tokens.get(self.canvas.fixed..).unwrap_or_default()
    }

    /// Those that are written.
    pub(crate) fn written_tokens(&self) -> impl Iterator<Item = u32> {
        self.answered().iter().copied().filter(|token| *token != self.canvas.mask)
    }

    /// The token of the answer that is written at `at`.
    pub(crate) fn own(&self, at: usize) -> Option<u32> {
        let token = self.canvas.tokens.get(at).copied();
        token.filter(|token| at >= self.canvas.fixed && *token != self.canvas.mask)
    }

    /// The same with the log-probabilities.
    pub(crate) fn written(&self) -> Written {
        let scores = self.scores.iter().skip(self.canvas.fixed).flatten().cloned().collect();
        Written { tokens: self.answered().to_vec(), scores }
    }
}

/// The open blocks before the one that is being written.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Most blocks that stay open, the one being written included; 0 closes each at once.
    blocks: usize,
    pub(crate) open: VecDeque<Block>,
    /// Revisits made for the newest block.
    pub(crate) revisits: u32,
    /// Whether the next forward is a revisit.
    pub(crate) is_due: bool,
}

impl Window {
    pub(crate) fn new(blocks: usize) -> Self {
        Window { blocks, ..Window::default() }
    }

    /// Whether blocks stay open at all.
    pub(crate) fn is_used(&self) -> bool {
        self.blocks > 0
    }

    /// Where the oldest open block starts.
    pub(crate) fn start(&self) -> Option<usize> {
        self.open.front().map(|block| block.start)
    }

    /// All open tokens, in order.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = u32> {
        self.open.iter().flat_map(|block| block.canvas.tokens.iter().copied())
    }

    /// Takes the newest block in; those that leave for it, or all if the answer `ends` here, come out.
    pub(crate) fn push(&mut self, block: Block, ends: bool) -> Vec<Block> {
        self.open.push_back(block);
        self.revisits = 0;
        let stay = if ends { 0 } else { self.blocks.saturating_sub(1) };
        let leaving = self.open.len().saturating_sub(stay);
        self.open.drain(..leaving).collect()
    }
}

/// The block from position `start` on: behind the prompt's `tail` what the answer begins from and then masks; shorter
/// where the context ends. `left` is the token before it.
pub(super) fn open_block(
    tail: Vec<u32>,
    start: usize,
    left: Option<u32>,
    job: &mut DiffusionJob,
    context: usize,
) -> Block {
    let fixed = tail.len();
    let length = job.settings.block_length.min(context.saturating_sub(start));
    let mut tokens = tail;
    let given = length.saturating_sub(fixed).min(job.start_from.len());
    tokens.extend(job.start_from.drain(..given));
    tokens.resize(length.max(fixed), job.mask);
    let scores = vec![None; tokens.len()];
    Block { canvas: Canvas { tokens, fixed, mask: job.mask }, start, left, scores }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(start: usize) -> Block {
        Block {
            canvas: Canvas { tokens: vec![start as u32], fixed: 0, mask: 9 },
            start,
            left: None,
            scores: vec![None],
        }
    }

    #[test]
    fn blocks_leave_in_order_when_there_are_too_many() {
        let mut window = Window::new(3);
        let starts = |blocks: Vec<Block>| blocks.iter().map(|block| block.start).collect::<Vec<usize>>();
        assert!(window.push(block(0), false).is_empty());
        assert!(window.push(block(1), false).is_empty());
        assert_eq!(
            (window.start(), window.tokens().collect()),
            (Some(0), vec![0, 1]),
            "the third is the one being written"
        );
        assert_eq!(starts(window.push(block(2), false)), [0]);
        assert_eq!(starts(window.push(block(3), true)), [1, 2, 3]);
        assert_eq!(window.start(), None);
        assert_eq!(starts(Window::new(0).push(block(7), false)), [7]);
    }
}
