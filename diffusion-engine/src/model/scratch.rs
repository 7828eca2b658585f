//! Memory of a forward that is kept for the next one: a step allocates nothing. Must never carry a number from one
//! forward to another.

use std::ops::Range;

use weir_kernels::KvPanel;
use weir_kernels::packed::Inputs;
use weir_kernels::packed::experts::{ExpertScratch, Visits};
use weir_kernels::packed::head::HeadScratch;
use weir_kernels::route::RouteScratch;

use crate::cache::Place;

use super::batch::Batch;
use super::clock::Clock;
use super::forward::Lane;
use super::head::Predictions;

/// The buffers; what each holds is said where it is filled.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) batch: Batch,
    pub(crate) x: Vec<f32>,
    pub(crate) normed: Vec<f32>,
    pub(crate) qkv: Vec<f32>,
    pub(crate) mixed: Vec<f32>,
    pub(crate) unjoined: Vec<f32>,
    pub(crate) out: Vec<f32>,
    pub(crate) gate: Vec<f32>,
    pub(crate) up: Vec<f32>,
    pub(crate) shown: Shown<'static>,
    pub(crate) inputs: Inputs,
    pub(crate) routes: Routes,
    pub(crate) visits: Visits,
    pub(crate) packed: ExpertScratch,
    pub(crate) logits: Vec<f32>,
    pub(crate) best: Vec<f32>,
    pub(crate) seen: HeadScratch,
    pub(crate) gathered: Vec<f32>,
    /// Those of the forward before, when they were read.
    pub(crate) spare: Predictions,
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

/// All lanes' K/V of a layer, and the places of the next one.
#[derive(Default)]
pub(crate) struct Shown<'a> {
    lanes: Vec<Own>,
    panels: Vec<KvPanel<'a>>,
    places: Vec<Place<'a>>,
}

/// What one lane has of the lists, and its rows in the batch.
struct Own {
    rows: Range<usize>,
    panels: Range<usize>,
    places: Range<usize>,
}

/// One lane's.
pub(crate) struct LaneKv<'s, 'a> {
    /// Its rows in the batch.
    pub(crate) rows: Range<usize>,
    /// Of the layer that is read, up to its last token.
    pub(crate) panels: &'s [KvPanel<'a>],
    /// Of its pages in the layer that is written.
    pub(crate) places: &'s [Place<'a>],
}

impl<'a> Shown<'a> {
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneKv<'_, 'a>> {
        self.lanes.iter().map(|own| LaneKv {
            rows: own.rows.clone(),
            panels: self.panels.get(own.panels.clone()).unwrap_or_default(),
            places: self.places.get(own.places.clone()).unwrap_or_default(),
        })
    }

    /// The lanes' K/V of one layer, in the memory of `before`.
    pub(crate) fn layer(before: Shown<'_>, layer: usize, lanes: &'a [Lane<'_>], batch: &Batch) -> Self {
        let mut shown = before.emptied();
        for (lane, rows) in lanes.iter().zip(batch.lanes()) {
            let panels = shown.panels.len();
            lane.cache.panels(layer, lane.end(), &mut shown.panels);
            shown.lanes.push(Own { rows, panels: panels..shown.panels.len(), places: 0..0 });
        }
        shown
    }

    /// The lanes' K/V of layer `read`, if asked for, and the places of layer `write`, the next one, in the memory of
    /// `before`.
    pub(crate) fn layers(
        before: Shown<'_>,
        (read, write): (Option<usize>, usize),
        lanes: &'a mut [Lane<'_>],
        batch: &Batch,
    ) -> Self {
        let mut shown = before.emptied();
        for (lane, rows) in lanes.iter_mut().zip(batch.lanes()) {
            let (panels, places) = (shown.panels.len(), shown.places.len());
            let end = lane.end();
            lane.cache.layers(read, write, end, (&mut shown.panels, &mut shown.places));
            let (panels, places) = (panels..shown.panels.len(), places..shown.places.len());
            shown.lanes.push(Own { rows, panels, places });
        }
        shown
    }

    /// An empty one in the same memory.
    pub(crate) fn emptied<'b>(self) -> Shown<'b> {
        let Shown { mut lanes, panels, places } = self;
        lanes.clear();
        Shown { lanes, panels: emptied(panels), places: emptied(places) }
    }
}

/// An empty list in the memory of `list`, whose elements may borrow from elsewhere: collecting into the list that is
/// gone through takes no memory (the engine's test of allocations holds the standard library to it).
pub(crate) fn emptied<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    list.into_iter().filter_map(|_| None).collect()
}

/// Stands for no expert.
pub(crate) const NOBODY: f32 = -1.0;

impl Scratch {
    /// Goes on with the wanted rows of `x[m, hidden]` and `qkv[m, width]` only.
    pub(crate) fn narrow(&mut self, hidden: usize, width: usize) {
        self.batch.narrow([(&mut self.x, hidden), (&mut self.qkv, width)]);
    }
}
