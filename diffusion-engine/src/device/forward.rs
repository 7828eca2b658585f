//! One forward of several requests' active tokens on the device: the steps of [`crate::model::forward`], with each
//! residual sum fused into the norm that follows it. Must never write to committed positions of a cache.

use std::sync::{Mutex, PoisonError};

use weir_kernels::cuda::blocks::{Pages, Span, Step};
use weir_kernels::cuda::experts::{RowBlocks, Slots};
use weir_kernels::cuda::{Device, DeviceError, Gpu, Memory};

use crate::model::batch::Batch;
use crate::model::forward::Lane;
use crate::model::head::{Predictions, Wanted, likeliest};

use super::memory::Scratch;
use super::weights::{DeviceModel, Experts, FeedForward, Layer, Mlp};

/// A model with the memory it runs in.
pub(crate) struct DeviceForward<D: Device> {
    pub(crate) model: DeviceModel<D>,
    state: Mutex<State<D>>,
}

struct State<D: Device> {
    pages: Pages<D>,
    scratch: Scratch<D>,
    batch: Batch,
}

/// What all layers of a forward share.
struct Placed<D: Device> {
    step: Step<D>,
    blocks: RowBlocks<D>,
    rows: usize,
}

impl<D: Device> DeviceForward<D> {
    /// `pages` are as many as the caches may name.
    pub(crate) fn new(model: DeviceModel<D>, pages: Pages<D>) -> Self {
        DeviceForward {
            model,
            state: Mutex::new(State { pages, scratch: Scratch::default(), batch: Batch::default() }),
        }
    }

