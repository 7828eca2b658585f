//! One forward of several requests' tokens: products see all tokens as one batch, attention runs per request. Shapes
//! beside each step. Must never write to committed positions of a cache.

use weir_kernels::packed::Inputs;
use weir_kernels::{KernelError, KvPanel, Strided};

use crate::model::forward::Lane;
use crate::model::head::{Predictions, Wanted, likeliest};
use crate::model::matrix::Matrix;

use super::rotation::Rotation;
use super::weights::{DenseModel, Layer, Projection};
use super::window;

impl DenseModel {
    /// Runs all lanes and returns what each one wanted. Afterwards each cache holds the K/V of its lane's tokens behind
    /// the committed positions; the caller commits those that are final.
    pub(crate) fn forward(&self, lanes: &mut [Lane<'_>]) -> Result<Vec<Predictions>, KernelError> {
        let mut positions = Vec::new();
        let mut x = Vec::new(); // [m, hidden]
        for lane in &mut *lanes {
            let start = lane.cache.committed();
            lane.cache.reserve(start + lane.tokens.len())?;
            positions.extend(start..start + lane.tokens.len());
            for token in lane.tokens {
                let mut row = vec![0.0; self.config.hidden];
                self.embeddings.row(*token as usize, &mut row)?;
                x.extend(row.into_iter().map(|value| value * self.dense.embedding_scale));
            }
        }
        if positions.is_empty() {
            return Ok(lanes.iter().map(|_| Predictions::Logits(Vec::new())).collect());
        }
        let inputs = &mut Inputs::default();
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = self.norm(&x, &layer.attention_norm)?;
            let mixed = self.attention(index, layer, &normed, &positions, lanes, inputs)?;
            self.add(&mut x, self.product(&layer.output, &mixed, inputs)?, layer.post_attention_norm.as_deref())?;
            let normed = self.norm(&x, &layer.feed_forward_norm)?;
            let mut gate = self.product(&layer.gate, &normed, inputs)?; // [m, intermediate]
            let up = self.product(&layer.up, &normed, inputs)?;
            self.activate(&mut gate, &up)?;
            self.add(&mut x, self.product(&layer.down, &gate, inputs)?, layer.post_feed_forward_norm.as_deref())?;
        }
        self.predictions(lanes, &x, inputs)
    }

    /// `x[m, k]` → `[m, n]`.
    fn product(&self, matrix: &Matrix, x: &[f32], inputs: &mut Inputs) -> Result<Vec<f32>, KernelError> {
        let m = x.len() / matrix.k().max(1);
        let mut y = vec![0.0; m * matrix.n()];
        self.compute.linear(x, m, matrix, inputs, &mut y).map(|()| y)
    }

    fn norm(&self, x: &[f32], weight: &[f32]) -> Result<Vec<f32>, KernelError> {
        let mut normed = vec![0.0; x.len()];
        let done = self.compute.kernels.rms_norm(x, weight, self.config.norm_eps, &mut normed);
        done.map(|()| normed)
    }

    /// `x += out`, which is normed before where the family does so.
    fn add(&self, x: &mut [f32], mut out: Vec<f32>, norm: Option<&[f32]>) -> Result<(), KernelError> {
        let done = match norm {
            Some(norm) => self.compute.kernels.rms_norm_in_place(&mut out, norm, self.config.norm_eps),
            None => Ok(()),
        };
        done.and_then(|()| self.compute.kernels.add_scaled(x, &out, 1.0))
    }

    /// `gate = activation(gate) * up`.
    fn activate(&self, gate: &mut [f32], up: &[f32]) -> Result<(), KernelError> {
        if !self.dense.is_gelu {
            return self.compute.kernels.silu_mul(gate, up);
        }
        for (gate, up) in gate.iter_mut().zip(up) {
            let x = *gate;
            let inner = std::f32::consts::FRAC_2_PI.sqrt() * (x + 0.044_715 * x * x * x);
            *gate = 0.5 * x * (1.0 + inner.tanh()) * up;
        }
        Ok(())
    }

