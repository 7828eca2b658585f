//! What an operator chooses when an engine is started, and what the engine says about the model it holds.
//! Plain data with defaults; must never read a file or the environment.

use std::path::PathBuf;

use weir_kernels::cuda::WeightFormat;
pub use weir_protocol::{DecoderKind, DiffusionOptions};

use crate::decode::published::ChosenBy;
use crate::decode::settings::DecodeSettings;
use crate::model::recipe::Recipe;

/// Where a checkpoint's files come from.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder in the Hugging Face layout: `config.json`, `tokenizer.json`, `tokenizer_config.json` and
    /// `model.safetensors`, or the shards that `model.safetensors.index.json` lists; or a single GGUF file.
    Dir(PathBuf),
    /// The same files compiled into the program.
    Embedded {
        /// `config.json`.
        config: &'static [u8],
        /// `tokenizer.json`.
        tokenizer: &'static [u8],
        /// `tokenizer_config.json`.
        tokenizer_config: &'static [u8],
        /// `model.safetensors`.
        weights: &'static [u8],
    },
}

/// How an engine runs.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Most requests that share one forward. At least 1 is used.
    pub max_running: usize,
    /// Most requests that wait for a place; one more is refused with `Overloaded`.
    pub queue_limit: usize,
    /// Decoding where a request says nothing (diffusion only). What is left out here is as the model was published:
    /// the decoder by its name or its control tokens, thresholds by the decoder.
    pub defaults: DiffusionOptions,
    /// Most tokens to generate where a request says nothing.
    pub max_tokens_default: u32,
    /// Most bytes of K/V, of running requests and shared prefixes together, in whole pages of 32 positions; `None`
    /// takes [`EngineOptions::kv_bytes_default`]. What one request can have at most is bounded by it, too.
    pub kv_bytes: Option<u64>,
    /// Prompt tokens read in one step, all requests together, so that a long prompt does not hold up the others. At
    /// least one block is read.
    pub step_tokens: usize,
    /// How K/V is stored.
    pub kv_type: KvType,
    /// Who may take K/V of equal prompt beginnings from whom.
    pub share_prefixes: SharePrefixes,
    /// Where forwards run.
    pub device: ComputeDevice,
    /// Experts of a layer that a block may visit, chosen as LLaDA2.2 does, for models that were not trained so: fewer
    /// weights are read, and answers differ (docs/quantisation.md). `None`: as the model was trained.
    pub expert_pool: Option<usize>,
    /// Formats that weights are packed in when they are read (docs/quantisation.md), for models small enough to be packed
    /// at each start. [`Recipe::EXACT`]: as they are stored.
    pub recipe: Recipe,
}

/// Where forwards run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputeDevice {
    /// On the CPU.
    #[default]
    Cpu,
    /// On a GPU; needs the feature `cuda`. Has never run on one (docs/cuda.md).
    Cuda {
        /// Its number, from 0.
        gpu: usize,
        /// How matrices are stored there, whatever the checkpoint has; routers and norms are f32.
        weights: WeightFormat,
    },
}

/// K/V that is set aside at most where nobody said how much, unless one request alone can need more.
const KV_BYTES_DEFAULT_MAX: u64 = 4 << 30;

impl EngineOptions {
    /// Bytes of K/V for a model with contexts of `context_bytes`: twice what all running requests can need, so that as
    /// much is left for prefixes, but not above 4 GiB, and at least one whole context. Memory is taken when first used.
    pub fn kv_bytes_default(&self, context_bytes: u64) -> u64 {
        let twice = context_bytes.saturating_mul(2).saturating_mul(self.max_running as u64);
        twice.min(KV_BYTES_DEFAULT_MAX).max(context_bytes)
    }
}

/// How K/V is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// As computed.
    #[default]
    F32,
    /// Rounded to bfloat16: half the memory; answers may differ from those with [`KvType::F32`].
    Bf16,
    /// In 8 bits, with a scale for each position's keys and values of each head: a quarter of the memory and a little
    /// more; answers differ more often (docs/quantisation.md). On the CPU only.
    Int8,
}

/// Whose K/V a request may use where its prompt begins with the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharePrefixes {
    /// Its own tenant's: the time an answer takes tells nobody what other tenants asked.
    #[default]
    Tenant,
    /// Everybody's: for machines with one owner.
    All,
    /// Nobody's.
    Off,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            max_running: 8,
            queue_limit: 64,
            defaults: DiffusionOptions::default(),
            max_tokens_default: 1024,
            step_tokens: 256,
            kv_bytes: None,
            kv_type: KvType::default(),
            share_prefixes: SharePrefixes::default(),
            device: ComputeDevice::default(),
            expert_pool: None,
            recipe: Recipe::EXACT,
        }
    }
}

/// How a model writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Whole blocks, by denoising (LLaDA2).
    Diffusion,
    /// One token after the other (Ling-2.0, LLaDA2's sibling with the same tensors).
    Autoregressive,
}

/// The model an engine holds.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// How it writes.
    pub kind: EngineKind,
    /// `model_type` of its config.
    pub architecture: String,
    /// Weights, counted; routing biases included.
    pub parameters: u64,
    /// Most tokens of prompt and answer together: what the model was made for, or what K/V memory there is for.
    pub context: u32,
    /// Rows of the output head.
    pub vocab: u32,
    /// Bytes of the weights as stored in the checkpoint.
    pub weights_bytes: u64,
    /// Tokens in a block; 1 for an autoregressive model.
    pub block_length: u32,
    /// How a request is decoded that says nothing about it, and who chose the decoder; `None` for an autoregressive
    /// model.
    pub decoding: Option<(DecodeSettings, ChosenBy)>,
    /// Pages of K/V for all requests and shared prefixes together, 32 positions each.
    pub kv_pages: usize,
    /// Bytes of such a page.
    pub kv_page_bytes: usize,
    /// Name of the kernels chosen for this CPU.
    pub kernels: &'static str,
}

/// What an engine is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineLoad {
    /// Requests that wait for a place.
    pub queued: usize,
    /// Requests that share the forwards.
    pub running: usize,
    /// Pages of K/V that nobody holds.
    pub free_pages: usize,
    /// Pages of K/V kept for requests that begin like earlier ones, those in use included.
    pub shared_pages: usize,
    /// Such pages that were thrown out for running requests, since the start.
    pub evicted_pages: u64,
}
