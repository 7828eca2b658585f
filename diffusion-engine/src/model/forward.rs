//! One forward of several requests' active tokens at once (report §2; shapes beside each line). Linear layers and
//! experts see all tokens as one batch, attention runs per request; no token's result depends on another request.
//! Must never write to committed positions of a cache.

use std::ops::Range;

use weir_kernels::KernelError;
use weir_kernels::kernels::rope;
use weir_kernels::route::{admit, choose, choose_within};

use crate::cache::KvCache;

use super::rope::Angles;
use super::weights::{Experts, FeedForward, Layer, Mlp, Model};

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
    fn visible(self, position: usize, end: usize) -> usize {
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
    /// Logits are wanted from this token on; `tokens.len()` for none.
    pub(crate) logits_from: usize,
    pub(crate) cache: &'a mut KvCache,
    /// What its tokens see: requests may differ in their block length.
    pub(crate) visibility: Visibility,
}

impl Model {
    /// Runs all lanes and returns each one's logits, `[tokens - logits_from, vocab]`. Afterwards each cache holds the
    /// K/V of its lane's tokens behind the committed positions; the caller commits those that are final.
    pub(crate) fn forward(&self, lanes: &mut [Lane<'_>]) -> Result<Vec<Vec<f32>>, KernelError> {
        let hidden = self.config.hidden;
        let mut x = Vec::new(); // [m, hidden]
        let mut angles = Vec::new(); // [m]
        for lane in &mut *lanes {
            let start = lane.cache.committed();
            lane.cache.reserve(start + lane.tokens.len())?;
            for (offset, token) in lane.tokens.iter().enumerate() {
                x.extend_from_slice(self.embedding(*token)?);
                angles.push(self.rope.angles(start + offset));
            }
        }
        let m = angles.len();
        let blocks = blocks(lanes);
        for (index, layer) in self.layers.iter().enumerate() {
            let mut normed = vec![0.0; m * hidden];
            self.kernels.rms_norm(&x, &layer.attention_norm, self.config.norm_eps, &mut normed)?;
            let mixed = self.attention(index, layer, lanes, &angles, &normed)?; // [m, hidden]
            self.kernels.add_scaled(&mut x, &mixed, 1.0)?;
            self.kernels.rms_norm(&x, &layer.feed_forward_norm, self.config.norm_eps, &mut normed)?;
            let mixed = match &layer.feed_forward {
                FeedForward::Dense(mlp) => self.mlp(mlp, &normed, m)?,
                FeedForward::Experts(experts) => self.experts(experts, &normed, &blocks)?,
            };
            self.kernels.add_scaled(&mut x, &mixed, 1.0)?;
        }
        self.logits(lanes, &x)
    }

    fn embedding(&self, token: u32) -> Result<&[f32], KernelError> {
        let hidden = self.config.hidden;
        let at = token as usize * hidden;
        let wrong = KernelError { what: "token", expected: self.config.vocab, got: token as usize };
        self.embeddings.get(at..at + hidden).ok_or(wrong)
    }

    /// `normed[m, hidden]` → `[m, hidden]`; writes this layer's K/V into the caches.
    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        lanes: &mut [Lane<'_>],
        angles: &[Angles],
        normed: &[f32],
    ) -> Result<Vec<f32>, KernelError> {
        let shape = self.kv_shape().attention;
        let d = shape.head_dim;
        let (q_width, kv_width) = (shape.heads * d, shape.kv_heads * d);
        let m = angles.len();
        let mut qkv = vec![0.0; m * layer.qkv.n()]; // [m, (heads + 2 kv_heads) * d]
        self.kernels.linear(normed, m, &layer.qkv, &mut qkv)?;
        let mut q = Vec::with_capacity(m * q_width); // [m, heads, d]
        let mut rows = qkv.chunks_exact_mut(q_width + 2 * kv_width).zip(angles);
        for lane in &mut *lanes {
            let start = lane.cache.committed();
            for (offset, (row, angles)) in rows.by_ref().take(lane.tokens.len()).enumerate() {
                let (queries, keys_values) = row.split_at_mut(q_width);
                let (keys, values) = keys_values.split_at_mut(kv_width);
                self.kernels.rms_norm_in_place(queries, &layer.query_norm, self.config.norm_eps)?;
                self.kernels.rms_norm_in_place(keys, &layer.key_norm, self.config.norm_eps)?;
                rope(queries, d, &angles.cos, &angles.sin)?;
                rope(keys, d, &angles.cos, &angles.sin)?;
                q.extend_from_slice(queries);
                lane.cache.write(index, start + offset, keys, values);
            }
        }
        let mut mixed = vec![0.0; m * q_width]; // [m, heads, d]
        let (mut at, mut scratch) = (0, Vec::new());
        for lane in &*lanes {
            let (start, count) = (lane.cache.committed(), lane.tokens.len());
            let end = start + count;
            let visible: Vec<usize> = (start..end).map(|position| lane.visibility.visible(position, end)).collect();
            let panels = lane.cache.panels(index, end, &mut scratch);
            let range = at * q_width..(at + count) * q_width;
            self.kernels.attention(shape, &q[range.clone()], &panels, &visible, &mut mixed[range])?;
            at += count;
        }
        let mut out = vec![0.0; m * layer.output.n()];
        self.kernels.linear(&mixed, m, &layer.output, &mut out)?;
        Ok(out)
    }

    /// `x[m, hidden]` → `[m, hidden]`.
    fn mlp(&self, mlp: &Mlp, x: &[f32], m: usize) -> Result<Vec<f32>, KernelError> {
        let width = mlp.gate.n();
        let (mut gate, mut up) = (vec![0.0; m * width], vec![0.0; m * width]);
        self.kernels.linear(x, m, &mlp.gate, &mut gate)?;
        self.kernels.linear(x, m, &mlp.up, &mut up)?;
        self.kernels.silu_mul(&mut gate, &up)?;
        let mut out = vec![0.0; m * mlp.down.n()];
        self.kernels.linear(&gate, m, &mlp.down, &mut out)?;
        Ok(out)
    }

    /// `x[m, hidden]` → `[m, hidden]`. Expert by expert: the tokens of one expert are gathered into one small batch.
    /// A token adds its experts in ascending order, whoever else visits them.
    fn experts(&self, experts: &Experts, x: &[f32], blocks: &[Range<usize>]) -> Result<Vec<f32>, KernelError> {
        let hidden = self.config.hidden;
        let (m, count) = (x.len() / hidden, experts.experts.len());
        let mut scores = vec![0.0; m * count]; // [m, experts]
        self.kernels.linear(x, m, &experts.router, &mut scores)?;
        let (bias, routing) = (experts.bias.as_deref(), experts.routing);
        let mut visits: Vec<Vec<(usize, f32)>> = vec![Vec::new(); count]; // token, weight
        for block in blocks {
            let own = &scores[block.start * count..block.end * count];
            let pool = routing.capacity.map(|capacity| admit(own, count, bias, capacity));
            for (token, scores) in block.clone().zip(own.chunks_exact(count)) {
                let choices = match &pool {
                    Some(pool) => choose_within(pool, scores, bias, routing),
                    None => choose(scores, bias, routing),
                };
                for choice in choices {
                    visits[choice.expert].push((token, choice.weight));
                }
            }
        }
        let mut out = vec![0.0; m * hidden];
        for (expert, visits) in experts.experts.iter().zip(&visits) {
            if visits.is_empty() {
                continue;
            }
            let mut gathered = Vec::with_capacity(visits.len() * hidden);
            for (token, _) in visits {
                gathered.extend_from_slice(&x[token * hidden..][..hidden]);
            }
            let results = self.mlp(expert, &gathered, visits.len())?;
            for ((token, weight), result) in visits.iter().zip(results.chunks_exact(hidden)) {
                self.kernels.add_scaled(&mut out[token * hidden..][..hidden], result, *weight)?;
            }
        }
        if let Some(shared) = &experts.shared {
            let result = self.mlp(shared, x, m)?;
            self.kernels.add_scaled(&mut out, &result, 1.0)?;
        }
        Ok(out)
    }

    /// Final norm and head for the rows each lane wants.
    fn logits(&self, lanes: &[Lane<'_>], x: &[f32]) -> Result<Vec<Vec<f32>>, KernelError> {
        let hidden = self.config.hidden;
        let mut rest = x;
        let mut all = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let (own, others) = rest.split_at(lane.tokens.len() * hidden);
            rest = others;
            let wanted = &own[lane.logits_from.min(lane.tokens.len()) * hidden..];
            let rows = wanted.len() / hidden;
            let mut normed = vec![0.0; wanted.len()];
            self.kernels.rms_norm(wanted, &self.norm, self.config.norm_eps, &mut normed)?;
            let mut logits = vec![0.0; rows * self.config.vocab];
            self.kernels.linear(&normed, rows, &self.head, &mut logits)?;
            all.push(logits);
        }
        Ok(all)
    }
}

/// Rows of the batch that are one request's tokens of one block, in order. No range spans two requests.
fn blocks(lanes: &[Lane<'_>]) -> Vec<Range<usize>> {
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
