//! What the operator may type: every key, its meaning and its default. Filling these types needs nothing but the text
//! typed; whether a file exists or a name resolves is [`super::resolve`]'s business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_protocol::DecoderKind;

use super::attempts::{AttemptsWritten, ExhaustedWritten, HealthWritten};
use super::device::GpuWeights;
use super::latency::LatencyWritten;
use super::or_auto::OrAuto;
use super::policy::PolicyWritten;
use super::server::{AdminWritten, ServerWritten};
use super::settings::{EngineRole, KvType, SharePrefixes};
use super::telemetry::{RequestLogWritten, TracingWritten};
use super::tenants::{PriceWritten, TenantWritten, TenantsWritten};
use super::wire::{BackendKind, DllmWritten, LimitField, PrefillForm, ReasoningField};

/// A whole `weir.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Written {
    /// The listening side.
    pub server: ServerWritten,
    /// The operator's side.
    pub admin: AdminWritten,
    /// The built-in engines.
    pub engine: EnginesWritten,
    /// Upstreams. Default: none.
    pub backend: Vec<BackendWritten>,
    /// Routing rules.
    pub policy: PolicyWritten,
    /// Where tenants' accounts are kept.
    pub tenants: TenantsWritten,
    /// Who may ask. Default: everybody, without a key.
    pub tenant: Vec<TenantWritten>,
    /// How the attempts of a plan are made.
    pub attempts: AttemptsWritten,
    /// What callers are told when no backend could answer.
    pub exhausted: ExhaustedWritten,
    /// How backends' times are learnt and kept.
    pub latency: LatencyWritten,
    /// A line for each finished request.
    pub request_log: RequestLogWritten,
    /// Distributed traces.
    pub tracing: TracingWritten,
}

/// `[engine]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnginesWritten {
    /// Whether each thread that computes beside an engine's own stays on one core. Default false.
    pub pin_threads: bool,
    /// The block-diffusion engine.
    pub diffusion: DiffusionWritten,
    /// Its AR twin.
    pub ar: ArWritten,
}

/// `[engine.diffusion]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionWritten {
    /// Whether the engine is loaded. Default true.
    pub enabled: bool,
    /// `builtin:nano` or a directory in the Hugging Face layout. Default `builtin:nano`.
    pub model: String,
    /// Public name of the model. Default empty: made from `model`.
    pub name: String,
    /// `threshold`, `joint`, `levenshtein`, `multi_block`, `hierarchy` or `credit`. Default `auto`: by the model's name
    /// (LLaDA2.0, 2.1) or its control tokens (2.2), `threshold` for `builtin:nano`, else `joint`.
    pub decoder: OrAuto<DecoderKind>,
    /// Confidence above which a mask becomes a token, 0 to 1. Default `auto`: what the decoder was published with.
    pub threshold: OrAuto<f32>,
    /// Confidence above which a written token is replaced, 0 to 1. Default `auto`: what the decoder was published with.
    pub editing_threshold: OrAuto<f32>,
    /// Most editing steps after a block is full, 0 to 64. Default 16.
    pub max_post_steps: u32,
    /// Tokens in a block, a power of two up to 256. Default 32, what LLaDA2 models were trained with.
    pub block_length: u32,
    /// Steps in which a block's masks must be gone, 1 to `block_length`. Default 0: `block_length`.
    pub max_steps: u32,
    /// Blocks that stay open to edits, 2 to 4 (`multi_block` only). Default 2.
    pub multi_block_window: u32,
    /// Subtracted from the logit of the token to the left, 0 to 10. Default 0.
    pub repeat_penalty: f32,
    /// Every so many-th forward of a block computes all of it, 1 to 256; those between only what is still open or was just
    /// written, which is faster, and answers may differ. Default 1: all of it each time.
    pub refresh_every: u32,
    /// Requests that share a forward. Default 8.
    pub max_running: usize,
    /// Requests that may wait. Default 64.
    pub queue_limit: usize,
    /// Tokens generated when the caller gives no limit. Default 512.
    pub max_tokens: u32,
    /// Memory for K/V in MiB, running requests and shared prefixes together. Default 0: chosen from the model's size.
    pub kv_cache_mb: u64,
    /// How K/V is stored: `f32`, `bf16` for half the memory, `int8` for little more than a quarter; both are faster behind long
    /// prompts. Default `f32`.
    pub kv_type: KvType,
    /// Whose K/V serves requests that begin alike: `tenant`, `all` or `off`. Default `tenant`.
    pub share_prefixes: SharePrefixes,
    /// Prompt tokens read in one step, all requests together. Default 256.
    pub step_tokens: usize,
    /// Experts of a layer that a block may visit. Default 0: as the model was trained.
    pub expert_pool: usize,
    /// Formats that weights are packed in at the start: `auto`, `stored` or a recipe as of `weir model pack`. Default `auto`:
    /// `q8` for `builtin:nano` on the CPU, else as stored.
    pub recipe: String,
    /// Where forwards run: `cpu`, `cuda`, or `cuda:1` for the second GPU. Default `cpu`.
    pub device: String,
    /// How weights are stored on a GPU: `f32`, `bf16`, `q8` or `q4`. Default `bf16`.
    pub gpu_weights: GpuWeights,
    /// Prompt beginnings read at the start. Default: none.
    pub warm: Vec<WarmWritten>,
}

