//! Memory of a forward that is kept for the next one: a step allocates no large buffer. Must never carry a number from
//! one forward to another.

use weir_kernels::packed::Inputs;
use weir_kernels::packed::experts::{ExpertScratch, Visits};
use weir_kernels::packed::head::HeadScratch;
use weir_kernels::route::RouteScratch;

use super::batch::Batch;
use super::clock::Clock;

/// The buffers; what each holds is said where it is filled.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(super) batch: Batch,
    pub(super) x: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) qkv: Vec<f32>,
    pub(super) mixed: Vec<f32>,
    pub(super) out: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    /// Of each lane.
    pub(super) unpacked: Vec<Vec<f32>>,
    pub(super) inputs: Inputs,
    pub(super) routes: Routes,
    pub(super) visits: Visits,
    pub(super) packed: ExpertScratch,
    pub(super) logits: Vec<f32>,
    pub(super) best: Vec<f32>,
    pub(super) seen: HeadScratch,
    /// Logits that were read and came back.
    pub(super) spare: Vec<Vec<f32>>,
    pub(crate) clock: Clock,
}

/// Who visits which expert.
#[derive(Default)]
pub(super) struct Routes {
    /// The router's, `[m, experts]`.
    pub(super) scores: Vec<f32>,
    /// `[m, experts kept, 2]`: expert and weight, [`NOBODY`] where fewer were chosen. An expert's number is small enough
    /// to be exact.
    pub(super) choices: Vec<f32>,
    /// Of each expert.
    pub(super) visits: Vec<usize>,
    pub(super) memory: RouteScratch,
}

/// Stands for no expert.
pub(super) const NOBODY: f32 = -1.0;

impl Scratch {
    /// Goes on with the wanted rows of `x[m, hidden]` and `qkv[m, width]` only.
    pub(super) fn narrow(&mut self, hidden: usize, width: usize) {
        self.batch.narrow([(&mut self.x, hidden), (&mut self.qkv, width)]);
    }
}
