//! A model's tensors on the device, under the names and shapes of [`crate::model::weights`]. One matrix at a time is held
//! as f32 on the way. A tensor that is missing, misshapen or left over is an error here, too.

use weir_kernels::AttentionShape;
use weir_kernels::cuda::blocks::{Numbers, Pages};
use weir_kernels::cuda::products::Matrices;
use weir_kernels::cuda::{Device, DeviceError, Gpu, Memory, WeightFormat};
use weir_kernels::route::Routing;

use crate::cache::KvShape;
use crate::checkpoint::config::{ModelConfig, MoeConfig};
use crate::checkpoint::tensors::Weights;
use crate::error::LoadError;
use crate::model::rope::Rope;
use crate::options::KvType;

/// A model in a device's memory.
pub(crate) struct DeviceModel<D: Device> {
    pub(crate) config: ModelConfig,
    pub(super) gpu: Gpu<D>,
    pub(super) rope: Rope,
    pub(super) embeddings: Numbers<D>,
    pub(super) layers: Vec<Layer<D>>,
    pub(super) norm: Memory<D, f32>,
    pub(super) head: Matrices<D>,
    pub(crate) parameters: u64,
    pub(crate) stored_bytes: u64,
}

pub(super) struct Layer<D: Device> {
    pub(super) attention_norm: Memory<D, f32>,
    pub(super) qkv: Matrices<D>,
    pub(super) query_norm: Memory<D, f32>,
    pub(super) key_norm: Memory<D, f32>,
    pub(super) output: Matrices<D>,
    pub(super) feed_forward_norm: Memory<D, f32>,
    pub(super) feed_forward: FeedForward<D>,
}

pub(super) enum FeedForward<D: Device> {
    Dense(Mlp<D>),
    Experts(Box<Experts<D>>),
}

/// `down(silu(gate x) * up x)`, of one layer or of each of its experts.
pub(super) struct Mlp<D: Device> {
    pub(super) gate: Matrices<D>,
    pub(super) up: Matrices<D>,
    pub(super) down: Matrices<D>,
}

pub(super) struct Experts<D: Device> {
    pub(super) routing: Routing,
    /// f32 whatever the others are: the choice of experts is what quantisation hurts most.
    pub(super) router: Matrices<D>,
    pub(super) bias: Option<Memory<D, f32>>,
    pub(super) experts: Mlp<D>,
    pub(super) shared: Option<Mlp<D>>,
}

impl<D: Device> DeviceModel<D> {
    /// Takes every tensor out of `weights` and stores matrices in `format`.
    pub(crate) fn load(
        config: ModelConfig,
        mut weights: Weights,
        gpu: Gpu<D>,
        format: WeightFormat,
    ) -> Result<Self, LoadError> {
        const EMBEDDINGS: &str = "model.word_embeddings.weight";
        const HEAD: &str = "lm_head.weight";
        let ModelConfig { vocab, hidden, .. } = config;
        let mut reader = Reader { config: &config, weights: &mut weights, gpu: &gpu, format };
        let values = reader.weights.take(EMBEDDINGS, &[vocab, hidden], None)?;
        // Rows are looked up, not multiplied: two bytes are enough unless all is to be exact.
        let embeddings = on_device(EMBEDDINGS, Numbers::upload(&gpu, format != WeightFormat::F32, &values))?;
        let layers = (0..config.layers).map(|layer| reader.layer(layer)).collect::<Result<_, _>>()?;
        let norm = reader.vector("model.norm.weight", hidden)?;
        let head = if config.tied && !reader.weights.has(HEAD) {
            on_device(EMBEDDINGS, gpu.matrix(format, &values, vocab, hidden))?
        } else {
            reader.matrix(HEAD, vocab, hidden, format)?
        };
        let (parameters, stored_bytes) = weights.finish()?;
        let rope = Rope::new(config.rope_theta, config.rotary_dim);
        Ok(DeviceModel { config, gpu, rope, embeddings, layers, norm, head, parameters, stored_bytes })
    }

    /// The shape of a request's cache.
    pub(crate) fn kv_shape(&self) -> KvShape {
        let ModelConfig { heads, kv_heads, head_dim, layers, .. } = self.config;
        KvShape { layers, attention: AttentionShape { heads, kv_heads, head_dim } }
    }

    /// Memory for `count` pages of K/V.
    pub(crate) fn pages(&self, kind: KvType, count: usize) -> Result<Pages<D>, DeviceError> {
        let KvShape { layers, attention } = self.kv_shape();
        Pages::new(&self.gpu, kind == KvType::Bf16, attention, layers, count)
    }
}

