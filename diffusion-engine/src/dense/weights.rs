//! A dense model's weights, each checked against the shape the config demands. Must never keep a tensor that the forward
//! does not use: one that nobody asked for means another architecture.

use std::sync::Mutex;

use weir_kernels::AttentionShape;
use weir_kernels::packed::{self, Products, Team};

use crate::cache::KvShape;
use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::gguf_dense::Dense;
use crate::checkpoint::gguf_names::published;
use crate::checkpoint::tensors::{Weights, tensor_error};
use crate::error::LoadError;
use crate::model::matrix::{Compute, Matrix, Table};
use crate::model::rope::Rope;
use crate::model::scratch::Scratch;

use super::packing::Rows;

/// A loaded model.
pub(crate) struct DenseModel {
    pub(crate) config: ModelConfig,
    pub(super) dense: Dense,
    pub(super) embeddings: Table,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Vec<f32>,
    pub(super) head: Matrix,
    /// Of layers that see everything; after it, where there are such, of those with a window.
    pub(super) ropes: Vec<Rope>,
    pub(crate) compute: Compute,
    pub(crate) parameters: u64,
    pub(crate) stored_bytes: u64,
    /// One forward runs at a time.
    pub(super) scratch: Mutex<Scratch>,
}

pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Projection,
    pub(super) key: Projection,
    pub(super) value: Projection,
    pub(super) output: Matrix,
    pub(super) post_attention_norm: Option<Vec<f32>>,
    pub(super) feed_forward_norm: Vec<f32>,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
    pub(super) post_feed_forward_norm: Option<Vec<f32>>,
}

/// Queries, keys or values of a layer.
pub(super) struct Projection {
    pub(super) matrix: Matrix,
    pub(super) bias: Option<Vec<f32>>,
    /// Norm of each head.
    pub(super) norm: Option<Vec<f32>>,
}

impl DenseModel {
    /// Takes every tensor out of `weights`.
    pub(crate) fn load(config: ModelConfig, weights: Weights) -> Result<Self, LoadError> {
        let Some(dense) = config.dense.clone() else {
            let message = format!("{} is no dense architecture", config.architecture);
            return Err(LoadError::Weights { file: "weights".into(), message });
        };
        let mut reader = Reader { weights };
        let ModelConfig { vocab, hidden, layers, head_dim, rotary_dim, rope_theta, .. } = config;
        let (embeddings, tied) = reader.table("token_embd.weight", vocab, hidden, config.tied)?;
        let head = match tied {
            Some(tied) => tied,
            None => reader.matrix("output.weight", vocab, hidden)?,
        };
        let norm = reader.vector("output_norm.weight", hidden)?;
        let factors = match reader.weights.has("rope_freqs.weight") {
            true => Some(reader.vector("rope_freqs.weight", rotary_dim / 2)?),
            false => None,
        };
        if factors.iter().flatten().any(|factor| *factor <= 0.0) {
            return Err(tensor_error("weights", "rope_freqs.weight", "holds a factor that is not above 0"));
        }
        let layers =
            (0..layers).map(|layer| reader.layer(layer, &config, &dense)).collect::<Result<Vec<_>, LoadError>>()?;
        let (parameters, stored_bytes) = reader.weights.finish()?;
        let products = Products { kernels: packed::best(), team: Team::shared() };
        let all = Rope::new(rope_theta, rotary_dim).slowed(dense.rope_divisor, factors.as_deref());
        let windowed = dense.window.map(|window| Rope::new(window.theta, rotary_dim));
        debug_assert!(head_dim >= rotary_dim);
        Ok(DenseModel {
            config,
            dense,
            embeddings,
            layers,
            norm,
            head,
            ropes: std::iter::once(all).chain(windowed).collect(),
            compute: Compute { kernels: weir_kernels::registry::best(), products },
            parameters,
            stored_bytes,
            scratch: Mutex::default(),
        })
    }

    /// The shape of a request's cache.
    pub(crate) fn kv_shape(&self) -> KvShape {
        let ModelConfig { heads, kv_heads, head_dim, layers, .. } = self.config;
        KvShape { layers, attention: AttentionShape { heads, kv_heads, head_dim } }
    }
}

/// Takes tensors by GGUF's names.
struct Reader {
    weights: Weights,
}

