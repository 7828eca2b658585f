//! One forward of several requests' tokens: products see all tokens as one batch, attention runs per request. Shapes
//! beside each step. Must never write to committed positions of a cache.

use std::sync::{MutexGuard, PoisonError};

use weir_kernels::kernels::rope;
use weir_kernels::{AttentionShape, KernelError, Strided, Visible};

use crate::model::batch::Batch;
use crate::model::forward::{Lane, part};
use crate::model::head::{Head, Predictions};
use crate::model::matrix::room;
use crate::model::scratch::{LaneKv, Scratch, Shown};

use super::weights::{DenseModel, Layer, Projection};

/// Multiplications that an element of a gate is worth: its activation is an exponential.
const ACTIVATION: usize = 32;

impl DenseModel {
    /// Runs all lanes and returns what each one wanted. Afterwards each cache holds the K/V of its lane's tokens behind
    /// the committed positions; the caller commits those that are final.
    pub(crate) fn forward(&self, lanes: &mut [Lane<'_>]) -> Result<Predictions, KernelError> {
        let mut scratch = self.memory();
        let scratch = &mut *scratch;
        self.layers(lanes, scratch)?;
        let Self { compute, norm, head, .. } = self;
        Head { compute, norm, eps: self.config.norm_eps, matrix: head }.predict(lanes, scratch)
    }

    /// Takes predictions back that were read, for the next forward.
    pub(crate) fn take_back(&self, predictions: Predictions) {
        self.memory().spare = predictions;
    }

    fn memory(&self) -> MutexGuard<'_, Scratch> {
        // A forward that panicked leaves memory that the next one fills anew.
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything before the final norm: the result is `scratch.x`, `[wanted rows, hidden]`.
    fn layers(&self, lanes: &mut [Lane<'_>], scratch: &mut Scratch) -> Result<(), KernelError> {
        let (hidden, shape) = (self.config.hidden, self.kv_shape().attention);
        for lane in &mut *lanes {
            lane.cache.reserve(lane.end())?;
        }
        scratch.batch.begin(lanes, &self.ropes)?;
        let mut rows = room(&mut scratch.x, scratch.batch.rows() * hidden).chunks_exact_mut(hidden);
        for (token, row) in scratch.batch.tokens().iter().zip(&mut rows) {
            self.embeddings.row(*token as usize, row)?;
            row.iter_mut().for_each(|value| *value *= self.dense.embedding_scale);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            self.projections(index, layer, scratch)?;
            keep(shape, index, lanes, scratch);
            if index + 1 == self.layers.len() {
                // Only K/V is needed of the others from here on.
                scratch.narrow(hidden, shape.heads * shape.head_dim);
            }
            if scratch.batch.rows() == 0 {
                break;
            }
            self.attention(index, layer, lanes, scratch)?;
            self.feed_forward(layer, scratch)?;
        }
        Ok(())
    }

    /// Which of [`DenseModel::ropes`] turns a layer's heads.
    fn rope(&self, layer: usize) -> usize {
        usize::from(self.dense.window.and_then(|window| window.of_layer(layer)).is_some())
    }

    /// `scratch.x[m, hidden]` → queries in `scratch.qkv[m, heads * d]`, keys in `scratch.gate` and values in `scratch.up`,
    /// `[m, kv_heads * d]` each: with their biases, normed and turned.
    fn projections(&self, index: usize, layer: &Layer, scratch: &mut Scratch) -> Result<(), KernelError> {
        self.norm_rows(&layer.attention_norm, scratch)?;
        let Scratch { normed, qkv, gate, up, inputs, batch, .. } = scratch;
        let m = batch.rows();
        let [query, key, value] = [&layer.query, &layer.key, &layer.value];
        let [width, kv_width] = [query.matrix.n(), key.matrix.n()];
        let normed = room(normed, m * self.config.hidden);
        let (q, k, v) = (room(qkv, m * width), room(gate, m * kv_width), room(up, m * kv_width));
        let outputs = [(&query.matrix, &mut *q), (&key.matrix, &mut *k), (&value.matrix, &mut *v)];
        self.compute.linears(normed, m, inputs, outputs)?;
        let outputs = [(q, width), (k, kv_width), (v, kv_width)];
        self.compute.products.rows(m, 4 * (width + kv_width), outputs, |rows, [q, k, v], _| {
            for (at, row) in rows.enumerate() {
                let own = |elements: &mut [f32], width: usize, projection: &Projection, turns: bool| {
                    let heads = elements.get_mut(at * width..(at + 1) * width).unwrap_or_default();
                    self.finish(projection, heads, turns.then_some((self.rope(index), row)), batch)
                };
                own(q, width, query, true)?;
                own(k, kv_width, key, true)?;
                own(v, kv_width, value, false)?;
            }
            Ok(())
        })
    }

    /// Bias and norm of one row's heads, and their turning by rope and row where they are given.
    fn finish(
        &self,
        own: &Projection,
        heads: &mut [f32],
        turn: Option<(usize, usize)>,
        batch: &Batch,
    ) -> Result<(), KernelError> {
        if let Some(bias) = &own.bias {
            self.compute.kernels.add_scaled(heads, bias, 1.0)?;
        }
        if let Some(norm) = &own.norm {
            self.compute.kernels.rms_norm_in_place(heads, norm, self.config.norm_eps)?;
        }
        let Some((own, row)) = turn else { return Ok(()) };
        let (cos, sin) = batch.angles(own, row);
        rope(heads, self.config.head_dim, cos, sin)
    }

    /// `scratch.x[m, hidden] += attention`, `scratch.qkv` being the queries.
    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        lanes: &[Lane<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), KernelError> {
        let shape = self.kv_shape().attention;
        let products = self.compute.products;
        let width = shape.heads * shape.head_dim;
        let window = self.dense.window.and_then(|window| window.of_layer(index)).map(|window| window.positions);
        let Scratch { qkv, mixed, unjoined, out, inputs, shown: kept, batch, .. } = &mut *scratch;
        let m = batch.rows();
        let (q, mixed) = (&*room(qkv, m * width), room(mixed, m * width));
        let shown = Shown::layer(std::mem::take(kept), index, lanes, batch);
        for LaneKv { rows: own, panels, .. } in shown.lanes() {
            let ends = batch.visible().get(own.clone()).unwrap_or_default();
            let mixed = mixed.get_mut(own.start * width..own.end * width).unwrap_or_default();
            let q = part(q, own, width);
            let q = Strided { elements: q, stride: width };
            products.attention(self.compute.kernels, shape, q, panels, Visible { ends, window }, unjoined, mixed)?;
        }
        *kept = shown.emptied();
        self.compute.linear(mixed, m, &layer.output, inputs, room(out, m * self.config.hidden))?;
        self.add(layer.post_attention_norm.as_deref(), scratch)
    }

    /// `scratch.x[m, hidden] += feed_forward(norm(scratch.x))`.
    fn feed_forward(&self, layer: &Layer, scratch: &mut Scratch) -> Result<(), KernelError> {
        self.norm_rows(&layer.feed_forward_norm, scratch)?;
        let Scratch { normed, gate, up, out, inputs, batch, .. } = &mut *scratch;
        let (m, hidden, width) = (batch.rows(), self.config.hidden, layer.gate.n());
        let (gate, up) = (room(gate, m * width), room(up, m * width));
        let outputs = [(&layer.gate, &mut *gate), (&layer.up, &mut *up)];
        self.compute.linears(room(normed, m * hidden), m, inputs, outputs)?;
        let up = &*up;
        self.compute.products.rows(m, ACTIVATION * width, [(&mut *gate, width)], |rows, [gate], _| {
            let up = part(up, rows, width);
            match self.dense.is_gelu {
                true => gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = gelu(*gate) * up),
                false => self.compute.kernels.silu_mul(gate, up)?,
            }
            Ok(())
        })?;
        self.compute.linear(gate, m, &layer.down, inputs, room(out, m * hidden))?;
        self.add(layer.post_feed_forward_norm.as_deref(), scratch)
    }

    /// `scratch.normed = norm(scratch.x)`, row by row.
    fn norm_rows(&self, weight: &[f32], scratch: &mut Scratch) -> Result<(), KernelError> {
        let Scratch { x, normed, batch, .. } = scratch;
        let (m, hidden) = (batch.rows(), self.config.hidden);
        let x = &*room(x, m * hidden);
        self.compute.products.rows(m, 4 * hidden, [(room(normed, m * hidden), hidden)], |rows, [normed], _| {
            self.compute.kernels.rms_norm(part(x, rows, hidden), weight, self.config.norm_eps, normed)
        })
    }

    /// `scratch.x += scratch.out`, which is normed before where the family does so.
    fn add(&self, norm: Option<&[f32]>, scratch: &mut Scratch) -> Result<(), KernelError> {
        let Scratch { x, out, batch, .. } = scratch;
        let (kernels, m, hidden) = (self.compute.kernels, batch.rows(), self.config.hidden);
        let outputs = [(room(x, m * hidden), hidden), (room(out, m * hidden), hidden)];
        self.compute.products.rows(m, 4 * hidden, outputs, |_, [x, out], _| {
            if let Some(norm) = norm {
                kernels.rms_norm_in_place(out, norm, self.config.norm_eps)?;
            }
            kernels.add_scaled(x, out, 1.0)
        })
    }
}

/// Writes a layer's keys and values into the caches.
fn keep(shape: AttentionShape, layer: usize, lanes: &mut [Lane<'_>], scratch: &mut Scratch) {
    let width = shape.kv_heads * shape.head_dim;
    let Scratch { gate, up, batch, .. } = scratch;
    let m = batch.rows();
    let (keys, values) = (&*room(gate, m * width), &*room(up, m * width));
    for (lane, rows) in lanes.iter_mut().zip(batch.lanes()) {
        for (row, positions) in batch.runs(rows) {
            let own = |all| Strided { elements: part(all, row..row + positions.len(), width), stride: width };
            lane.cache.write(layer, positions.clone(), own(keys), own(values));
        }
    }
}

/// GELU in its tanh form.
fn gelu(x: f32) -> f32 {
    let inner = std::f32::consts::FRAC_2_PI.sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}