struct Reader<'a, D: Device> {
    config: &'a ModelConfig,
    weights: &'a mut Weights,
    gpu: &'a Gpu<D>,
    format: WeightFormat,
}

impl<D: Device> Reader<'_, D> {
    fn layer(&mut self, layer: usize) -> Result<Layer<D>, LoadError> {
        let ModelConfig { hidden, heads, kv_heads, head_dim, .. } = *self.config;
        let name = |rest: &str| format!("model.layers.{layer}.{rest}");
        let feed_forward = match &self.config.moe {
            Some(moe) if layer >= self.config.dense_layers => {
                FeedForward::Experts(Box::new(self.experts(&name("mlp"), moe)?))
            }
            _ => FeedForward::Dense(self.mlp(&name("mlp"), self.config.intermediate)?),
        };
        let (format, width) = (self.format, (heads + 2 * kv_heads) * head_dim);
        Ok(Layer {
            attention_norm: self.vector(&name("input_layernorm.weight"), hidden)?,
            qkv: self.matrix(&name("attention.query_key_value.weight"), width, hidden, format)?,
            query_norm: self.vector(&name("attention.query_layernorm.weight"), head_dim)?,
            key_norm: self.vector(&name("attention.key_layernorm.weight"), head_dim)?,
            output: self.matrix(&name("attention.dense.weight"), hidden, heads * head_dim, format)?,
            feed_forward_norm: self.vector(&name("post_attention_layernorm.weight"), hidden)?,
            feed_forward,
        })
    }

    fn experts(&mut self, name: &str, moe: &MoeConfig) -> Result<Experts<D>, LoadError> {
        let router = self.matrix(&format!("{name}.gate.weight"), moe.experts, self.config.hidden, WeightFormat::F32)?;
        let bias = match moe.has_bias {
            true => Some(self.vector(&format!("{name}.gate.expert_bias"), moe.experts)?),
            false => None,
        };
        let (hidden, width) = (self.config.hidden, moe.intermediate);
        let experts = Mlp {
            gate: self.each_expert(name, "gate_proj", [moe.experts, width, hidden])?,
            up: self.each_expert(name, "up_proj", [moe.experts, width, hidden])?,
            down: self.each_expert(name, "down_proj", [moe.experts, hidden, width])?,
        };
        let shared = match moe.shared_intermediate {
            0 => None,
            width => Some(self.mlp(&format!("{name}.shared_experts"), width)?),
        };
        Ok(Experts { routing: moe.routing, router, bias, experts, shared })
    }

    /// One matrix `[n, k]` of each expert, single or merged, as the CPU's reader finds them.
    fn each_expert(&mut self, name: &str, part: &str, [count, n, k]: [usize; 3]) -> Result<Matrices<D>, LoadError> {
        let merged = [format!("{name}.experts.{part}.weight"), format!("{name}.experts.{part}")];
        let merged = merged.into_iter().find(|name| self.weights.has(name));
        let mut matrices = on_device(name, Matrices::new(self.gpu, self.format, count, n, k))?;
        for expert in 0..count {
            let single = format!("{name}.experts.{expert}.{part}.weight");
            let values = match &merged {
                Some(merged) => self.weights.take(merged, &[count, n, k], Some(expert))?,
                None => self.weights.take(&single, &[n, k], None)?,
            };
            on_device(&single, self.gpu.set_matrix(&mut matrices, expert, &values))?;
        }
        Ok(matrices)
    }

    fn mlp(&mut self, name: &str, width: usize) -> Result<Mlp<D>, LoadError> {
        let (hidden, format) = (self.config.hidden, self.format);
        Ok(Mlp {
            gate: self.matrix(&format!("{name}.gate_proj.weight"), width, hidden, format)?,
            up: self.matrix(&format!("{name}.up_proj.weight"), width, hidden, format)?,
            down: self.matrix(&format!("{name}.down_proj.weight"), hidden, width, format)?,
        })
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Memory<D, f32>, LoadError> {
        let values = self.weights.take(name, &[length], None)?;
        on_device(name, self.gpu.upload(&values))
    }

    fn matrix(&mut self, name: &str, n: usize, k: usize, format: WeightFormat) -> Result<Matrices<D>, LoadError> {
        let values = self.weights.take(name, &[n, k], None)?;
        on_device(name, self.gpu.matrix(format, &values, n, k))
    }
}

/// What the device said, with the tensor it was about.
fn on_device<T>(tensor: &str, result: Result<T, DeviceError>) -> Result<T, LoadError> {
    result.map_err(|error| LoadError::Tensor {
        file: "device".into(),
        tensor: tensor.into(),
        message: error.to_string(),
    })
}