impl Reader {
    fn layer(&mut self, index: usize, config: &ModelConfig, dense: &Dense) -> Result<Layer, LoadError> {
        let ModelConfig { hidden, heads, kv_heads, head_dim, intermediate, .. } = *config;
        let name = |rest: &str| format!("blk.{index}.{rest}.weight");
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm"), hidden)?,
            query: self.projection(index, "attn_q", heads, config, dense)?,
            key: self.projection(index, "attn_k", kv_heads, config, dense)?,
            value: self.projection(index, "attn_v", kv_heads, config, dense)?,
            output: self.matrix(&name("attn_output"), hidden, heads * head_dim)?,
            post_attention_norm: self.optional(dense.has_post_norms, &name("post_attention_norm"), hidden)?,
            feed_forward_norm: self.vector(&name("ffn_norm"), hidden)?,
            gate: self.matrix(&name("ffn_gate"), intermediate, hidden)?,
            up: self.matrix(&name("ffn_up"), intermediate, hidden)?,
            down: self.matrix(&name("ffn_down"), hidden, intermediate)?,
            post_feed_forward_norm: self.optional(dense.has_post_norms, &name("post_ffw_norm"), hidden)?,
        })
    }

    fn projection(
        &mut self,
        layer: usize,
        name: &str,
        heads: usize,
        config: &ModelConfig,
        dense: &Dense,
    ) -> Result<Projection, LoadError> {
        let n = heads * config.head_dim;
        let is_normed = dense.has_qk_norm && name != "attn_v";
        let turns_neighbours = dense.turns_neighbours && name != "attn_v";
        Ok(Projection {
            matrix: self.turned(&format!("blk.{layer}.{name}.weight"), n, config, turns_neighbours)?,
            bias: self.optional(dense.has_qkv_bias, &format!("blk.{layer}.{name}.bias"), n)?,
            norm: self.optional(is_normed, &format!("blk.{layer}.{name}_norm.weight"), config.head_dim)?,
        })
    }

    fn optional(&mut self, is_due: bool, name: &str, n: usize) -> Result<Option<Vec<f32>>, LoadError> {
        is_due.then(|| self.vector(name, n)).transpose()
    }

    fn vector(&mut self, name: &str, n: usize) -> Result<Vec<f32>, LoadError> {
        self.weights.take(&published(name), &[n], None)
    }

    /// A matrix of heads. Where neighbours turn together, a head's rows are put so that those half the turning part
    /// apart do: a query's product with a key is the same.
    fn turned(&mut self, name: &str, n: usize, config: &ModelConfig, is_due: bool) -> Result<Matrix, LoadError> {
        let order = |row| if is_due { neighbour(row, config) } else { row };
        self.rows(name, n, config.hidden, |rows| rows.matrix(order))
    }

    fn matrix(&mut self, name: &str, n: usize, k: usize) -> Result<Matrix, LoadError> {
        self.rows(name, n, k, |rows| rows.matrix(|row| row))
    }

    /// The embeddings, and where they are the head too, that.
    fn table(&mut self, name: &str, n: usize, k: usize, tied: bool) -> Result<(Table, Option<Matrix>), LoadError> {
        self.rows(name, n, k, |rows| {
            let matrix = rows.matrix(|row| row)?;
            Ok((rows.table(&matrix)?, tied.then_some(matrix)))
        })
    }

    /// What `make` makes of the rows of a tensor.
    fn rows<T>(
        &mut self,
        name: &str,
        n: usize,
        k: usize,
        make: impl FnOnce(Rows<'_>) -> Result<T, String>,
    ) -> Result<T, LoadError> {
        let (file, element, bytes) = self.weights.take_stored(&published(name), &[n, k])?;
        make(Rows { element, bytes, n, k }).map_err(|message| tensor_error(file, name, &message))
    }
}

/// The row that comes to `row` when pairs of neighbours become pairs half the turning part of a head apart.
fn neighbour(row: usize, config: &ModelConfig) -> usize {
    let (at, half) = (row % config.head_dim, config.rotary_dim / 2);
    row - at
        + match at {
            _ if at < half => 2 * at,
            _ if at < 2 * half => 2 * (at - half) + 1,
            _ => at,
        }
}
