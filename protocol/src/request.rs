//! A chat request with one meaning, whatever dialect it came in. Must never hold a rule about routing or about a
//! particular backend.

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
    /// Names of body fields that carry a demand the built-in engines cannot honour (for example `logprobs`,
    /// `n`). The dialect's decoder fills it; routing keeps such requests away from engines that would ignore them.
    pub unsupported: Vec<&'static str>,
    /// The caller's body as it came, so that an upstream of the same dialect gets unknown fields untouched.
    pub raw: Arc<Map<String, Value>>,
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
}

impl Message {
    /// A plain text turn.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Message { role, content: vec![Part::Text(text.into())], tool_calls: Vec::new(), tool_call_id: None }
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
}

/// Sampling settings, `None` where the caller said nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// Softmax temperature; 0 is greedy.
    pub temperature: Option<f32>,
    /// Nucleus mass in (0, 1].
    pub top_p: Option<f32>,
    /// Seed for reproducible sampling.
    pub seed: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// How a diffusion engine should decode. `None` fields take the preset's or the model's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiffusionOptions {
    /// Named preset.
    pub mode: Option<DecodeMode>,
    /// Confidence above which a mask becomes a token, in [0, 1].
    pub threshold: Option<f32>,
    /// Confidence above which a written token is replaced, in [0, 1].
    pub editing_threshold: Option<f32>,
    /// Most extra editing steps after a block is full, 0..=64.
    pub max_post_steps: Option<u32>,
    /// Send [`crate::Event::Draft`] snapshots.
    pub drafts: bool,
}

/// LLaDA2.1's published presets (tech report 2.1, model card).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecodeMode {
    /// S: threshold 0.5, editing threshold 0.0.
    Speed,
    /// Q: threshold 0.7, editing threshold 0.5.
    Quality,
}
