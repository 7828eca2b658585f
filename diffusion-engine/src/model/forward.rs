//! One forward of several requests' active tokens at once (report §2; shapes beside each line). Linear layers and
//! experts see all tokens as one batch, attention runs per request; no token's result depends on another request.
//! Must never write to committed positions of a cache.

use std::ops::Range;
use std::sync::PoisonError;

use weir_kernels::KernelError;
use weir_kernels::kernels::rope;

use crate::cache::KvCache;

use super::clock::Work;
use super::head::{Predictions, Wanted};
use super::matrix::room;
use super::rope::Angles;
use super::scratch::Scratch;
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

    /// The block of `position`; a token of a causal model is its own.
    fn block(self, position: usize) -> usize {
        match self {
            Visibility::Causal => position,
            Visibility::Blocks(length) | Visibility::Window { length, .. } => position / length,
        }
    }
}

/// One request's part of a forward.
pub(crate) struct Lane<'a> {
    /// Tokens at the positions that follow the committed ones.
    pub(crate) tokens: &'a [u32],
    /// Predictions are wanted from this token on; `tokens.len()` for none.
    pub(crate) logits_from: usize,
    /// Of which of them, and what.
    pub(crate) wanted: Wanted<'a>,
    pub(crate) cache: &'a mut KvCache,
    /// What its tokens see: requests may differ in their block length.
    pub(crate) visibility: Visibility,
}

