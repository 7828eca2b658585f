//! A model's tensors by name and shape, packed for the kernels. A tensor that is missing, misshapen or left over is
//! an error, so a misread architecture fails at once.

use std::sync::Mutex;

use weir_kernels::packed::{self, Format, Products, Team};
use weir_kernels::route::Routing;
use weir_kernels::{AttentionShape, PackedMatrix, registry};

use crate::cache::KvShape;
use crate::checkpoint::config::{ModelConfig, MoeConfig};
use crate::checkpoint::tensors::{Weights, tensor_error};
use crate::error::LoadError;

use super::matrix::{Compute, Matrix, Table};
use super::packing::Packing;
use super::recipe::Recipe;
use super::rope::Rope;
use super::scratch::Scratch;

/// A loaded model.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) compute: Compute,
    pub(crate) rope: Rope,
    /// `[vocab, hidden]`.
    pub(crate) embeddings: Table,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    /// `[vocab, hidden]`.
    pub(crate) head: Matrix,
    pub(crate) parameters: u64,
    pub(crate) stored_bytes: u64,
    /// Experts per block instead of the trained choice ([`Model::with_pool`]).
    pub(crate) pool: Option<usize>,
    /// Whether a thread makes whole layers of its rows ([`Model::by_rows`]).
    pub(crate) rowwise: bool,
    pub(crate) scratch: Mutex<Scratch>,
}

/// One transformer layer: `x += attention(norm(x)); x += feed_forward(norm(x))`.
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    /// `[(heads + 2 kv_heads) * head_dim, hidden]`: all query heads, then key heads, then value heads.
    pub(crate) qkv: Matrix,
    /// `[head_dim]`.
    pub(crate) query_norm: Vec<f32>,
    /// `[head_dim]`.
    pub(crate) key_norm: Vec<f32>,
    /// `[hidden, heads * head_dim]`.
    pub(crate) output: Matrix,
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
    pub(crate) gate: Matrix,
    /// `[width, hidden]`.
    pub(crate) up: Matrix,
    /// `[hidden, width]`.
    pub(crate) down: Matrix,
}

/// Routed experts and one that every token visits.
pub(crate) struct Experts {
    pub(crate) routing: Routing,
    /// `[experts, hidden]`.
    pub(crate) router: Matrix,
    /// `[experts]`, steers the choice only.
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) experts: Vec<Mlp>,
    pub(crate) shared: Option<Mlp>,
    /// Whether all of them, the shared one included, are packed and of one width.
    pub(crate) packed: bool,
    /// Whether their products want integers, and f32.
    pub(crate) needs: (bool, bool),
}

impl Model {
    /// Takes every tensor out of `weights`; what `recipe` has a format for is packed.
    pub(crate) fn load(config: ModelConfig, mut weights: Weights, recipe: Recipe) -> Result<Self, LoadError> {
        let model = Model::from_source(config, &mut Packing { weights: &mut weights, recipe })?;
        let (parameters, stored_bytes) = weights.finish()?;
        Ok(Model { parameters, stored_bytes, ..model })
    }

    /// A model of what `source` gives.
    pub(crate) fn from_source(config: ModelConfig, source: &mut impl TensorSource) -> Result<Self, LoadError> {
        let Parts { embeddings, layers, norm, head } = Reader { config: &config, source }.parts()?;
        let rope = Rope::new(config.rope_theta, config.rotary_dim);
        let products = Products { kernels: packed::best(), team: Team::shared() };
        let compute = Compute { kernels: registry::best(), products };
        let (parameters, stored_bytes) = (0, 0);
        let (pool, rowwise, scratch) = (None, false, Mutex::default());
        let model = Model {
            config,
            compute,
            rope,
            embeddings,
            layers,
            norm,
            head,
            parameters,
            stored_bytes,
            pool,
            rowwise,
            scratch,
        };
        Ok(model.with_pool(pool))
    }

    /// Lets each block visit `pool` experts of a layer only, chosen as LLaDA2.2 does; a model that was not trained so
    /// answers differently. `None` for the choice it was trained with.
    pub(crate) fn with_pool(self, pool: Option<usize>) -> Self {
        let model = Model { pool, ..self };
        Model { rowwise: model.may_go_by_rows(), ..model }
    }

    /// How a layer routes.
    pub(super) fn routing(&self, experts: &Experts) -> Routing {
        let least = experts.routing.experts_kept;
        let pool = self.pool.filter(|_| experts.routing.capacity.is_none());
        Routing { capacity: pool.map(|pool| pool.max(least)).or(experts.routing.capacity), ..experts.routing }
    }

    /// The shape of a request's cache.
    pub(crate) fn kv_shape(&self) -> KvShape {
        let ModelConfig { heads, kv_heads, head_dim, layers, .. } = self.config;
        KvShape { layers, attention: AttentionShape { heads, kv_heads, head_dim } }
    }
}

/// Asks `source` for every tensor of the architecture, in the order a load does, and drops what it gives.
pub(crate) fn walk(config: &ModelConfig, source: &mut impl TensorSource) -> Result<(), LoadError> {
    Reader { config, source }.parts().map(|_| ())
}

/// Whoever has a checkpoint's tensors, or wants to know which ones are due.
pub(crate) trait TensorSource {
    /// Whether there is a tensor of this name.
    fn has(&self, name: &str) -> bool;

