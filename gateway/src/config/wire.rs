//! What an upstream speaks, and the few settings that only some kinds have.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_protocol::{DecoderKind, Dialect};

use super::resolve::Checks;
use super::settings::EngineRole;
use super::written::BackendWritten;

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// OpenAI chat completions: `POST {base_url}/chat/completions`.
    #[default]
    #[serde(rename = "openai-chat")]
    OpenAiChat,
    /// OpenAI responses: `POST {base_url}/responses`.
    #[serde(rename = "openai-responses")]
    OpenAiResponses,
    /// Anthropic messages: `POST {base_url}/messages`.
    Anthropic,
    /// Ollama's own API: `POST {base_url}/api/chat`.
    Ollama,
    /// A LLaDA2 served by sglang: chat completions, with its decoder set at the server's start.
    SglangDllm,
}

impl BackendKind {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            BackendKind::OpenAiChat => "openai-chat",
            BackendKind::OpenAiResponses => "openai-responses",
            BackendKind::Anthropic => "anthropic",
            BackendKind::Ollama => "ollama",
            BackendKind::SglangDllm => "sglang-dllm",
        }
    }

    /// The dialect that callers and it share, if one is.
    pub fn dialect(self) -> Option<Dialect> {
        match self {
            BackendKind::OpenAiChat => Some(Dialect::OpenAiChat),
            BackendKind::OpenAiResponses => Some(Dialect::OpenAiResponses),
            BackendKind::Anthropic => Some(Dialect::AnthropicMessages),
            // The latter speaks chat completions, and the model behind it runs nothing.
            BackendKind::Ollama | BackendKind::SglangDllm => None,
        }
    }
}

/// What a chat completions server calls the most tokens to generate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitField {
    /// The older name, which nearly all servers know.
    #[default]
    MaxTokens,
    /// The newer name, the only one that OpenAI's reasoning models take.
    MaxCompletionTokens,
}

impl LimitField {
    /// The field.
    pub fn as_str(self) -> &'static str {
        match self {
            LimitField::MaxTokens => "max_tokens",
            LimitField::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// How a chat completions server is asked to go on from an assistant's words (a prefill).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrefillForm {
    /// Not at all.
    #[default]
    None,
    /// It does so by itself when the last message is the assistant's (llama.cpp and others).
    LastMessage,
    /// By `continue_final_message` (vLLM, sglang).
    ContinueFinalMessage,
}

/// Where a chat completions server wants back what it thought in the turns before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningField {
    /// Nowhere: many servers refuse such a field.
    #[default]
    None,
    /// DeepSeek's and Kimi's name, who refuse turns with calls but without it; vLLM and sglang know it, too.
    ReasoningContent,
    /// OpenRouter's name and vLLM's newer one.
    Reasoning,
}

impl ReasoningField {
    /// The field.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            ReasoningField::None => None,
            ReasoningField::ReasoningContent => Some("reasoning_content"),
            ReasoningField::Reasoning => Some("reasoning"),
        }
    }
}

/// `[backend.dllm]`: how a `sglang-dllm` server decodes, set at its start (`--dllm-algorithm`, `--dllm-algorithm-config`). It
/// takes none of this per request, so a request that asks for something else goes elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DllmWritten {
    /// `joint` (JointThreshold), `threshold` (LowConfidence) or `hierarchy` (HierarchyBlock). Default `joint`.
    pub decoder: DecoderKind,
    /// Its `threshold`, 0 to 1. Default 0.5.
    pub threshold: f32,
    /// Its `edit_threshold`, 0 to 1. Default 0.
    pub editing_threshold: f32,
    /// Its `max_post_edit_steps`. Default 16.
    pub max_post_steps: u32,
    /// Its `penalty_lambda`, 0 to 10. Default 0.
    pub repeat_penalty: f32,
    /// Its `block_size`. Default 32.
    pub block_length: u32,
    /// Requests waiting there (`GET /v1/loads`, asked once a second at most) from which on the plan goes on. Default 0:
    /// not asked.
    pub max_waiting: u64,
}

impl Default for DllmWritten {
    fn default() -> Self {
        DllmWritten {
            decoder: DecoderKind::Joint,
            threshold: 0.5,
            editing_threshold: 0.0,
            max_post_steps: 16,
            repeat_penalty: 0.0,
            block_length: 32,
            max_waiting: 0,
        }
    }
}

