//! How fast the real forward is on a model of a given shape with random weights, without a download. The model, the
//! cache and the kernels are those that serve. Must never be used to answer anybody.

use std::time::{Duration, Instant};

use weir_kernels::KernelError;
pub use weir_kernels::packed::{Roofline, Team};

use crate::cache::KvCache;
use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::source::{Bytes, Named};
use crate::error::LoadError;
use crate::model::forward::{Lane, Visibility};
use crate::model::head::Wanted;
use crate::model::random::Random;
use crate::model::recipe::Recipe;
use crate::model::weights::Model;
use crate::options::KvType;

const SEED: u64 = 4;

/// Tokens of a block.
pub const BLOCK: usize = 32;

/// A shape to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// LLaDA2-mini and Ling-mini-2.0: 16.26 billion weights.
    Mini,
    /// Its first two layers and its whole vocabulary: 1.5 billion.
    Slice,
    /// The embedded models: 1.3 million.
    Nano,
}

impl Shape {
    /// Layers of the model that this is a part of, over the layers it has.
    fn layers(self) -> usize {
        match self {
            Shape::Mini => 20,
            Shape::Slice => 2,
            Shape::Nano => 4,
        }
    }

    /// The published config of LLaDA2.1-mini or that of the embedded model, as far as the forward reads it.
    fn config(self) -> String {
        if self == Shape::Nano {
            return r#"{"model_type": "llada2_moe", "vocab_size": 1280, "hidden_size": 128, "intermediate_size": 256,
                "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
                "rms_norm_eps": 1e-6, "max_position_embeddings": 1024, "rope_theta": 64, "partial_rotary_factor": 0.5,
                "num_experts": 8, "num_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2,
                "routed_scaling_factor": 2.5, "moe_intermediate_size": 64, "first_k_dense_replace": 1}"#
                .to_owned();
        }
        format!(
            r#"{{"model_type": "llada2_moe", "vocab_size": 157184, "hidden_size": 2048, "intermediate_size": 5120,
            "num_hidden_layers": {}, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128,
            "rms_norm_eps": 1e-6, "max_position_embeddings": 32768, "rope_theta": 600000, "partial_rotary_factor": 0.5,
            "num_experts": 256, "num_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4,
            "routed_scaling_factor": 2.5, "moe_intermediate_size": 512, "first_k_dense_replace": 1}}"#,
            self.layers()
        )
    }
}

/// One forward, measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// From its call to its result.
    pub time: Duration,
    /// Each part's name, time, bytes of weights read, and operations with weights.
    pub parts: Vec<(&'static str, Duration, u64, u64)>,
    /// Routed experts visited, on average over the layers that have some.
    pub experts: f64,
}

/// A model of random weights.
pub struct SpeedModel {
    model: Model,
    bytes: u64,
    seed: u64,
}

