//! The layers where weights are so small that a thread reads all of them for its own rows: what a row was before lies in
//! that thread's cache, and threads meet once a layer only, where a row needs the keys and values of all others. A product
//! shared out by its weights would make them meet eight times. Must never be used where a block's experts are chosen
//! together.

use std::ops::Range;

use weir_kernels::packed::ThreadScratch;
use weir_kernels::{KernelError, Strided};

use crate::cache::Places;

use super::batch::Batch;
use super::clock::Work;
use super::forward::Lane;
use super::matrix::{SMALL, room};
use super::scratch::{LaneKv, Scratch, Shown};
use super::weights::{Experts, FeedForward, Layer, Mlp, Model};

/// What a run of rows has of each of these.
struct Own<'a> {
    x: &'a mut [f32],
    normed: &'a mut [f32],
    qkv: &'a mut [f32],
    mixed: &'a mut [f32],
    out: &'a mut [f32],
    scores: &'a mut [f32],
    choices: &'a mut [f32],
}

impl Model {
    /// Whether the layers are made so.
    pub(super) fn may_go_by_rows(&self) -> bool {
        self.layers.iter().all(|layer| {
            let packed = layer.matrices().filter_map(|matrix| matrix.packed());
            packed.map(|packed| packed.bytes().len()).sum::<usize>() <= SMALL && !self.routes_by_block(layer)
        })
    }

