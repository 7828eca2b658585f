//! What an operator chooses when an engine is started, and what the engine says about the model it holds.
//! Plain data with defaults; must never read a file or the environment.

use std::path::PathBuf;

pub use weir_protocol::DecoderKind;

/// Where a checkpoint's files come from.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder in the Hugging Face layout: `config.json`, `tokenizer.json`, `tokenizer_config.json` and
    /// `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
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
    /// Decoding where a request says nothing (diffusion only).
    pub defaults: DecodeDefaults,
    /// Most tokens to generate where a request says nothing.
    pub max_tokens_default: u32,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions { max_running: 8, queue_limit: 64, defaults: DecodeDefaults::default(), max_tokens_default: 1024 }
    }
}

/// Decoding settings of a diffusion engine. The default is LLaDA2.1's `quality` preset.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeDefaults {
    /// Which decoder. A request that names a preset (`diffusion.mode`) gets one that edits: this one if it does, else
    /// [`DecoderKind::Joint`].
    pub decoder: DecoderKind,
    /// Confidence above which a mask becomes a token, in [0, 1].
    pub threshold: f32,
    /// Confidence above which a written token is replaced, in [0, 1] (decoders that edit).
    pub editing_threshold: f32,
    /// Most editing forwards after a block is full, 0..=64 (decoders that edit).
    pub max_post_steps: u32,
    /// Tokens in a block, a power of two in 1..=256. Should be what the model was trained with.
    pub block_length: usize,
    /// Steps in which a block's masks must be gone, 1..=block_length: at least an equal share is written in each.
    pub max_steps_per_block: u32,
    /// Blocks that stay open to edits, 2..=4 (`multi_block` only).
    pub multi_block_window: u32,
    /// Subtracted from the logit of the token to the left, 0..=10.
    pub repeat_penalty: f32,
}

impl Default for DecodeDefaults {
    fn default() -> Self {
        DecodeDefaults {
            decoder: DecoderKind::Joint,
            threshold: 0.7,
            editing_threshold: 0.5,
            max_post_steps: 16,
            block_length: 32,
            max_steps_per_block: 32,
            multi_block_window: 2,
            repeat_penalty: 0.0,
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
    /// Most tokens of prompt and answer together.
    pub context: u32,
    /// Rows of the output head.
    pub vocab: u32,
    /// Bytes of the weights as stored in the checkpoint.
    pub weights_bytes: u64,
    /// Tokens in a block; 1 for an autoregressive model.
    pub block_length: u32,
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
}
