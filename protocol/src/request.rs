//! A chat request with one meaning, whatever dialect it came in. Must never hold a rule about routing or about a
//! particular backend.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a caller asked for.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// The `model` field as the caller wrote it: `auto`, `diffusion`, `ar`, or a backend's own model id.
    pub model: String,
    /// The conversation, oldest first. Decoders refuse an empty one.
    pub messages: Vec<Message>,
    /// Functions the caller offers. Present in nearly every agent request, so no sign that one is needed.
    pub tools: Vec<Tool>,
    /// Whether the answer may, must or must not call a tool.
    pub tool_choice: ToolChoice,
    /// Whether an answer may call several tools at once; `None` where the caller said nothing.
    pub parallel_tool_calls: Option<bool>,
    /// Whether `messages` is one user turn whose text a model should go on with as it stands, without a chat template
    /// (`POST /v1/completions`). Backends that only converse take it as a turn.
    pub bare_prompt: bool,
    /// Structure demanded of the answer.
    pub response_format: ResponseFormat,
    /// Sampling settings; `None` means the backend's default.
    pub sampling: Sampling,
    /// Most tokens to generate, `None` for the backend's default.
    pub max_tokens: Option<u32>,
    /// Whether the caller wants the answer as a stream.
    pub stream: bool,
    /// Whether a streamed answer ends with a usage chunk (`stream_options.include_usage`).
    pub include_usage: bool,
    /// Settings only a diffusion engine understands (`diffusion` object in the body).
    pub diffusion: DiffusionOptions,
    /// Who pays: an id made from the caller's key, never the key. Requests of one tenant share cached prefixes and a
    /// turn in queues; `None` is the one tenant of all callers without a key.
    pub tenant: Option<Arc<str>>,
    /// Whether nobody waits for the answer (a scheduled job, a periodic look): interactive requests may go first.
    pub background: bool,
    /// Names of body fields that carry a demand the built-in engines cannot honour (for example `n`,
    /// `audio`). The dialect's decoder fills it; routing keeps such requests away from engines that would ignore them.
    pub unsupported: Vec<&'static str>,
    /// Which dialect `raw` is written in. A backend of another one builds its body from the fields above.
    pub dialect: Dialect,
    /// The caller's body as it came, so that an upstream of the same dialect gets unknown fields untouched.
    pub raw: Arc<Map<String, Value>>,
}

/// Which API a caller's body belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `POST /v1/chat/completions`.
    #[default]
    OpenAiChat,
    /// `POST /v1/responses`.
    OpenAiResponses,
    /// `POST /v1/messages`.
    AnthropicMessages,
    /// `POST /v1/completions`: a text to go on with instead of a conversation.
    OpenAiCompletions,
}

impl Dialect {
    /// Stable word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::OpenAiChat => "openai_chat",
            Dialect::OpenAiResponses => "openai_responses",
            Dialect::AnthropicMessages => "anthropic_messages",
            Dialect::OpenAiCompletions => "openai_completions",
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions of the application (`system` and `developer`).
    System,
    /// A person or a trigger.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order. Empty for an assistant turn that only calls tools.
    pub content: Vec<Part>,
    /// Tool calls of an assistant turn.
    pub tool_calls: Vec<ToolCall>,
    /// For [`Role::Tool`]: the call this is the result of.
    pub tool_call_id: Option<String>,
    /// For [`Role::Tool`]: whether the caller marked the result as a failure (Anthropic's `is_error`).
    pub tool_failed: bool,
    /// What an assistant turn thought before it spoke, where the caller sends it back.
    pub reasoning: Option<String>,
    /// The seal its backend put on the reasoning: opaque, and worth something to that backend only.
    pub reasoning_signature: Option<String>,
}

impl Message {
    /// A turn in which nothing is said yet.
    pub fn empty(role: Role) -> Self {
        Message {
            role,
            content: Vec::new(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            tool_failed: false,
            reasoning: None,
            reasoning_signature: None,
        }
    }

    /// A plain text turn.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Message { content: vec![Part::Text(text.into())], ..Message::empty(role) }
    }

    /// All text parts joined, as models without parts see the turn.
    pub fn joined_text(&self) -> String {
        let texts: Vec<&str> = self.content.iter().filter_map(Part::as_text).collect();
        texts.concat()
    }
}

/// A piece of a turn's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// An image by URL or data URL. The built-in engines cannot take it.
    Image {
        /// Where it is.
        url: String,
    },
    /// Anything else, by its type name (audio, file). The built-in engines cannot take it.
    Other {
        /// The part's `type` field.
        kind: String,
    },
}

impl Part {
    /// The text, if this part is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Part::Text(text) => Some(text),
            Part::Image { .. } | Part::Other { .. } => None,
        }
    }
}

/// A function the caller offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Function name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON schema of its arguments, `Null` when the caller gave none.
    pub parameters: Value,
}

