//! What one denoise step did, position by position, for people who watch a model write. Plain data; must never be
//! taken for the answer: what is final comes as [`crate::GenerationEvent::Text`].

/// The blocks that are not final, after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepView {
    /// Denoise steps so far; a block just opened has the number of the step before, the first one 0.
    pub step: u32,
    /// The block being written, from 1 (as [`weir_protocol::DiffusionStats::blocks`] counts).
    pub block: u32,
    /// Index of the first cell in the answer. Older blocks that are still open to edits come before the one being
    /// written; prompt tokens are left out.
    pub start: u32,
    /// One per position, in order.
    pub cells: Vec<Cell>,
}

impl StepView {
    /// Positions of the answer that wait for their first token.
    pub fn masked(&self) -> usize {
        self.cells.iter().filter(|cell| cell.state == CellState::Masked).count()
    }
}

/// One position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Token id; the mask's own where nothing is written.
    pub token: u32,
    /// The token's text by itself; empty for masks and control tokens. Bytes that are no UTF-8 alone are U+FFFD.
    pub text: String,
    /// What happened to it.
    pub state: CellState,
}

/// What happened to a position in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellState {
    /// Nothing is written yet.
    Masked,
    /// Written in this step.
    Fresh,
    /// Holds another token than before this step.
    Edited,
    /// Written before and left as it was.
    Kept,
    /// Left no choice by the form demanded of the answer; written without the model.
    Forced,
    /// Behind the answer's end as it stands, or its token limit: no part of the answer.
    Beyond,
}

impl CellState {
    /// Stable word for trace files.
    pub fn as_str(self) -> &'static str {
        match self {
            CellState::Masked => "masked",
            CellState::Fresh => "fresh",
            CellState::Edited => "edited",
            CellState::Kept => "kept",
            CellState::Forced => "forced",
            CellState::Beyond => "beyond",
        }
    }
}