impl Default for DiffusionWritten {
    fn default() -> Self {
        DiffusionWritten {
            enabled: true,
            model: "builtin:nano".into(),
            name: String::new(),
            decoder: OrAuto(None),
            threshold: OrAuto(None),
            editing_threshold: OrAuto(None),
            max_post_steps: 16,
            block_length: 32,
            max_steps: 0,
            multi_block_window: 2,
            repeat_penalty: 0.0,
            refresh_every: 1,
            max_running: 8,
            queue_limit: 64,
            max_tokens: 512,
            kv_cache_mb: 0,
            kv_type: KvType::F32,
            share_prefixes: SharePrefixes::Tenant,
            step_tokens: 256,
            expert_pool: 0,
            recipe: "auto".into(),
            device: "cpu".into(),
            gpu_weights: GpuWeights::Bf16,
            warm: Vec::new(),
        }
    }
}

/// `[engine.ar]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArWritten {
    /// Whether the engine is loaded. Default true.
    pub enabled: bool,
    /// `builtin:nano` or a directory in the Hugging Face layout. Default `builtin:nano`.
    pub model: String,
    /// Public name of the model. Default empty: made from `model`.
    pub name: String,
    /// Requests that share a forward. Default 8.
    pub max_running: usize,
    /// Requests that may wait. Default 64.
    pub queue_limit: usize,
    /// Tokens generated when the caller gives no limit. Default 512.
    pub max_tokens: u32,
    /// Memory for K/V in MiB, running requests and shared prefixes together. Default 0: chosen from the model's size.
    pub kv_cache_mb: u64,
    /// How K/V is stored: `f32`, `bf16` for half the memory, `int8` for little more than a quarter; both are faster behind long
    /// prompts. Default `f32`.
    pub kv_type: KvType,
    /// Whose K/V serves requests that begin alike: `tenant`, `all` or `off`. Default `tenant`.
    pub share_prefixes: SharePrefixes,
    /// Prompt tokens read in one step, all requests together. Default 256.
    pub step_tokens: usize,
    /// Formats that weights are packed in at the start: `auto`, `stored` or a recipe as of `weir model pack`. Default `auto`:
    /// `q8` for `builtin:nano` on the CPU, else as stored.
    pub recipe: String,
    /// Where forwards run: `cpu`, `cuda`, or `cuda:1` for the second GPU. Default `cpu`.
    pub device: String,
    /// How weights are stored on a GPU: `f32`, `bf16`, `q8` or `q4`. Default `bf16`.
    pub gpu_weights: GpuWeights,
    /// Prompt beginnings read at the start. Default: none.
    pub warm: Vec<WarmWritten>,
}

impl Default for ArWritten {
    fn default() -> Self {
        ArWritten {
            enabled: true,
            model: "builtin:nano".into(),
            name: String::new(),
            max_running: 8,
            queue_limit: 64,
            max_tokens: 512,
            kv_cache_mb: 0,
            kv_type: KvType::F32,
            share_prefixes: SharePrefixes::Tenant,
            step_tokens: 256,
            recipe: "auto".into(),
            device: "cpu".into(),
            gpu_weights: GpuWeights::Bf16,
            warm: Vec::new(),
        }
    }
}

/// `[[engine.diffusion.warm]]` and `[[engine.ar.warm]]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmWritten {
    /// Name in the log. Required.
    pub name: String,
    /// File with a chat request as JSON: the `messages` and `tools` that conversations begin with. Required.
    pub file: String,
}

