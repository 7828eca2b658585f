//! Memory of a forward that is kept for the next one: a step allocates no large buffer. Must never carry a number from
//! one forward to another.

use weir_kernels::packed::Inputs;
use weir_kernels::packed::experts::{ExpertScratch, Visits};
use weir_kernels::packed::head::HeadScratch;

use super::clock::Clock;

/// The buffers; what each holds is said where it is filled.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(super) x: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) qkv: Vec<f32>,
    pub(super) q: Vec<f32>,
    pub(super) mixed: Vec<f32>,
    pub(super) rows: Vec<f32>,
    pub(super) out: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    pub(super) scores: Vec<f32>,
    pub(super) gathered: Vec<f32>,
    pub(super) unpacked: Vec<f32>,
    pub(super) visible: Vec<usize>,
    pub(super) inputs: Inputs,
    /// Of each expert: token, weight.
    pub(super) chosen: Vec<Vec<(usize, f32)>>,
    pub(super) visits: Visits,
    pub(super) packed: ExpertScratch,
    pub(super) logits: Vec<f32>,
    pub(super) seen: HeadScratch,
    pub(crate) clock: Clock,
}
