//! What is shown of blocks that are not final, to those who asked for it: their text as a draft, or each position with
//! what the step did to it. Must never change anything, and does no work when nobody asked.

use crate::checkpoint::tokenizer::TextTokenizer;
use crate::generation::GenerationEvent;
use crate::steps::{Cell, CellState, StepView};

use super::answer::Answer;

/// What was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// [`GenerationEvent::Draft`].
    pub(crate) drafts: bool,
    /// [`GenerationEvent::Step`].
    pub(crate) steps: bool,
}

/// One request's open blocks as they were shown last.
pub(crate) struct Watch {
    pub(crate) wish: Wish,
    mask: u32,
    /// Index in the answer of the first token of `shown`.
    start: usize,
    shown: Vec<u32>,
}

impl Watch {
    pub(crate) fn new(wish: Wish, mask: u32) -> Self {
        Watch { wish, mask, start: 0, shown: Vec::new() }
    }

    /// Sends the answer's `open` tokens as text, masks as `░`.
    pub(crate) fn draft(&self, open: &[u32], step: u32, tokenizer: &TextTokenizer, answer: &Answer) {
        let mask = self.mask;
        let mut snapshot = String::new();
        for run in open.chunk_by(|a, b| (*a == mask) == (*b == mask)) {
            if run.first() == Some(&mask) {
                snapshot.extend(std::iter::repeat_n('░', run.len()));
            } else {
                snapshot.push_str(&tokenizer.decode(run));
            }
        }
        let masked = open.iter().filter(|token| **token == mask).count() as u32;
        answer.show(GenerationEvent::Draft { snapshot, step, masked });
    }

    /// Sends the answer's `open` tokens, the first of which follows what is final; `forced(i)` tells whether the form
    /// left no choice about the i-th.
    pub(crate) fn step(
        &mut self,
        open: &[u32],
        (step, block): (u32, u32),
        forced: impl Fn(usize) -> bool,
        tokenizer: &TextTokenizer,
        answer: &Answer,
    ) {
        let start = answer.tokens();
        let end = open.iter().position(|token| answer.is_end(*token)).map_or(open.len(), |at| at + 1);
        let end = end.min(answer.room());
        let before = |at: usize| self.shown.get((start + at).checked_sub(self.start)?).copied();
        let cells = open.iter().enumerate().map(|(at, token)| {
            let state = match before(at) {
                _ if at >= end => CellState::Beyond,
                _ if *token == self.mask => CellState::Masked,
                _ if forced(at) => CellState::Forced,
                Some(old) if old == self.mask => CellState::Fresh,
                Some(old) if old != *token => CellState::Edited,
                // Not shown before: the answer begins from it.
                Some(_) | None => CellState::Kept,
            };
            let text = if *token == self.mask { String::new() } else { tokenizer.decode(&[*token]) };
            Cell { token: *token, text, state }
        });
        let view = StepView { step, block, start: start as u32, cells: cells.collect() };
        (self.start, self.shown) = (start, open.to_vec());
        answer.show(GenerationEvent::Step(view));
    }
}
