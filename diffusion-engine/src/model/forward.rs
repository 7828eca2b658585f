//! One forward of several requests' active tokens at once (report §2; shapes beside each line). Linear layers and
//! experts see all tokens as one batch, attention runs per request; no token's result depends on another request.
//! Must never write to committed positions of a cache.

use std::ops::Range;
use std::sync::PoisonError;

use weir_kernels::kernels::rope;
use weir_kernels::packed::ThreadScratch;
use weir_kernels::{KernelError, Strided};

use crate::cache::KvCache;

use super::batch::Batch;
use super::clock::Work;
use super::head::{Head, Predictions, Wanted};
use super::matrix::{Matrix, room};
use super::scratch::{LaneKv, Scratch, Shown};
use super::weights::{FeedForward, Layer, Mlp, Model};

/// Which positions a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// All up to its own.
    Causal,
    /// All up to the end of its own block; blocks of this length tile from position 0.
    Blocks(usize),
    /// The same, but from position `from` on there is one large block.
    Window { length: usize, from: usize },
}

impl Visibility {
    /// How many positions the token at `position` sees when positions below `end` exist.
    pub(crate) fn visible(self, position: usize, end: usize) -> usize {
        match self {
            Visibility::Causal => position + 1,
            Visibility::Window { from, .. } if position >= from => end,
            Visibility::Blocks(length) | Visibility::Window { length, .. } => {
                ((position / length + 1) * length).min(end)
            }
        }
    }

    /// Where the block of `position` ends; a token of a causal model is its own.
    pub(super) fn block_end(self, position: usize) -> usize {
        match self {
            Visibility::Causal => position + 1,
            Visibility::Blocks(length) | Visibility::Window { length, .. } => (position / length + 1) * length,
        }
    }
}

/// One request's part of a forward.
pub(crate) struct Lane<'a> {
    /// Tokens at the positions that follow the committed ones.
    pub(crate) tokens: &'a [u32],
    /// Which of them are computed, ascending, all that are asked about among them. What the cache holds of the others is
    /// of an earlier forward, and good enough. `None`: all.
    pub(crate) computed: Option<&'a [usize]>,
    /// Predictions are wanted from this token on; `tokens.len()` for none.
    pub(crate) logits_from: usize,
    /// Of which of them, and what.
    pub(crate) wanted: Wanted<'a>,
    pub(crate) cache: &'a mut KvCache,
    /// What its tokens see: requests may differ in their block length.
    pub(crate) visibility: Visibility,
}

impl Lane<'_> {
    /// The position behind its last token.
    pub(crate) fn end(&self) -> usize {
        self.cache.committed() + self.tokens.len()
    }
}

impl Model {
    /// Runs all lanes and returns what each one wanted. Afterwards each cache holds the
    /// K/V of its lane's tokens behind the committed positions; the caller commits those that are final.
    pub(crate) fn forward(&self, lanes: &mut [Lane<'_>]) -> Result<Predictions, KernelError> {
        // A forward that panicked leaves memory that the next one fills anew.
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = &mut *scratch;
        scratch.clock.begin();
        self.layers(lanes, scratch)?;
        let head = Head { compute: &self.compute, norm: &self.norm, eps: self.config.norm_eps, matrix: &self.head };
        let predictions = head.predict(lanes, scratch);
        scratch.clock.did(Work::Head);
        predictions
    }

    /// Takes predictions back that were read, for the next forward.
    pub(crate) fn take_back(&self, predictions: Predictions) {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).spare = predictions;
    }