impl std::fmt::Debug for SpeedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpeedModel").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl SpeedModel {
    /// Makes the weights; `pool` lets a block visit so many experts of a layer only. `large_pages` asks the system to
    /// back them with large pages, as for a mapped file.
    ///
    /// # Errors
    /// When the memory is not there.
    pub fn new(shape: Shape, recipe: Recipe, pool: Option<usize>, large_pages: bool) -> Result<SpeedModel, LoadError> {
        let config = Named { name: "shape".into(), bytes: Bytes::Owned(shape.config().into_bytes()) };
        let mut source = Random::new(recipe, SEED, large_pages);
        let model = Model::from_source(ModelConfig::parse(&config)?, &mut source)?.with_pool(pool);
        let (bytes, parameters) = (source.bytes, source.parameters);
        Ok(SpeedModel { model: Model { parameters, stored_bytes: bytes, ..model }, bytes, seed: SEED })
    }

    /// The same weights with another pool.
    pub fn with_pool(self, pool: Option<usize>) -> SpeedModel {
        SpeedModel { model: self.model.with_pool(pool), ..self }
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many weights.
    pub fn parameters(&self) -> u64 {
        self.model.parameters
    }

    /// Names of the f32 kernels and the packed ones, and how many threads they run on.
    pub fn kernels(&self) -> (&'static str, &'static str, usize) {
        let products = self.model.compute.products;
        (self.model.compute.kernels.name(), products.kernels.name(), products.team.threads())
    }

    /// What the machine can do at most, measured on `bytes` of fresh memory.
    pub fn roofline(&self, bytes: usize) -> Roofline {
        // Not zeros: a system may map one page of them everywhere.
        self.model.compute.products.roofline(&vec![1; bytes])
    }

    /// A request with `prefix` tokens of prompt in its cache of this kind, and how long reading them took.
    ///
    /// # Errors
    /// When the forward refuses.
    pub fn request(&mut self, prefix: usize, kind: KvType) -> Result<(Request, Duration), KernelError> {
        let mut cache = KvCache::alone(self.model.kv_shape(), kind, prefix + 4 * BLOCK);
        let tokens = self.tokens(prefix);
        let began = Instant::now();
        if prefix > 0 {
            let visibility = Visibility::Blocks(BLOCK);
            let lane = Lane {
                tokens: &tokens,
                computed: None,
                logits_from: prefix,
                wanted: Wanted::All,
                cache: &mut cache,
                visibility,
            };
            self.model.forward(&mut [lane])?;
            cache.commit(&tokens);
        }
        Ok((Request(cache), began.elapsed()))
    }

    /// One denoise step: a block of each request, of which `open` positions are computed (all of them for the first time),
    /// with logits for these or none. Nothing is committed.
    ///
    /// # Errors
    /// When the forward refuses.
    pub fn block(&mut self, requests: &mut [Request], open: usize, logits: bool) -> Result<Measured, KernelError> {
        let canvases: Vec<Vec<u32>> = requests.iter().map(|_| self.tokens(BLOCK)).collect();
        let open: Vec<usize> = (0..open).map(|nth| nth * BLOCK / open).collect();
        let asked = if logits { open.as_slice() } else { &[] };
        let lanes = requests.iter_mut().zip(&canvases).map(|(request, tokens)| Lane {
            tokens,
            computed: Some(&open),
            logits_from: 0,
            wanted: Wanted::Logits(asked),
            cache: &mut request.0,
            visibility: Visibility::Blocks(BLOCK),
        });
        self.forward(&mut lanes.collect::<Vec<_>>())
    }

    /// One token of the autoregressive twin: the same weights, causal.
    ///
    /// # Errors
    /// When the forward refuses.
    pub fn token(&mut self, request: &mut Request) -> Result<Measured, KernelError> {
        let tokens = self.tokens(1);
        let (visibility, wanted) = (Visibility::Causal, Wanted::All);
        let lane = Lane { tokens: &tokens, computed: None, logits_from: 0, wanted, cache: &mut request.0, visibility };
        self.forward(&mut [lane])
    }

    fn forward(&self, lanes: &mut [Lane<'_>]) -> Result<Measured, KernelError> {
        let began = Instant::now();
        let predictions = self.model.forward(lanes)?;
        let time = began.elapsed();
        self.model.take_back(predictions);
        let scratch = self.model.scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let sparse = (self.model.config.layers - self.model.config.dense_layers).max(1);
        Ok(Measured {
            time,
            parts: scratch.clock.shares().map(|(name, s)| (name, s.time, s.bytes, s.operations)).collect(),
            experts: scratch.clock.experts_visited() as f64 / sparse as f64,
        })
    }

    /// Tokens at random, so that routing is spread as text spreads it.
    fn tokens(&mut self, count: usize) -> Vec<u32> {
        let vocab = self.model.config.vocab as u64;
        let next = || {
            self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            ((self.seed >> 33) % vocab) as u32
        };
        std::iter::repeat_with(next).take(count).collect()
    }
}

/// A request's cache.
pub struct Request(KvCache);

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Request").field(&self.0.committed()).finish()
    }
}
