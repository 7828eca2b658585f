//! The expert layer's half of a forward: who visits whom, then all visits. Must never know a request.

use std::ops::Range;

use weir_kernels::KernelError;
use weir_kernels::packed::ThreadScratch;
use weir_kernels::packed::experts::{PackedExpert, Visits};
use weir_kernels::route::Choice;

use super::clock::{Clock, Work};
use super::forward::part;
use super::matrix::{Matrix, room};
use super::scratch::{NOBODY, Routes, Scratch};
use super::weights::{Experts, FeedForward, Layer, Mlp, Model};

/// A layer's scores and choices, with their elements per row.
pub(super) struct Routed<'a> {
    pub(super) scores: (&'a mut [f32], usize),
    pub(super) choices: (&'a mut [f32], usize),
}

impl Model {
    /// Whether a layer's experts are chosen for whole blocks: then every token of a block has a say.
    pub(super) fn routes_by_block(&self, layer: &Layer) -> bool {
        matches!(&layer.feed_forward, FeedForward::Experts(experts) if self.routing(experts).capacity.is_some())
    }

    /// Room for what a layer's router says about `m` rows; none where there is no router.
    pub(super) fn routed<'a>(&self, layer: &Layer, m: usize, routes: &'a mut Routes) -> Routed<'a> {
        let (count, kept) = layer.routes();
        Routed {
            scores: (room(&mut routes.scores, m * count), count),
            choices: (room(&mut routes.choices, m * kept), kept),
        }
    }

    /// Writes the choice for each row of `scores[rows, experts]`, unless a block chooses together.
    pub(super) fn choose(&self, experts: &Experts, scores: &[f32], choices: &mut [f32], memory: &mut ThreadScratch) {
        let (bias, routing) = (experts.bias.as_deref(), self.routing(experts));
        if routing.capacity.is_some() {
            return;
        }
        let rows = scores.chunks_exact(experts.experts.len().max(1));
        for (scores, places) in rows.zip(choices.chunks_exact_mut((2 * routing.experts_kept).max(1))) {
            put(memory.route.choose(scores, bias, routing), places);
        }
    }

    /// `scratch.x[m, hidden] += experts(scratch.normed[m, hidden])`. A token adds its experts in ascending order,
    /// whoever else visits them, then the shared one. An f32 router has scored before.
    pub(super) fn experts(&self, experts: &Experts, scratch: &mut Scratch) -> Result<(), KernelError> {
        self.route(experts, scratch)?;
        let Scratch { routes, visits, batch, clock, .. } = &mut *scratch;
        let (m, hidden) = (batch.rows(), self.config.hidden);
        visits.sort(experts.experts.len(), self.visits(experts, &routes.choices, 0..m));
        experts.count(Work::Experts, visits, m, clock);
        match experts.packed {
            true => self.packed_experts(experts, scratch)?,
            false => self.exact_experts(experts, scratch)?,
        }
        let Scratch { x, out, clock, .. } = scratch;
        let (x, out) = (room(x, m * hidden), &*room(out, m * hidden));
        self.compute.products.rows(m, 4 * hidden, [(x, hidden)], |rows, [x], _| {
            self.compute.kernels.add_scaled(x, part(out, rows, hidden), 1.0)
        })?;
        clock.did(Work::Experts);
        Ok(())
    }

    /// The choices that are not made yet: of a packed router, or of a whole block.
    fn route(&self, experts: &Experts, scratch: &mut Scratch) -> Result<(), KernelError> {
        let Scratch { normed, inputs, routes, batch, clock, .. } = scratch;
        let (m, count, routing) = (batch.rows(), experts.experts.len(), self.routing(experts));
        let width = 2 * routing.experts_kept;
        let Routes { scores, choices, memory, .. } = routes;
        let (scores, choices) = (room(scores, m * count), room(choices, m * width));
        if let Matrix::Packed(_) = &experts.router {
            self.compute.linear(room(normed, m * self.config.hidden), m, &experts.router, inputs, scores)?;
            let scores = &*scores;
            self.compute.products.rows(m, 64 * count, [(&mut *choices, width)], |rows, [choices], memory| {
                self.choose(experts, part(scores, rows, count), choices, memory);
                Ok(())
            })?;
        }
        if let Some(capacity) = routing.capacity {
            let bias = experts.bias.as_deref();
            for block in batch.blocks() {
                memory.admit(part(scores, block.clone(), count), count, bias, capacity);
                for token in block.clone() {
                    let chosen = memory.choose_admitted(row(scores, token, count), bias, routing);
                    put(chosen, choices.get_mut(token * width..(token + 1) * width).unwrap_or_default());
                }
            }
        }
        clock.did_with(Work::Router, &experts.router, m);
        Ok(())
    }

    /// `scratch.out[m, hidden]`.
    fn packed_experts(&self, experts: &Experts, scratch: &mut Scratch) -> Result<(), KernelError> {
        let Scratch { normed, out, inputs, visits, packed, batch, .. } = scratch;
        let (m, hidden) = (batch.rows(), self.config.hidden);
        self.compute.products.fill(inputs, room(normed, m * hidden), m, hidden, experts.needs)?;
        if experts.shared.is_some() {
            visits.add(experts.experts.len(), (0..m).map(|token| (token, 1.0)));
        }
        let find = |index: usize| {
            let expert =
                if index == experts.experts.len() { experts.shared.as_ref() } else { experts.experts.get(index) };
            expert.and_then(Mlp::packed)
        };
        self.compute.products.experts(self.compute.kernels, inputs, &find, visits, packed, room(out, m * hidden))
    }

    /// Row, expert and weight of each visit of these rows, rows ascending and counted from the first of them.
    pub(super) fn visits<'a>(
        &self,
        experts: &Experts,
        choices: &'a [f32],
        rows: Range<usize>,
    ) -> impl Iterator<Item = (usize, usize, f32)> + Clone + use<'a> {
        let width = 2 * experts.routing.experts_kept;
        let own = part(choices, rows, width).chunks_exact(width.max(1)).enumerate();
        let pairs = own.flat_map(|(row, own)| own.as_chunks::<2>().0.iter().map(move |pair| (row, *pair)));
        // Written from an index.
        pairs.filter(|(_, [expert, _])| *expert != NOBODY).map(|(row, [expert, weight])| (row, expert as usize, weight))
    }

    /// `scratch.out[m, hidden]`, of experts in any form.
    fn exact_experts(&self, experts: &Experts, scratch: &mut Scratch) -> Result<(), KernelError> {
        let Scratch { normed, out, gate, up, gathered, inputs, visits, batch, .. } = scratch;
        let (kernels, m, hidden) = (self.compute.kernels, batch.rows(), self.config.hidden);
        let (normed, out) = (&*room(normed, m * hidden), room(out, m * hidden));
        let mut visit = |expert: &Mlp, x: &[f32], m: usize, results: &mut [f32]| {
            let (gate, up) = (room(gate, m * expert.gate.n()), room(up, m * expert.gate.n()));
            self.compute.linear(x, m, &expert.gate, inputs, gate)?;
            self.compute.linear(x, m, &expert.up, inputs, up)?;
            kernels.silu_mul(gate, up)?;
            self.compute.linear(gate, m, &expert.down, inputs, results)
        };
        out.fill(0.0);
        for (expert, range) in visits.groups() {
            let Some(expert) = experts.experts.get(expert) else { continue };
            let tokens = visits.tokens(range.clone());
            let (x, results) = room(gathered, 2 * tokens.len() * hidden).split_at_mut(tokens.len() * hidden);
            for (place, token) in x.chunks_exact_mut(hidden).zip(tokens) {
                place.copy_from_slice(row(normed, *token as usize, hidden));
            }
            visit(expert, x, tokens.len(), results)?;
            for ((token, visit), result) in tokens.iter().zip(range).zip(results.chunks_exact(hidden)) {
                let out = out.get_mut(*token as usize * hidden..).and_then(|out| out.get_mut(..hidden));
                kernels.add_scaled(out.unwrap_or_default(), result, visits.weight(visit))?;
            }
        }
        if let Some(shared) = &experts.shared {
            let results = room(gathered, m * hidden);
            visit(shared, normed, m, results)?;
            kernels.add_scaled(out, results, 1.0)?;
        }
        Ok(())
    }
}