impl Model {
    /// Runs all lanes and returns what each one wanted. Afterwards each cache holds the
    /// K/V of its lane's tokens behind the committed positions; the caller commits those that are final.
    pub(crate) fn forward(&self, lanes: &mut [Lane<'_>]) -> Result<Vec<Predictions>, KernelError> {
        // A forward that panicked leaves memory that the next one fills anew.
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = &mut *scratch;
        scratch.clock.begin();
        self.layers(lanes, scratch)?;
        let predictions = self.head(lanes, scratch);
        scratch.clock.did(Work::Head);
        predictions
    }

    /// Everything before the final norm: the result is `scratch.x`, `[m, hidden]`.
    fn layers(&self, lanes: &mut [Lane<'_>], scratch: &mut Scratch) -> Result<(), KernelError> {
        let hidden = self.config.hidden;
        let mut angles = Vec::new(); // [m]
        let m = lanes.iter().map(|lane| lane.tokens.len()).sum::<usize>();
        let mut rows = room(&mut scratch.x, m * hidden).chunks_exact_mut(hidden);
        for lane in &mut *lanes {
            let start = lane.cache.committed();
            lane.cache.reserve(start + lane.tokens.len())?;
            for ((offset, token), row) in lane.tokens.iter().enumerate().zip(&mut rows) {
                self.embeddings.row(*token as usize, row)?;
                angles.push(self.rope.angles(start + offset));
            }
        }
        let blocks = blocks(lanes);
        scratch.clock.did(Work::Rest);
        for (index, layer) in self.layers.iter().enumerate() {
            self.attention(index, layer, lanes, &angles, scratch)?;
            let Scratch { x, normed, out, .. } = &mut *scratch;
            let (x, out) = (room(x, m * hidden), room(out, m * hidden));
            self.compute.kernels.add_scaled(x, out, 1.0)?;
            let normed = room(normed, m * hidden);
            self.compute.kernels.rms_norm(x, &layer.feed_forward_norm, self.config.norm_eps, normed)?;
            scratch.clock.did(Work::Rest);
            match &layer.feed_forward {
                FeedForward::Dense(mlp) => self.mlp(mlp, m, scratch)?,
                FeedForward::Experts(experts) => self.experts(experts, &blocks, m, scratch)?,
            }
            let Scratch { x, out, .. } = &mut *scratch;
            self.compute.kernels.add_scaled(room(x, m * hidden), room(out, m * hidden), 1.0)?;
        }
        Ok(())
    }

    /// `scratch.x[m, hidden]` → `scratch.out[m, hidden]`; writes this layer's K/V into the caches.
    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        lanes: &mut [Lane<'_>],
        angles: &[Angles],
        scratch: &mut Scratch,
    ) -> Result<(), KernelError> {
        let shape = self.kv_shape().attention;
        let (kernels, eps, d, hidden) =
            (self.compute.kernels, self.config.norm_eps, shape.head_dim, self.config.hidden);
        let (q_width, kv_width) = (shape.heads * d, shape.kv_heads * d);
        let group = q_width / shape.kv_heads;
        let m = angles.len();
        let Scratch { x, normed, qkv, q, mixed, rows, out, inputs, unpacked, visible, clock, .. } = scratch;
        let normed = room(normed, m * hidden);
        kernels.rms_norm(room(x, m * hidden), &layer.attention_norm, eps, normed)?;
        let qkv = room(qkv, m * layer.qkv.n()); // [m, (heads + 2 kv_heads) * d]
        clock.did(Work::Rest);
        self.compute.linear(normed, m, &layer.qkv, inputs, qkv)?;
        clock.did_with(Work::Projections, &layer.qkv, m);
        let q = room(q, m * q_width); // of each lane [kv_heads, tokens, heads / kv_heads, d]
        let mut at = 0;
        for lane in &mut *lanes {
            let (start, count) = (lane.cache.committed(), lane.tokens.len());
            let own = q.get_mut(at * q_width..(at + count) * q_width).unwrap_or_default();
            let all = qkv.chunks_exact_mut(q_width + 2 * kv_width).zip(angles).skip(at).take(count);
            for (offset, (row, angles)) in all.enumerate() {
                let (queries, keys_values) = row.split_at_mut(q_width);
                let (keys, values) = keys_values.split_at_mut(kv_width);
                kernels.rms_norm_in_place(queries, &layer.query_norm, eps)?;
                kernels.rms_norm_in_place(keys, &layer.key_norm, eps)?;
                rope(queries, d, &angles.cos, &angles.sin)?;
                rope(keys, d, &angles.cos, &angles.sin)?;
                for (head, queries) in queries.chunks_exact(group).enumerate() {
                    own[(head * count + offset) * group..][..group].copy_from_slice(queries);
                }
                lane.cache.write(index, start + offset, keys, values);
            }
            at += count;
        }
        clock.did(Work::Rest);
        let mixed = room(mixed, m * q_width); // as q
        let rows = room(rows, m * q_width); // [m, heads, d]
        let mut at = 0;
        for lane in &*lanes {
            let (start, count) = (lane.cache.committed(), lane.tokens.len());
            let end = start + count;
            visible.clear();
            visible.extend((start..end).map(|position| lane.visibility.visible(position, end)));
            let panels = lane.cache.panels(index, end, unpacked);
            let range = at * q_width..(at + count) * q_width;
            let (q, mixed) = (&q[range.clone()], &mut mixed[range]);
            self.compute.products.attention(kernels, shape, q, &panels, visible, mixed)?;
            for (place, mixed) in mixed.chunks_exact(group).enumerate() {
                let (head, token) = (place / count, at + place % count);
                rows[token * q_width + head * group..][..group].copy_from_slice(mixed);
            }
            at += count;
        }
        clock.did(Work::Attention);
        self.compute.linear(rows, m, &layer.output, inputs, room(out, m * hidden))?;
        clock.did_with(Work::Projections, &layer.output, m);
        Ok(())
    }

    /// `scratch.normed[m, hidden]` → `scratch.out[m, hidden]`.
    fn mlp(&self, mlp: &Mlp, m: usize, scratch: &mut Scratch) -> Result<(), KernelError> {
        let Scratch { normed, gate, up, out, inputs, clock, .. } = scratch;
        let (width, hidden) = (mlp.gate.n(), self.config.hidden);
        let (x, gate, up) = (room(normed, m * hidden), room(gate, m * width), room(up, m * width));
        self.compute.linear(x, m, &mlp.gate, inputs, gate)?;
        self.compute.linear(x, m, &mlp.up, inputs, up)?;
        self.compute.kernels.silu_mul(gate, up)?;
        self.compute.linear(gate, m, &mlp.down, inputs, room(out, m * hidden))?;
        [&mlp.gate, &mlp.up].into_iter().for_each(|matrix| clock.count(Work::Dense, matrix, m));
        clock.did_with(Work::Dense, &mlp.down, m);
        Ok(())
    }
}

/// Rows of the batch that are one request's tokens of one block, in order. No range spans two requests.
pub(crate) fn blocks(lanes: &[Lane<'_>]) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    let mut row = 0;
    for lane in lanes {
        let (start, visibility) = (lane.cache.committed(), lane.visibility);
        for position in start..start + lane.tokens.len() {
            match blocks.last_mut() {
                Some(last) if position > start && visibility.block(position) == visibility.block(position - 1) => {
                    last.end += 1;
                }
                _ => blocks.push(row..row + 1),
            }
            row += 1;
        }
    }
    blocks
}