/// `[[backend]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendWritten {
    /// Name in policies, metrics and headers. Required.
    pub name: String,
    /// What it speaks: `openai-chat`, `openai-responses`, `anthropic`, `ollama` or `sglang-dllm`. Default `openai-chat`.
    pub kind: BackendKind,
    /// Where it is, up to and with `/v1`; for `ollama` without it. Required.
    pub base_url: String,
    /// Environment variable that holds the key. Default empty: no key is sent.
    pub api_key_env: String,
    /// Model to ask for. Required.
    pub model: String,
    /// Further model ids callers may name. Default: none.
    pub models: Vec<String>,
    /// The model's window in tokens. Default 32768.
    pub context_tokens: u64,
    /// How it makes its answers, for `role:…` in policies: `ar` or `diffusion`. Default `ar`.
    pub role: EngineRole,
    /// Whether it takes images. Default false.
    pub takes_images: bool,
    /// Whether it calls tools. Default true.
    pub takes_tools: bool,
    /// Headers sent with each request. Default: none.
    pub headers: BTreeMap<String, String>,
    /// Tokens to ask for where the caller gives no limit and the kind demands one (`anthropic`). Default 4096.
    pub max_tokens: u32,
    /// What chat completions call that limit: `max_tokens` or `max_completion_tokens`, which OpenAI's reasoning models
    /// want; used where the caller speaks another dialect. Default `max_tokens`.
    pub limit_field: LimitField,
    /// How an `openai-chat` server goes on from an assistant's words: `none`, `last_message` (by itself) or
    /// `continue_final_message` (a field of vLLM's and sglang's). Default `none`: such requests go elsewhere.
    pub prefill: PrefillForm,
    /// Where an `openai-chat` server wants back what it thought in the turns before: `none`, `reasoning_content` (DeepSeek and
    /// Kimi refuse conversations with calls without it) or `reasoning`; used where the caller speaks another dialect. Default
    /// `none`.
    pub reasoning_field: ReasoningField,
    /// Whether callers' wishes how much to think are passed on in another dialect's words. Default false: models that do
    /// not think refuse them.
    pub takes_effort: bool,
    /// Whether tools that only the caller's API runs (web search) are left out for it, where another dialect offers them and
    /// none has to be called, without looking for a backend that runs them. Default false: left out only where none of the
    /// plan runs them and functions are offered beside.
    pub leaves_out_tools: bool,
    /// Whether an `openai-chat` server has `POST {base_url}/completions` too: callers of that dialect, with `suffix` too,
    /// are then answered by it. Default false.
    pub completions: bool,
    /// Whether it is asked to stream what the caller wants whole, so that a stalled answer shows. Default true; false costs
    /// less where both speak the same dialect, and the waits until headers and first content must then cover the answer.
    pub stream_whole: bool,
    /// What a `sglang-dllm` server was started with. Default: its own defaults for LLaDA2.1.
    pub dllm: DllmWritten,
    /// Most time to open a connection. Default 5 s.
    pub connect_timeout_ms: u64,
    /// Most time until the response headers. Default 60 s.
    pub headers_timeout_ms: u64,
    /// Most time until the first content. Default 60 s.
    pub first_content_timeout_ms: u64,
    /// Most time between two pieces of an answer. Default 60 s.
    pub idle_timeout_ms: u64,
    /// Most time for a whole answer. Default 10 min.
    pub total_timeout_ms: u64,
    /// Backends of one group are equals: the best placed one is asked. Plans and callers may name the group. Default
    /// empty: the backend stands alone.
    pub group: String,
    /// Attempts under way at once; beyond it the plan goes on: nobody waits here, so tenants' priorities have no say. Default
    /// 0: no limit.
    pub max_in_flight: usize,
    /// Tries again here, after a failure that may pass, before the plan goes on. Default 0.
    pub retries: u32,
    /// Whether a conversation comes back to the same member of the group, whose cache knows it. Default false.
    pub caches_prefixes: bool,
    /// Looks at the backend from time to time.
    pub health: HealthWritten,
    /// What it costs, for tenants' budgets.
    pub price: PriceWritten,
}

impl Default for BackendWritten {
    fn default() -> Self {
        BackendWritten {
            name: String::new(),
            kind: BackendKind::OpenAiChat,
            base_url: String::new(),
            api_key_env: String::new(),
            model: String::new(),
            models: Vec::new(),
            context_tokens: 32_768,
            role: EngineRole::Ar,
            takes_images: false,
            takes_tools: true,
            headers: BTreeMap::new(),
            max_tokens: 4096,
            limit_field: LimitField::MaxTokens,
            prefill: PrefillForm::None,
            reasoning_field: ReasoningField::None,
            takes_effort: false,
            leaves_out_tools: false,
            completions: false,
            stream_whole: true,
            dllm: DllmWritten::default(),
            connect_timeout_ms: 5_000,
            headers_timeout_ms: 60_000,
            first_content_timeout_ms: 60_000,
            idle_timeout_ms: 60_000,
            total_timeout_ms: 600_000,
            group: String::new(),
            max_in_flight: 0,
            retries: 0,
            caches_prefixes: false,
            health: HealthWritten::default(),
            price: PriceWritten::default(),
        }
    }
}