/// A call the model made.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Id the result refers to.
    pub id: String,
    /// Function name.
    pub name: String,
    /// Arguments as JSON text.
    pub arguments: String,
}

/// Whether a tool may be called.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No call.
    None,
    /// Some call.
    Required,
    /// This function.
    Function(String),
}

/// Structure demanded of the answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum ResponseFormat {
    /// Free text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that fits this schema.
    JsonSchema(Value),
    /// Text that matches this regular expression as a whole (Rust `regex` syntax).
    Regex(String),
    /// Text that this Lark grammar derives.
    Grammar(String),
}

/// Sampling settings, `None` where the caller said nothing. Order in which an engine applies them: bias and penalties to
/// the logits, then temperature, then `top_k`, `top_p`, `min_p`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// Softmax temperature, 0 to 2; 0 is greedy.
    pub temperature: Option<f32>,
    /// Nucleus mass in (0, 1].
    pub top_p: Option<f32>,
    /// Only so many of the likeliest tokens; 0 is all.
    pub top_k: Option<u32>,
    /// Only tokens at least this share of the likeliest one's probability, in [0, 1].
    pub min_p: Option<f32>,
    /// Seed for reproducible sampling.
    pub seed: Option<u64>,
    /// Added to a token's logit, -100 to 100, by token id of the model that answers.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Divides positive and multiplies negative logits of tokens that occur in prompt or answer, in (0, 2]; 1 is none.
    pub repetition_penalty: Option<f32>,
    /// Subtracted from a token's logit for each time the answer has it, -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// Subtracted from a token's logit once the answer has it, -2 to 2.
    pub presence_penalty: Option<f32>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// No end token before the answer has so many tokens. A stop text still ends it.
    pub min_tokens: Option<u32>,
    /// Report the log-probability of each token, and of so many of the likeliest tokens beside it, 0 to 20.
    pub logprobs: Option<u32>,
}

/// How a diffusion engine should decode. `None` fields take the preset's or the engine's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiffusionOptions {
    /// Named preset.
    pub mode: Option<DecodeMode>,
    /// Which decoder fills a block.
    pub decoder: Option<DecoderKind>,
    /// Confidence above which a mask becomes a token, in [0, 1].
    pub threshold: Option<f32>,
    /// Confidence above which a written token is replaced, in [0, 1].
    pub editing_threshold: Option<f32>,
    /// Most extra editing steps after a block is full, 0..=64.
    pub max_post_steps: Option<u32>,
    /// Tokens in a block, a power of two in 1..=256.
    pub block_length: Option<u32>,
    /// Denoise steps in which a block's masks must be gone, 1..=block_length: fewer steps write more a step.
    pub max_steps: Option<u32>,
    /// Blocks that stay open to edits, 2..=4 (`multi_block` only).
    pub multi_block_window: Option<u32>,
    /// Subtracted from the logit of the token to the left, 0..=10: keeps a token from being written twice in a row.
    pub repeat_penalty: Option<f32>,
    /// Goes over [`Sampling::seed`].
    pub seed: Option<u64>,
    /// Begin from this answer instead of masks, and edit it (decoders that edit).
    pub start_from: Option<String>,
    /// Send [`crate::Event::Draft`] snapshots.
    pub drafts: bool,
}

impl DiffusionOptions {
    /// Whether the caller left decoding to others: half a preset is not a preset, so one word about it counts. A seed
    /// or a wish for drafts is none.
    pub fn is_silent(&self) -> bool {
        *self == DiffusionOptions { seed: self.seed, drafts: self.drafts, ..DiffusionOptions::default() }
    }
}

/// Presets of thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecodeMode {
    /// LLaDA2.1's S: threshold 0.5, editing threshold 0.0 (tech report 2.1, model card).
    Speed,
    /// LLaDA2.1's Q: threshold 0.7, editing threshold 0.5.
    Quality,
    /// No preset: the engine's own settings and the values given.
    Custom,
}

/// Which decoder fills a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderKind {
    /// LLaDA2.0: masks become tokens above a confidence, written tokens stay.
    Threshold,
    /// LLaDA2.1: the same, and written tokens are replaced above a second confidence.
    Joint,
    /// LLaDA2.2: written tokens are replaced, deleted, or pushed right by an insertion.
    Levenshtein,
    /// LLaDA2.1's Multi-Block Editing: finished blocks stay open to edits while the next ones are written.
    MultiBlock,
    /// dInfer: a token into each gap between written ones, so that gaps halve.
    Hierarchy,
    /// dInfer: tokens that were proposed again and again get credit.
    Credit,
}

impl DecoderKind {
    /// All of them with the words callers and configs use.
    pub const ALL: [(&'static str, DecoderKind); 6] = [
        ("threshold", DecoderKind::Threshold),
        ("joint", DecoderKind::Joint),
        ("levenshtein", DecoderKind::Levenshtein),
        ("multi_block", DecoderKind::MultiBlock),
        ("hierarchy", DecoderKind::Hierarchy),
        ("credit", DecoderKind::Credit),
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}