/// What an upstream speaks, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct WireSettings {
    /// The protocol.
    pub kind: BackendKind,
    /// Most time until the response headers.
    pub headers_timeout: Duration,
    /// Tokens to ask for where the caller gives no limit and the kind demands one.
    pub max_tokens: u32,
    /// What chat completions call that limit.
    pub limit_field: LimitField,
    /// How chat completions are asked to go on from an assistant's words.
    pub prefill: PrefillForm,
    /// Where chat completions are told what was thought before.
    pub reasoning_field: ReasoningField,
    /// Whether it may be told how much to think.
    pub takes_effort: bool,
    /// Whether offered tools that it cannot have are left out.
    pub leaves_out_tools: bool,
    /// Whether it has `POST {base_url}/completions` too.
    pub completions: bool,
    /// Whether it is asked to stream what its caller wants whole.
    pub stream_whole: bool,
    /// How a `sglang-dllm` server decodes.
    pub dllm: DllmWritten,
}

#[cfg(test)]
impl WireSettings {
    /// As a config says it that names the kind and nothing else.
    pub(crate) fn plain(kind: BackendKind) -> Self {
        let long = Duration::from_secs(20);
        WireSettings {
            kind,
            headers_timeout: long,
            max_tokens: 99,
            limit_field: LimitField::MaxTokens,
            prefill: PrefillForm::None,
            reasoning_field: ReasoningField::None,
            takes_effort: false,
            leaves_out_tools: false,
            completions: false,
            stream_whole: true,
            dllm: DllmWritten::default(),
        }
    }
}

impl Checks<'_> {
    /// What the backend at this place speaks, and how it makes its answers.
    pub(super) fn wire(&mut self, index: &str, typed: &BackendWritten) -> (WireSettings, EngineRole) {
        self.at_least_one(&["backend", index, "max_tokens"], u64::from(typed.max_tokens));
        let only_chat = [
            ("completions", typed.completions),
            ("prefill", typed.prefill != PrefillForm::None),
            ("reasoning_field", typed.reasoning_field != ReasoningField::None),
        ];
        for (key, _) in only_chat.into_iter().filter(|(_, set)| *set && typed.kind != BackendKind::OpenAiChat) {
            self.say(&["backend", index, key], "only an `openai-chat` backend has this setting", "leave it out");
        }
        let is_dllm = typed.kind == BackendKind::SglangDllm;
        if is_dllm {
            self.dllm(index, &typed.dllm);
        } else if typed.dllm != DllmWritten::default() {
            let help = "set `kind = \"sglang-dllm\"`, or leave the table out";
            self.say(&["backend", index, "dllm"], "only a `sglang-dllm` backend has such settings", help);
        }
        let wire = WireSettings {
            kind: typed.kind,
            headers_timeout: Duration::from_millis(typed.headers_timeout_ms),
            max_tokens: typed.max_tokens,
            limit_field: typed.limit_field,
            prefill: typed.prefill,
            reasoning_field: typed.reasoning_field,
            takes_effort: typed.takes_effort,
            leaves_out_tools: typed.leaves_out_tools,
            completions: typed.completions,
            stream_whole: typed.stream_whole,
            dllm: typed.dllm.clone(),
        };
        // A LLaDA2 cannot be anything else.
        (wire, if is_dllm { EngineRole::Diffusion } else { typed.role })
    }

    fn dllm(&mut self, index: &str, typed: &DllmWritten) {
        let known = matches!(typed.decoder, DecoderKind::Joint | DecoderKind::Threshold | DecoderKind::Hierarchy);
        let within = |value: f32, most: f32| (0.0..=most).contains(&value);
        let rules = [
            ("decoder", known, "sglang has `joint`, `threshold` and `hierarchy`"),
            ("threshold", within(typed.threshold, 1.0), "must lie between 0 and 1"),
            ("editing_threshold", within(typed.editing_threshold, 1.0), "must lie between 0 and 1"),
            ("repeat_penalty", within(typed.repeat_penalty, 10.0), "must lie between 0 and 10"),
            ("block_length", typed.block_length > 0, "must not be 0"),
        ];
        for (key, is_right, message) in rules {
            if !is_right {
                self.say(&["backend", index, "dllm", key], message, "");
            }
        }
    }
}