    /// The tensor as f32; with `part`, that index of its outermost dimension only.
    fn values(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Vec<f32>, LoadError>;

    /// A matrix as the products want it, `shape` being `[n, k]`, or with `part` `[count, n, k]`.
    fn matrix(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Matrix, LoadError>;

    /// The embeddings, `[vocab, hidden]`.
    fn table(&mut self, name: &str, shape: [usize; 2]) -> Result<Table, LoadError> {
        Ok(Table::Exact(self.values(name, &shape, None)?))
    }
}

impl TensorSource for Weights {
    fn has(&self, name: &str) -> bool {
        self.has(name)
    }

    fn values(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Vec<f32>, LoadError> {
        self.take(name, shape, part)
    }

    fn matrix(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Matrix, LoadError> {
        if let Some(packed) = self.take_packed(name, shape)? {
            return Ok(Matrix::Packed(packed));
        }
        let [.., n, k] = *shape else { return Err(tensor_error("weights", name, "is not a matrix")) };
        exact(name, &self.take(name, shape, part)?, n, k)
    }

    fn table(&mut self, name: &str, shape: [usize; 2]) -> Result<Table, LoadError> {
        match self.take_packed(name, &shape)? {
            Some(packed) => Ok(Table::Packed(packed)),
            None => Ok(Table::Exact(self.take(name, &shape, None)?)),
        }
    }
}

/// `values` of `[n, k]` in f32 panels.
fn exact(name: &str, values: &[f32], n: usize, k: usize) -> Result<Matrix, LoadError> {
    let packed = PackedMatrix::pack(values, n, k);
    packed.map(Matrix::Exact).map_err(|error| tensor_error("weights", name, &error.to_string()))
}

/// What the tensors of a model become.
struct Parts {
    embeddings: Table,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Matrix,
}

struct Reader<'a, S> {
    config: &'a ModelConfig,
    source: &'a mut S,
}

impl<S: TensorSource> Reader<'_, S> {
    fn parts(&mut self) -> Result<Parts, LoadError> {
        const EMBEDDINGS: &str = "model.word_embeddings.weight";
        const HEAD: &str = "lm_head.weight";
        let ModelConfig { vocab, hidden, .. } = *self.config;
        let embeddings = self.source.table(EMBEDDINGS, [vocab, hidden])?;
        let layers =
            (0..self.config.layers).map(|layer| self.layer(layer)).collect::<Result<Vec<Layer>, LoadError>>()?;
        let norm = self.vector("model.norm.weight", hidden)?;
        let head = if self.config.tied && !self.source.has(HEAD) {
            match &embeddings {
                Table::Exact(values) if !values.is_empty() => exact(EMBEDDINGS, values, vocab, hidden)?,
                Table::Exact(_) => exact(EMBEDDINGS, &[], 0, 0)?,
                Table::Packed(packed) => Matrix::Packed(packed.clone()),
            }
        } else {
            self.matrix(HEAD, vocab, hidden)?
        };
        Ok(Parts { embeddings, layers, norm, head })
    }

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
        let (hidden, width) = (self.config.hidden, moe.intermediate);
        let gates = self.each_expert(name, "gate_proj", [moe.experts, width, hidden])?;
        let ups = self.each_expert(name, "up_proj", [moe.experts, width, hidden])?;
        let downs = self.each_expert(name, "down_proj", [moe.experts, hidden, width])?;
        let experts = gates.into_iter().zip(ups).zip(downs).map(|((gate, up), down)| Mlp { gate, up, down });
        let shared = match moe.shared_intermediate {
            0 => None,
            width => Some(self.mlp(&format!("{name}.shared_experts"), width)?),
        };
        let experts: Vec<Mlp> = experts.collect();
        let all = || experts.iter().chain(&shared);
        let packed = all().all(|expert| expert.packed().is_some() && expert.gate.n() == width);
        let format = |matrix: &Matrix| matrix.packed().map(|packed| packed.format());
        let formats = || all().flat_map(Mlp::matrices).filter_map(format);
        let needs = (formats().any(|one| one != Format::Bf16), formats().any(|one| one == Format::Bf16));
        Ok(Experts { routing: moe.routing, router, bias, experts, shared, packed, needs })
    }

    /// One matrix `[n, k]` of each expert: `experts.J.{part}.weight`, or merged as `experts.{part}` with or without
    /// `.weight`, `[count, n, k]` (dFactory's conversion and GGUF).
    fn each_expert(&mut self, name: &str, part: &str, [count, n, k]: [usize; 3]) -> Result<Vec<Matrix>, LoadError> {
        let merged = [format!("{name}.experts.{part}.weight"), format!("{name}.experts.{part}")];
        let merged = merged.into_iter().find(|name| self.source.has(name));
        let one = |expert: usize| match &merged {
            Some(merged) => self.source.matrix(merged, &[count, n, k], Some(expert)),
            None => self.matrix(&format!("{name}.experts.{expert}.{part}.weight"), n, k),
        };
        (0..count).map(one).collect()
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
        self.source.values(name, &[length], None)
    }

    fn matrix(&mut self, name: &str, n: usize, k: usize) -> Result<Matrix, LoadError> {
        self.source.matrix(name, &[n, k], None)
    }
}
