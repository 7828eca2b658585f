//! A model's tensors by name and shape, packed for the kernels. A tensor that is missing, misshapen or left over is
//! an error, so a misread architecture fails at once.

use weir_kernels::{AttentionShape, Kernels, PackedMatrix, registry};

use crate::cache::KvShape;
use crate::checkpoint::config::{ModelConfig, MoeConfig};
use crate::checkpoint::safetensors::Weights;
use crate::error::LoadError;

use super::rope::Rope;

/// A loaded model.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) kernels: &'static Kernels,
    pub(crate) rope: Rope,
    /// `[vocab, hidden]`.
    pub(crate) embeddings: Vec<f32>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    /// `[vocab, hidden]`.
    pub(crate) head: PackedMatrix,
    pub(crate) parameters: u64,
    pub(crate) stored_bytes: u64,
}

/// One transformer layer: `x += attention(norm(x)); x += feed_forward(norm(x))`.
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    /// `[(heads + 2 kv_heads) * head_dim, hidden]`: all query heads, then key heads, then value heads.
    pub(crate) qkv: PackedMatrix,
    /// `[head_dim]`.
    pub(crate) query_norm: Vec<f32>,
    /// `[head_dim]`.
    pub(crate) key_norm: Vec<f32>,
    /// `[hidden, heads * head_dim]`.
    pub(crate) output: PackedMatrix,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) feed_forward: FeedForward,
}

/// The second half of a layer.
pub(crate) enum FeedForward {
    Dense(Mlp),
    Experts(Box<Experts>),
}

/// `down(silu(gate x) * up x)`.
pub(crate) struct Mlp {
    /// `[width, hidden]`.
    pub(crate) gate: PackedMatrix,
    /// `[width, hidden]`.
    pub(crate) up: PackedMatrix,
    /// `[hidden, width]`.
    pub(crate) down: PackedMatrix,
}

/// Routed experts and one that every token visits.
pub(crate) struct Experts {
    pub(crate) routing: weir_kernels::route::Routing,
    /// `[experts, hidden]`.
    pub(crate) router: PackedMatrix,
    /// `[experts]`, steers the choice only.
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) experts: Vec<Mlp>,
    pub(crate) shared: Option<Mlp>,
}

impl Model {
    /// Takes every tensor out of `weights`.
    pub(crate) fn load(config: ModelConfig, weights: Weights) -> Result<Self, LoadError> {
        let mut reader = Reader { config: &config, weights };
        let embeddings = reader.weights.take("model.word_embeddings.weight", &[config.vocab, config.hidden])?;
        let layers = (0..config.layers).map(|layer| reader.layer(layer)).collect::<Result<Vec<Layer>, LoadError>>()?;
        let norm = reader.vector("model.norm.weight", config.hidden)?;
        let head = if config.tied && !reader.weights.has("lm_head.weight") {
            pack("model.word_embeddings.weight", &embeddings, config.vocab, config.hidden)?
        } else {
            reader.matrix("lm_head.weight", config.vocab, config.hidden)?
        };
        let (parameters, stored_bytes) = reader.weights.finish()?;
        let rope = Rope::new(config.rope_theta, config.rotary_dim);
        let kernels = registry::best();
        Ok(Model { config, kernels, rope, embeddings, layers, norm, head, parameters, stored_bytes })
    }

    /// The shape of a request's cache.
    pub(crate) fn kv_shape(&self) -> KvShape {
        let ModelConfig { heads, kv_heads, head_dim, layers, .. } = self.config;
        KvShape { layers, attention: AttentionShape { heads, kv_heads, head_dim } }
    }
}

struct Reader<'a> {
    config: &'a ModelConfig,
    weights: Weights,
}

impl Reader<'_> {
    fn layer(&mut self, layer: usize) -> Result<Layer, LoadError> {
        let ModelConfig { hidden, heads, kv_heads, head_dim, .. } = *self.config;
        let name = |rest: &str| format!("model.layers.{layer}.{rest}");
        let feed_forward = match &self.config.moe {
            Some(moe) if layer >= self.config.dense_layers => {
                FeedForward::Experts(Box::new(self.experts(&name("mlp"), moe)?))
            }
            _ => FeedForward::Dense(self.mlp(&name("mlp"), self.config.intermediate)?),
        };
        Ok(Layer {
            attention_norm: self.vector(&name("input_layernorm.weight"), hidden)?,
            qkv: self.matrix(&name("attention.query_key_value.weight"), (heads + 2 * kv_heads) * head_dim, hidden)?,
            query_norm: self.vector(&name("attention.query_layernorm.weight"), head_dim)?,
            key_norm: self.vector(&name("attention.key_layernorm.weight"), head_dim)?,
            output: self.matrix(&name("attention.dense.weight"), hidden, heads * head_dim)?,
            feed_forward_norm: self.vector(&name("post_attention_layernorm.weight"), hidden)?,
            feed_forward,
        })
    }

    fn experts(&mut self, name: &str, moe: &MoeConfig) -> Result<Experts, LoadError> {
        let router = self.matrix(&format!("{name}.gate.weight"), moe.experts, self.config.hidden)?;
        let bias = match moe.has_bias {
            true => Some(self.vector(&format!("{name}.gate.expert_bias"), moe.experts)?),
            false => None,
        };
        let experts = (0..moe.experts).map(|expert| self.mlp(&format!("{name}.experts.{expert}"), moe.intermediate));
        let experts = experts.collect::<Result<Vec<Mlp>, LoadError>>()?;
        let shared = match moe.shared_intermediate {
            0 => None,
            width => Some(self.mlp(&format!("{name}.shared_experts"), width)?),
        };
        Ok(Experts { routing: moe.routing, router, bias, experts, shared })
    }

    fn mlp(&mut self, name: &str, width: usize) -> Result<Mlp, LoadError> {
        let hidden = self.config.hidden;
        Ok(Mlp {
            gate: self.matrix(&format!("{name}.gate_proj.weight"), width, hidden)?,
            up: self.matrix(&format!("{name}.up_proj.weight"), width, hidden)?,
            down: self.matrix(&format!("{name}.down_proj.weight"), hidden, width)?,
        })
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        self.weights.take(name, &[length])
    }

    fn matrix(&mut self, name: &str, n: usize, k: usize) -> Result<PackedMatrix, LoadError> {
        let weights = self.weights.take(name, &[n, k])?;
        pack(name, &weights, n, k)
    }
}

fn pack(name: &str, weights: &[f32], n: usize, k: usize) -> Result<PackedMatrix, LoadError> {
    PackedMatrix::pack(weights, n, k).map_err(|error| LoadError::Tensor {
        file: "weights".into(),
        tensor: name.into(),
        message: error.to_string(),
    })
}