    /// As [`crate::model::weights::Model::forward`].
    pub(crate) fn forward(&self, lanes: &mut [Lane<'_>]) -> Result<Predictions, DeviceError> {
        // A forward that panicked leaves memory that the next one fills anew.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { pages, scratch, batch } = &mut *state;
        let (model, gpu) = (&self.model, &self.model.gpu);
        let placed = model.place(lanes, pages, batch)?;
        let Placed { rows, .. } = placed;
        let hidden = model.config.hidden;
        gpu.embed(&model.embeddings, hidden, batch.tokens(), scratch.x.of(gpu, rows * hidden)?)?;
        for (index, layer) in model.layers.iter().enumerate() {
            // The sum of the layer before, if there was one, is added on the way into the norm.
            model.norm(index > 0, &layer.attention_norm, rows, scratch)?;
            model.attention(index, layer, &placed, pages, scratch)?;
            model.norm(true, &layer.feed_forward_norm, rows, scratch)?;
            match &layer.feed_forward {
                FeedForward::Dense(mlp) => model.mlp(mlp, rows, scratch)?,
                FeedForward::Experts(experts) => model.experts(experts, &placed, scratch)?,
            }
        }
        model.norm(!model.layers.is_empty(), &model.norm, rows, scratch)?;
        model.logits(lanes, batch, scratch)
    }
}

impl<D: Device> DeviceModel<D> {
    /// Reserves the tokens' places and says where they are and what they see.
    fn place(&self, lanes: &mut [Lane<'_>], pages: &Pages<D>, batch: &mut Batch) -> Result<Placed<D>, DeviceError> {
        let mut tables = Vec::new();
        for lane in &mut *lanes {
            lane.cache.reserve(lane.end())?;
            tables.push(lane.cache.page_numbers(lane.end()));
        }
        batch.begin(lanes, std::slice::from_ref(&self.rope))?;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for row in 0..batch.rows() {
            let angles = batch.angles(0, row);
            cos.extend(angles.0);
            sin.extend(angles.1);
        }
        let (positions, visible) = (batch.positions(), batch.visible());
        let mut spans = Vec::new();
        for (table, rows) in tables.iter().zip(batch.lanes()) {
            let positions = positions.get(rows.clone()).unwrap_or_default();
            spans.push(Span { table, positions, visible: visible.get(rows).unwrap_or_default() });
        }
        let step = Step::new(&self.gpu, pages, &spans, (&cos, &sin))?;
        let ends: Vec<usize> = batch.blocks().iter().map(|block| block.end).collect();
        Ok(Placed { step, blocks: RowBlocks::new(&self.gpu, &ends)?, rows: batch.rows() })
    }

    /// `x += delta` where there is one, and its norm.
    fn norm(
        &self,
        add: bool,
        weight: &Memory<D, f32>,
        rows: usize,
        scratch: &mut Scratch<D>,
    ) -> Result<(), DeviceError> {
        let (gpu, elements) = (&self.gpu, rows * self.config.hidden);
        let Scratch { x, delta, normed, .. } = scratch;
        let delta = if add { Some(&*delta.of(gpu, elements)?) } else { None };
        let (x, normed) = (x.of(gpu, elements)?, normed.of(gpu, elements)?);
        gpu.add_rms_norm(x, delta, (weight, self.config.norm_eps), rows, normed)
    }

    /// `normed[rows, hidden]` → `delta`; writes the layer's K/V into the pages.
    fn attention(
        &self,
        index: usize,
        layer: &Layer<D>,
        placed: &Placed<D>,
        pages: &mut Pages<D>,
        scratch: &mut Scratch<D>,
    ) -> Result<(), DeviceError> {
        let (gpu, Placed { step, rows, .. }) = (&self.gpu, placed);
        let queries = rows * self.config.heads * self.config.head_dim;
        let Scratch { normed, qkv, q, partial, mixed, delta, .. } = scratch;
        let normed = normed.of(gpu, rows * self.config.hidden)?;
        let qkv = qkv.of(gpu, rows * layer.qkv.n())?;
        gpu.linear(&layer.qkv, normed, *rows, qkv)?;
        let q = q.of(gpu, queries)?;
        let norms = (&layer.query_norm, &layer.key_norm, self.config.norm_eps);
        gpu.place_qkv(qkv, norms, step, index, q, pages)?;
        let mixed = mixed.of(gpu, queries)?;
        gpu.attention(q, pages, step, index, partial.of(gpu, step.partial_len())?, mixed)?;
        gpu.linear(&layer.output, mixed, *rows, delta.of(gpu, rows * self.config.hidden)?)
    }

    /// `normed[rows, hidden]` → `delta`.
    fn mlp(&self, mlp: &Mlp<D>, rows: usize, scratch: &mut Scratch<D>) -> Result<(), DeviceError> {
        let (gpu, elements) = (&self.gpu, rows * self.config.hidden);
        let Scratch { normed, inner, delta, .. } = scratch;
        dense(gpu, mlp, normed.of(gpu, elements)?, rows, inner, delta.of(gpu, elements)?)
    }

    /// `normed[rows, hidden]` → `delta`.
    fn experts(&self, experts: &Experts<D>, placed: &Placed<D>, scratch: &mut Scratch<D>) -> Result<(), DeviceError> {
        let (gpu, rows, hidden) = (&self.gpu, placed.rows, self.config.hidden);
        let (count, kept) = (experts.router.n(), experts.routing.experts_kept);
        let Scratch { normed, scores, inner, visited, shared, delta, slots, .. } = scratch;
        let normed = normed.of(gpu, rows * hidden)?;
        let scores = scores.of(gpu, rows * count)?;
        gpu.linear(&experts.router, normed, rows, scores)?;
        let slots = slots.of(gpu, rows, count, kept)?;
        gpu.route(scores, experts.bias.as_ref(), experts.routing, rows, &placed.blocks, slots)?;
        let Mlp { gate, up, down } = &experts.experts;
        let within = inner.of(gpu, rows * kept * gate.n())?;
        gpu.expert_gated((gate, up), normed, slots, within)?;
        let visited = visited.of(gpu, rows * kept * hidden)?;
        gpu.expert_linear(down, within, slots, visited)?;
        let shared = match &experts.shared {
            Some(mlp) => {
                let result = shared.of(gpu, rows * hidden)?;
                dense(gpu, mlp, normed, rows, inner, result)?;
                Some(&*result)
            }
            None => None,
        };
        let slots: &Slots<D> = slots;
        gpu.combine(visited, slots, shared, hidden, delta.of(gpu, rows * hidden)?)
    }

    /// The head for the rows each lane wants, out of `normed`.
    fn logits(&self, lanes: &[Lane<'_>], batch: &Batch, scratch: &mut Scratch<D>) -> Result<Predictions, DeviceError> {
        let (gpu, hidden, vocab, wanted) = (&self.gpu, self.config.hidden, self.config.vocab, batch.wanted());
        let Scratch { normed, wanted: gathered, logits, .. } = scratch;
        let gathered = gathered.of(gpu, wanted.len() * hidden)?;
        gpu.gather(normed.of(gpu, batch.rows() * hidden)?, hidden, wanted, gathered)?;
        let logits = logits.of(gpu, wanted.len() * vocab)?;
        gpu.linear(&self.head, gathered, wanted.len(), logits)?;
        let (mut all, mut at) = (Predictions::default(), 0);
        all.make_room(lanes, vocab);
        for (index, lane) in lanes.iter().enumerate() {
            let (own, best) = all.of_lane(index);
            match lane.wanted {
                Wanted::All | Wanted::Logits(_) => gpu.read(logits, at * vocab, own)?,
                Wanted::Likeliest { never, .. } => {
                    let mut rows = vec![0.0; best.len() * vocab];
                    gpu.read(logits, at * vocab, &mut rows)?;
                    for (row, best) in rows.chunks_exact_mut(vocab).zip(best) {
                        *best = likeliest(weir_kernels::registry::best(), row, never);
                    }
                }
            }
            at += lane.rows().count();
        }
        Ok(all)
    }
}

fn dense<D: Device>(
    gpu: &Gpu<D>,
    mlp: &Mlp<D>,
    x: &Memory<D, f32>,
    rows: usize,
    inner: &mut super::memory::Room<D>,
    out: &mut Memory<D, f32>,
) -> Result<(), DeviceError> {
    let inner = inner.of(gpu, rows * mlp.gate.n())?;
    gpu.gated((&mlp.gate, &mlp.up), x, rows, inner)?;
    gpu.linear(&mlp.down, inner, rows, out)
}
