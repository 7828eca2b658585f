//! Memory of a forward that is kept for the next one: a step allocates no large buffer. Must never carry a number from
//! one forward to another.

use std::ops::Range;

use weir_kernels::KvPanel;
use weir_kernels::packed::Inputs;
use weir_kernels::packed::experts::{ExpertScratch, Visits};
use weir_kernels::packed::head::HeadScratch;
use weir_kernels::route::RouteScratch;

use crate::cache::Places;

use super::batch::Batch;
use super::clock::Clock;
use super::forward::Lane;

/// The buffers; what each holds is said where it is filled.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) batch: Batch,
    pub(crate) x: Vec<f32>,
    pub(crate) normed: Vec<f32>,
    pub(crate) qkv: Vec<f32>,
    pub(crate) mixed: Vec<f32>,
    pub(crate) out: Vec<f32>,
    pub(crate) gate: Vec<f32>,
    pub(crate) up: Vec<f32>,
    pub(crate) unpacked: Unpacked,
    pub(crate) inputs: Inputs,
    pub(crate) routes: Routes,
    pub(crate) visits: Visits,
    pub(crate) packed: ExpertScratch,
    pub(crate) logits: Vec<f32>,
    pub(crate) best: Vec<f32>,
    pub(crate) seen: HeadScratch,
    /// Logits that were read and came back.
    pub(crate) spare: Vec<Vec<f32>>,
    pub(crate) clock: Clock,
}

/// Who visits which expert.
#[derive(Default)]
pub(crate) struct Routes {
    /// The router's, `[m, experts]`.
    pub(crate) scores: Vec<f32>,
    /// `[m, experts kept, 2]`: expert and weight, [`NOBODY`] where fewer were chosen. An expert's number is small enough
    /// to be exact.
    pub(crate) choices: Vec<f32>,
    pub(crate) memory: RouteScratch,
}

/// Each lane's K/V as the maths reads it, where its pages hold it otherwise.
#[derive(Default)]
pub(crate) struct Unpacked(Vec<Vec<f32>>);

impl Unpacked {
    /// Memory of each of `count` lanes.
    fn of(&mut self, count: usize) -> &mut [Vec<f32>] {
        if self.0.len() < count {
            self.0.resize_with(count, Vec::new);
        }
        &mut self.0
    }

    /// Of each lane, its rows in `batch` and its K/V of one layer, up to its last token.
    pub(crate) fn lanes<'a>(
        &'a mut self,
        layer: usize,
        lanes: &'a [Lane<'_>],
        batch: &'a Batch,
    ) -> impl Iterator<Item = (Range<usize>, Vec<KvPanel<'a>>)> {
        let panels =
            lanes.iter().zip(self.of(lanes.len())).map(move |(lane, own)| lane.cache.panels(layer, lane.end(), own));
        batch.lanes().zip(panels)
    }

    /// Of each lane, its rows in `batch`, the position of the first, its K/V of layer `read`, and the places of layer
    /// `write`, the next one.
    pub(crate) fn layers<'a>(
        &'a mut self,
        [read, write]: [Option<usize>; 2],
        lanes: &'a mut [Lane<'_>],
        batch: &'a Batch,
    ) -> impl Iterator<Item = (Range<usize>, usize, (Vec<KvPanel<'a>>, Option<Places<'a>>))> {
        let count = lanes.len();
        let both = lanes.iter_mut().zip(self.of(count)).map(move |(lane, own)| {
            let (start, end) = (lane.cache.committed(), lane.end());
            match (read, write) {
                (Some(read), None) => (start, (lane.cache.panels(read, end, own), None)),
                (read, write) => {
                    let (panels, places) = lane.cache.layers(read, write.unwrap_or_default(), end, own);
                    (start, (panels, Some(places)))
                }
            }
        });
        batch.lanes().zip(both).map(|(rows, (start, both))| (rows, start, both))
    }
}

/// Stands for no expert.
pub(crate) const NOBODY: f32 = -1.0;

/// Requests whose logits are kept for the next forward.
const SPARE: usize = 8;

impl Scratch {
    /// Takes logits back that were read.
    pub(crate) fn take_back(&mut self, logits: impl Iterator<Item = Vec<f32>>) {
        let room = SPARE.saturating_sub(self.spare.len());
        self.spare.extend(logits.filter(|logits| !logits.is_empty()).take(room));
    }

    /// Goes on with the wanted rows of `x[m, hidden]` and `qkv[m, width]` only.
    pub(crate) fn narrow(&mut self, hidden: usize, width: usize) {
        self.batch.narrow([(&mut self.x, hidden), (&mut self.qkv, width)]);
    }
}