    /// Everything before the final norm: the result is `scratch.x`, `[wanted rows, hidden]`.
    fn layers(&self, lanes: &mut [Lane<'_>], scratch: &mut Scratch) -> Result<(), KernelError> {
        let hidden = self.config.hidden;
        for lane in &mut *lanes {
            lane.cache.reserve(lane.end())?;
        }
        scratch.batch.begin(lanes, std::slice::from_ref(&self.rope))?;
        if self.rowwise {
            self.by_rows(lanes, scratch)?;
            scratch.narrow(hidden, 0);
            return Ok(());
        }
        let mut rows = room(&mut scratch.x, scratch.batch.rows() * hidden).chunks_exact_mut(hidden);
        for (token, row) in scratch.batch.tokens().iter().zip(&mut rows) {
            self.embeddings.row(*token as usize, row)?;
        }
        scratch.clock.did(Work::Rest);
        for (index, layer) in self.layers.iter().enumerate() {
            self.projections(layer, scratch)?;
            self.keep(index, lanes, scratch);
            if index + 1 == self.layers.len() && !self.routes_by_block(layer) {
                // Only K/V is needed of the others from here on.
                scratch.narrow(hidden, layer.qkv.n());
            }
            if scratch.batch.rows() == 0 {
                break;
            }
            self.attention(index, layer, lanes, scratch)?;
            match &layer.feed_forward {
                FeedForward::Dense(mlp) => self.mlp(mlp, scratch)?,
                FeedForward::Experts(experts) => self.experts(experts, scratch)?,
            }
        }
        scratch.narrow(hidden, 0);
        Ok(())
    }

    /// `scratch.x[m, hidden]` → `scratch.qkv[m, (heads + 2 kv_heads) * d]`: queries, keys and values, normed and turned.
    fn projections(&self, layer: &Layer, scratch: &mut Scratch) -> Result<(), KernelError> {
        let (kernels, products) = (self.compute.kernels, self.compute.products);
        let (eps, hidden) = (self.config.norm_eps, self.config.hidden);
        let Scratch { x, normed, qkv, inputs, batch, clock, .. } = scratch;
        let (m, width) = (batch.rows(), layer.qkv.n());
        let (x, normed, qkv) = (&*room(x, m * hidden), room(normed, m * hidden), room(qkv, m * width));
        products.rows(m, 4 * hidden, [(&mut *normed, hidden)], |rows, [normed], _| {
            kernels.rms_norm(part(x, rows, hidden), &layer.attention_norm, eps, normed)
        })?;
        clock.did(Work::Rest);
        self.compute.linear(normed, m, &layer.qkv, inputs, qkv)?;
        clock.did_with(Work::Projections, &layer.qkv, m);
        products.rows(m, 4 * width, [(qkv, width)], |rows, [qkv], _| self.turn(layer, batch, rows, qkv))?;
        clock.did(Work::Rest);
        Ok(())
    }

    /// Norms and turns the queries and keys of these rows.
    pub(super) fn turn(
        &self,
        layer: &Layer,
        batch: &Batch,
        rows: Range<usize>,
        qkv: &mut [f32],
    ) -> Result<(), KernelError> {
        let shape = self.kv_shape().attention;
        let (kernels, eps, d) = (self.compute.kernels, self.config.norm_eps, shape.head_dim);
        for (row, qkv) in rows.zip(qkv.chunks_exact_mut(layer.qkv.n())) {
            let (queries, rest) = qkv.split_at_mut(shape.heads * d);
            let keys = rest.get_mut(..shape.kv_heads * d).unwrap_or_default();
            let (cos, sin) = batch.angles(0, row);
            kernels.rms_norm_in_place(queries, &layer.query_norm, eps)?;
            kernels.rms_norm_in_place(keys, &layer.key_norm, eps)?;
            rope(queries, d, cos, sin)?;
            rope(keys, d, cos, sin)?;
        }
        Ok(())
    }

    /// Writes this layer's K/V into the caches.
    pub(super) fn keep(&self, index: usize, lanes: &mut [Lane<'_>], scratch: &mut Scratch) {
        let shape = self.kv_shape().attention;
        let (q_width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let width = q_width + 2 * kv_width;
        let Scratch { qkv, batch, clock, .. } = scratch;
        let qkv = &*room(qkv, batch.rows() * width);
        let from = |at: usize| Strided { elements: qkv.get(at..).unwrap_or_default(), stride: width };
        for (lane, rows) in lanes.iter_mut().zip(batch.lanes()) {
            for (row, positions) in batch.runs(rows) {
                let keys = row * width + q_width;
                lane.cache.write(index, positions, from(keys), from(keys + kv_width));
            }
        }
        clock.did(Work::Rest);
    }

    /// Attention, its output matrix and the residual sum: `scratch.x[m, hidden]`, and its norm in `scratch.normed`.
    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        lanes: &[Lane<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), KernelError> {
        let shape = self.kv_shape().attention;
        let (kernels, products) = (self.compute.kernels, self.compute.products);
        let (hidden, q_width, width) = (self.config.hidden, shape.heads * shape.head_dim, layer.qkv.n());
        let Scratch { x, normed, qkv, mixed, unjoined, out, inputs, shown: kept, batch, routes, clock, .. } = scratch;
        let m = batch.rows();
        let (qkv, mixed) = (&*room(qkv, m * width), room(mixed, m * q_width));
        let (x, normed, out) = (room(x, m * hidden), room(normed, m * hidden), room(out, m * hidden));
        let routed = self.routed(layer, m, routes);
        let shown = Shown::layer(std::mem::take(kept), index, lanes, batch);
        let q = Strided { elements: qkv, stride: width };
        for LaneKv { rows, panels, .. } in shown.lanes() {
            let to = rows.start * q_width..rows.end * q_width;
            let (q, visible) = (q.skip(rows.start), batch.visible().get(rows).unwrap_or_default());
            let mixed = mixed.get_mut(to).unwrap_or_default();
            products.attention(kernels, shape, q, panels, visible.into(), unjoined, mixed)?;
        }
        *kept = shown.emptied();
        clock.did(Work::Attention);
        self.compute.linear(mixed, m, &layer.output, inputs, out)?;
        clock.did_with(Work::Projections, &layer.output, m);
        let out = &*out;
        let outputs = [(x, hidden), (normed, hidden), routed.scores, routed.choices];
        products.rows(m, 8 * hidden, outputs, |rows, [x, normed, scores, choices], memory| {
            kernels.add_scaled(x, part(out, rows.clone(), hidden), 1.0)?;
            kernels.rms_norm(x, &layer.feed_forward_norm, self.config.norm_eps, normed)?;
            self.score(layer, normed, rows.len(), scores, choices, memory)
        })?;
        clock.did(Work::Rest);
        Ok(())
    }

    /// `scratch.x[m, hidden] += mlp(scratch.normed[m, hidden])`.
    fn mlp(&self, mlp: &Mlp, scratch: &mut Scratch) -> Result<(), KernelError> {
        let Scratch { x, normed, gate, up, out, inputs, batch, clock, .. } = scratch;
        let (kernels, m, width, hidden) = (self.compute.kernels, batch.rows(), mlp.gate.n(), self.config.hidden);
        let (x, normed, out) = (room(x, m * hidden), &*room(normed, m * hidden), room(out, m * hidden));
        let (gate, up) = (room(gate, m * width), room(up, m * width));
        self.compute.linears(normed, m, inputs, [(&mlp.gate, &mut *gate), (&mlp.up, &mut *up)])?;
        kernels.silu_mul(gate, up)?;
        self.compute.linear(gate, m, &mlp.down, inputs, out)?;
        kernels.add_scaled(x, out, 1.0)?;
        [&mlp.gate, &mlp.up].into_iter().for_each(|matrix| clock.count(Work::Dense, matrix, m));
        clock.did_with(Work::Dense, &mlp.down, m);
        Ok(())
    }

    /// Scores and choice of experts for these rows, where the layer has experts whose router is f32 and free to choose.
    fn score(
        &self,
        layer: &Layer,
        normed: &[f32],
        rows: usize,
        scores: &mut [f32],
        choices: &mut [f32],
        memory: &mut ThreadScratch,
    ) -> Result<(), KernelError> {
        let FeedForward::Experts(experts) = &layer.feed_forward else { return Ok(()) };
        let Matrix::Exact(router) = &experts.router else { return Ok(()) };
        self.compute.kernels.linear(normed, rows, router, scores)?;
        self.choose(experts, scores, choices, memory);
        Ok(())
    }
}

/// These rows of `elements`.
pub(crate) fn part(elements: &[f32], rows: Range<usize>, width: usize) -> &[f32] {
    elements.get(rows.start * width..rows.end * width).unwrap_or_default()
}