fn row(elements: &[f32], at: usize, width: usize) -> &[f32] {
    part(elements, at..at + 1, width)
}

/// Writes a token's choice as pairs.
fn put(chosen: &[Choice], places: &mut [f32]) {
    places.fill(NOBODY);
    for (place, choice) in places.as_chunks_mut().0.iter_mut().zip(chosen) {
        *place = [choice.expert as f32, choice.weight];
    }
}

impl Experts {
    /// What these visits and the shared expert's `m` read and multiply.
    pub(super) fn count(&self, work: Work, visits: &Visits, m: usize, clock: &mut Clock) {
        clock.visited(visits.experts());
        let routed = visits.groups().filter_map(|(expert, visits)| Some((self.experts.get(expert)?, visits.len())));
        for (expert, visits) in routed.chain(self.shared.iter().map(|shared| (shared, m))) {
            expert.matrices().into_iter().for_each(|matrix| clock.count(work, matrix, visits));
        }
    }
}

impl Layer {
    /// All of its matrices.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let (mlps, router): (Vec<&Mlp>, _) = match &self.feed_forward {
            FeedForward::Dense(mlp) => (vec![mlp], None),
            FeedForward::Experts(experts) => {
                (experts.experts.iter().chain(&experts.shared).collect(), Some(&experts.router))
            }
        };
        [&self.qkv, &self.output].into_iter().chain(router).chain(mlps.into_iter().flat_map(Mlp::matrices))
    }

    /// What its router writes for each row: scores, and elements of choices.
    pub(super) fn routes(&self) -> (usize, usize) {
        match &self.feed_forward {
            FeedForward::Experts(experts) => (experts.experts.len(), 2 * experts.routing.experts_kept),
            FeedForward::Dense(_) => (0, 0),
        }
    }
}

impl Mlp {
    /// Gate, up, down.
    pub(super) fn matrices(&self) -> [&Matrix; 3] {
        [&self.gate, &self.up, &self.down]
    }

    /// The packed form, if all of it is.
    pub(super) fn packed(&self) -> Option<PackedExpert<'_>> {
        Some(PackedExpert { gate: self.gate.packed()?, up: self.up.packed()?, down: self.down.packed()? })
    }
}