    /// `x[m, hidden]` → `[m, heads * head_dim]`; keys and values go into the caches.
    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        x: &[f32],
        positions: &[usize],
        lanes: &mut [Lane<'_>],
        inputs: &mut Inputs,
    ) -> Result<Vec<f32>, KernelError> {
        let shape = self.kv_shape().attention;
        let window = self.dense.window.and_then(|window| window.of_layer(index));
        let rotation = match (&self.window_rotation, window) {
            (Some(own), Some(_)) => own,
            _ => &self.rotation,
        };
        let q = self.project(&layer.query, x, positions, Some(rotation), inputs)?; // [m, heads * head_dim]
        let k = self.project(&layer.key, x, positions, Some(rotation), inputs)?; // [m, kv_heads * head_dim]
        let v = self.project(&layer.value, x, positions, None, inputs)?;
        let (width, kv_width) = (layer.query.matrix.n(), layer.key.matrix.n());
        let mut out = vec![0.0; q.len()];
        let (mut q, mut rest) = (q.as_slice(), out.as_mut_slice());
        let mut kv = k.chunks_exact(kv_width).zip(v.chunks_exact(kv_width));
        let mut unpacked = Vec::new();
        for lane in lanes {
            let (start, count) = (lane.cache.committed(), lane.tokens.len());
            for (position, (keys, values)) in (start..start + count).zip(&mut kv) {
                lane.cache.write(index, position, keys, values);
            }
            if count == 0 {
                continue;
            }
            let (own_q, others) = q.split_at(count * width);
            let (own, behind) = std::mem::take(&mut rest).split_at_mut(count * width);
            (q, rest) = (others, behind);
            let panels: Vec<KvPanel<'_>> = lane.cache.panels(index, start + count, &mut unpacked);
            let visible: Vec<usize> = (start + 1..=start + count).collect();
            match window.filter(|window| start + count > window.positions) {
                None => {
                    let strided = Strided { elements: own_q, stride: width };
                    let done =
                        self.compute.products.attention(self.compute.kernels, shape, strided, &panels, &visible, own);
                    done?;
                }
                Some(window) => {
                    let rows = own_q.chunks_exact(width).zip(own.chunks_exact_mut(width));
                    for (end, (q, out)) in visible.into_iter().zip(rows) {
                        let seen = end.saturating_sub(window.positions)..end;
                        window::attention(shape, q, &panels, seen, out);
                    }
                }
            }
        }
        Ok(out)
    }

    /// Product, bias, norm of each head, and turning where `rotation` is given.
    fn project(
        &self,
        own: &Projection,
        x: &[f32],
        positions: &[usize],
        rotation: Option<&Rotation>,
        inputs: &mut Inputs,
    ) -> Result<Vec<f32>, KernelError> {
        let head_dim = self.config.head_dim;
        let mut out = self.product(&own.matrix, x, inputs)?;
        if let Some(bias) = &own.bias {
            for row in out.chunks_exact_mut(own.matrix.n()) {
                row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            }
        }
        if let Some(norm) = &own.norm {
            let done = self.compute.kernels.rms_norm_in_place(&mut out, norm, self.config.norm_eps);
            done?;
        }
        if let Some(rotation) = rotation {
            for (row, position) in out.chunks_exact_mut(own.matrix.n()).zip(positions) {
                rotation.turn(row, head_dim, *position);
            }
        }
        Ok(out)
    }

    /// Final norm and head of the wanted rows of `x[m, hidden]`.
    fn predictions(&self, lanes: &[Lane<'_>], x: &[f32], inputs: &mut Inputs) -> Result<Vec<Predictions>, KernelError> {
        let (hidden, vocab) = (self.config.hidden, self.config.vocab);
        let mut wanted = Vec::new();
        let mut first = 0;
        for lane in lanes {
            for index in lane.rows() {
                let row = x.get((first + index) * hidden..(first + index + 1) * hidden);
                let row = row.filter(|_| index < lane.tokens.len());
                wanted.extend_from_slice(row.ok_or(KernelError {
                    what: "wanted row",
                    expected: lane.tokens.len(),
                    got: index,
                })?);
            }
            first += lane.tokens.len();
        }
        let logits = if wanted.is_empty() {
            wanted
        } else {
            self.product(&self.head, &self.norm(&wanted, &self.norm)?, inputs)?
        };
        let mut rest = logits.as_slice();
        let mut all = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let (own, others) = rest.split_at(lane.rows().count() * vocab);
            rest = others;
            all.push(match lane.wanted {
                Wanted::All | Wanted::Logits(_) => Predictions::Logits(own.to_vec()),
                Wanted::Likeliest { never, .. } => {
                    let mut own = own.to_vec();
                    let rows = own.chunks_exact_mut(vocab);
                    Predictions::Likeliest(rows.map(|row| likeliest(self.compute.kernels, row, never)).collect())
                }
            });
        }
        Ok(all)
    }
}