    /// [`Model::layers`], row by row.
    pub(super) fn by_rows(&self, lanes: &mut [Lane<'_>], scratch: &mut Scratch) -> Result<(), KernelError> {
        let hidden = self.config.hidden;
        let mut before: Option<&Layer> = None;
        for (index, layer) in self.layers.iter().map(Some).chain([None]).enumerate() {
            if let (Some(before), None) = (before, layer) {
                // Only K/V was needed of the others.
                scratch.narrow(hidden, before.qkv.n());
            }
            if scratch.batch.rows() == 0 {
                break;
            }
            self.section(index, [before, layer], lanes, scratch)?;
            self.count([before, layer], scratch);
            before = layer;
        }
        Ok(())
    }

    /// All that lies between two meetings: the layer before from its attention on, and the next one up to its keys and
    /// values.
    fn section(
        &self,
        index: usize,
        [before, after]: [Option<&Layer>; 2],
        lanes: &mut [Lane<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), KernelError> {
        let shape = self.kv_shape().attention;
        let (hidden, q_width) = (self.config.hidden, shape.heads * shape.head_dim);
        let kv_width = shape.kv_heads * shape.head_dim;
        let Scratch { x, normed, qkv, mixed, out, shown: kept, batch, routes, .. } = scratch;
        let m = batch.rows();
        let width = before.or(after).map_or(0, |layer| layer.qkv.n());
        let (x, normed, out) = (room(x, m * hidden), room(normed, m * hidden), room(out, m * hidden));
        let (qkv, mixed) = (room(qkv, m * width), room(mixed, m * q_width));
        let (read, memory) = (before.and(index.checked_sub(1)), std::mem::take(kept));
        let shown = match (read, after) {
            (Some(read), None) => Shown::layer(memory, read, lanes, batch),
            _ => Shown::layers(memory, (read, index), lanes, batch),
        };
        let (experts, chosen) = before.map_or((0, 0), Layer::routes);
        let scores = room(&mut routes.scores, m * experts);
        let choices = room(&mut routes.choices, m * chosen);
        let outputs = [
            (x, hidden),
            (normed, hidden),
            (qkv, width),
            (mixed, q_width),
            (out, hidden),
            (scores, experts),
            (choices, chosen),
        ];
        let cost = [before, after].into_iter().flatten().map(|layer| layer.qkv.n() * hidden).sum::<usize>();
        self.compute.products.rows(
            m,
            cost,
            outputs,
            |rows, [x, normed, qkv, mixed, out, scores, choices], memory| {
                let mut own = Own { x, normed, qkv, mixed, out, scores, choices };
                match before {
                    Some(layer) => {
                        self.attend(layer, &shown, batch, rows.clone(), &mut own, memory)?;
                        match &layer.feed_forward {
                            FeedForward::Dense(mlp) => self.dense(mlp, rows.len(), &mut own, memory)?,
                            FeedForward::Experts(experts) => self.visit_all(experts, rows.len(), &mut own, memory)?,
                        }
                    }
                    None => {
                        let tokens = batch.tokens().get(rows.clone()).unwrap_or_default();
                        for (token, row) in tokens.iter().zip(own.x.chunks_exact_mut(hidden)) {
                            self.embeddings.row(*token as usize, row)?;
                        }
                    }
                }
                let Some(layer) = after else { return Ok(()) };
                let Own { x, normed, qkv, .. } = own;
                self.compute.kernels.rms_norm(x, &layer.attention_norm, self.config.norm_eps, normed)?;
                self.compute.alone(normed, rows.len(), &mut memory.alone, [(&layer.qkv, &mut *qkv)])?;
                self.turn(layer, batch, rows.clone(), qkv)?;
                let from = |at: usize| Strided { elements: qkv.get(at..).unwrap_or_default(), stride: width };
                for LaneKv { rows: lane, places: pages, .. } in shown.lanes() {
                    let places = Places { shape: self.kv_shape(), pages };
                    for (row, positions) in batch.runs(shared(&lane, &rows)) {
                        let keys = (row - rows.start) * width + q_width;
                        places.write(positions, from(keys), from(keys + kv_width));
                    }
                }
                Ok(())
            },
        )?;
        *kept = shown.emptied();
        Ok(())
    }

    /// Attention, its output matrix, the residual sum, its norm, and the choice of experts.
    fn attend(
        &self,
        layer: &Layer,
        shown: &Shown<'_>,
        batch: &Batch,
        rows: Range<usize>,
        own: &mut Own<'_>,
        memory: &mut ThreadScratch,
    ) -> Result<(), KernelError> {
        let shape = self.kv_shape().attention;
        let (compute, q_width, stride) = (&self.compute, shape.heads * shape.head_dim, layer.qkv.n());
        for LaneKv { rows: lane, panels, .. } in shown.lanes() {
            let lane = shared(&lane, &rows);
            if lane.is_empty() {
                continue;
            }
            let at = lane.start - rows.start..lane.end - rows.start;
            let q = Strided { elements: &*own.qkv, stride }.skip(at.start);
            let visible = batch.visible().get(lane).unwrap_or_default();
            let mixed = own.mixed.get_mut(at.start * q_width..at.end * q_width).unwrap_or_default();
            compute.kernels.attention(shape, q, panels, visible.into(), mixed)?;
        }
        compute.alone(own.mixed, rows.len(), &mut memory.alone, [(&layer.output, &mut *own.out)])?;
        compute.kernels.add_scaled(own.x, own.out, 1.0)?;
        compute.kernels.rms_norm(own.x, &layer.feed_forward_norm, self.config.norm_eps, own.normed)?;
        let FeedForward::Experts(experts) = &layer.feed_forward else { return Ok(()) };
        compute.alone(own.normed, rows.len(), &mut memory.alone, [(&experts.router, &mut *own.scores)])?;
        self.choose(experts, own.scores, own.choices, memory);
        Ok(())
    }

    /// `x += mlp(normed)`.
    fn dense(&self, mlp: &Mlp, rows: usize, own: &mut Own<'_>, memory: &mut ThreadScratch) -> Result<(), KernelError> {
        self.run(mlp, own.normed, rows, memory, own.out)?;
        self.compute.kernels.add_scaled(own.x, own.out, 1.0)
    }

    /// `x += experts(normed)`: a row adds its experts in ascending order, then the shared one.
    fn visit_all(
        &self,
        experts: &Experts,
        rows: usize,
        own: &mut Own<'_>,
        memory: &mut ThreadScratch,
    ) -> Result<(), KernelError> {
        let (kernels, hidden) = (self.compute.kernels, self.config.hidden);
        let Own { x, normed, out, choices, .. } = own;
        out.fill(0.0);
        let mut visits = std::mem::take(&mut memory.visits);
        visits.sort(experts.experts.len(), self.visits(experts, choices, 0..rows));
        let mut gathered = std::mem::take(&mut memory.gathered);
        for (expert, range) in visits.groups() {
            let Some(expert) = experts.experts.get(expert) else { continue };
            let tokens = visits.tokens(range.clone());
            let (gathered, results) =
                room(&mut gathered, 2 * tokens.len() * hidden).split_at_mut(tokens.len() * hidden);
            for (place, token) in gathered.chunks_exact_mut(hidden).zip(tokens) {
                let row = normed.chunks_exact(hidden).nth(*token as usize);
                place.copy_from_slice(row.unwrap_or_default());
            }
            self.run(expert, gathered, tokens.len(), memory, results)?;
            for ((token, visit), result) in tokens.iter().zip(range).zip(results.chunks_exact(hidden)) {
                let out = out.chunks_exact_mut(hidden).nth(*token as usize);
                kernels.add_scaled(out.unwrap_or_default(), result, visits.weight(visit))?;
            }
        }
        if let Some(shared) = &experts.shared {
            let results = room(&mut gathered, rows * hidden);
            self.run(shared, normed, rows, memory, results)?;
            kernels.add_scaled(out, results, 1.0)?;
        }
        (memory.visits, memory.gathered) = (visits, gathered);
        kernels.add_scaled(x, out, 1.0)
    }

    /// `out[rows, hidden] = down(silu(gate x) * up x)`, by this thread alone.
    fn run(
        &self,
        mlp: &Mlp,
        x: &[f32],
        rows: usize,
        memory: &mut ThreadScratch,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let length = rows * mlp.gate.n();
        let mut alone = std::mem::take(&mut memory.alone);
        let [gate, up] = memory.buffers([length, length]);
        self.compute.alone(x, rows, &mut alone, [(&mlp.gate, &mut *gate), (&mlp.up, &mut *up)])?;
        self.compute.kernels.silu_mul(gate, up)?;
        self.compute.alone(gate, rows, &mut alone, [(&mlp.down, out)])?;
        memory.alone = alone;
        Ok(())
    }

    /// What a section read and multiplied.
    fn count(&self, [before, after]: [Option<&Layer>; 2], scratch: &mut Scratch) {
        let Scratch { routes, batch, visits, clock, .. } = scratch;
        let m = batch.rows();
        if let Some(layer) = after {
            clock.count(Work::Rows, &layer.qkv, m);
        }
        if let Some(layer) = before {
            clock.count(Work::Rows, &layer.output, m);
            match &layer.feed_forward {
                FeedForward::Dense(mlp) => {
                    mlp.matrices().into_iter().for_each(|matrix| clock.count(Work::Rows, matrix, m))
                }
                FeedForward::Experts(experts) => {
                    visits.sort(experts.experts.len(), self.visits(experts, &routes.choices, 0..m));
                    experts.count(Work::Rows, visits, m, clock);
                }
            }
        }
        clock.did(Work::Rows);
    }
}

/// Rows that are in both.
fn shared(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}
