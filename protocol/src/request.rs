//! A chat request with one meaning, whatever dialect it came in. Must never hold a rule about routing or about a
//! particular backend.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::decoding::DiffusionOptions;
use crate::effort::Effort;

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
    /// Whether the answer goes on from the last message, which is the assistant's and text only, instead of answering it.
    pub prefill: bool,
    /// How much thinking is wished for; `None` where the caller said nothing.
    pub effort: Option<Effort>,
    /// Structure demanded of the answer.
    pub response_format: ResponseFormat,
    /// What the caller says of its schema, where it demands one.
    pub schema_terms: SchemaTerms,
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
    /// What the client says about the request in headers. Advice: it never says who pays.
    pub hints: Hints,
    /// Names of body fields that carry a demand the built-in engines cannot honour (for example `n`,
    /// `audio`). The dialect's decoder fills it; routing keeps such requests away from engines that would ignore them.
    pub unsupported: Vec<&'static str>,
    /// Which dialect `raw` is written in. A backend of another one builds its body from the fields above.
    pub dialect: Dialect,
    /// Whether the request was changed since it came, so that `raw` no longer says all of it.
    pub amended: bool,
    /// The caller's body as it came, so that an upstream of the same dialect gets unknown fields untouched.
    pub raw: Arc<Map<String, Value>>,
    /// The same as text, valid JSON: passing it on costs less than writing `raw` anew, and every digit of a number stays.
    pub written: Option<Arc<str>>,
}

/// What a client may say about a request beside its body. Texts are as sent, cut to a sane length by who read them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Who or what caused it, in a word of the routing's triggers.
    pub trigger: Option<String>,
    /// The agent that asks.
    pub agent: Option<String>,
    /// The conversation it belongs to.
    pub session: Option<String>,
    /// Milliseconds within which the first content is wanted.
    pub first_content_ms: Option<u64>,
    /// Milliseconds within which the whole answer is wanted.
    pub total_ms: Option<u64>,
    /// Which try of the same request it is, from 1.
    pub attempt: Option<u32>,
    /// What it wants of its dialect's newest (Anthropic's `anthropic-beta`), for an upstream of the same dialect.
    pub betas: Option<String>,
    /// What a log may say of where it comes from.
    pub origin: Origin,
}

/// Where a request comes from, in its client's own ids. For logs only: nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The conversation.
    pub session: Option<String>,
    /// The scheduled job.
    pub job: Option<String>,
    /// The agent's run.
    pub run: Option<String>,
    /// The turn within it.
    pub turn: Option<String>,
    /// A name for whose it is. Never who pays: that says the key alone.
    pub tenant_tag: Option<String>,
}

impl ChatRequest {
    /// Whether `raw` is what is asked, in this dialect.
    pub fn is_in(&self, dialect: Dialect) -> bool {
        self.dialect == dialect && !self.amended
    }
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

    /// Whether an answer in it has objects as the arguments of calls, and not text that the caller reads by itself.
    pub fn has_objects_as_arguments(self) -> bool {
        self == Dialect::AnthropicMessages
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

    /// All text parts joined, as models without parts see the turn. Parts of what others say are texts of their own (a
    /// tool's two results) and do not run into each other; those of an answer are pieces of one.
    pub fn joined_text(&self) -> String {
        let mut joined = String::new();
        for text in self.content.iter().filter_map(Part::as_text).filter(|text| !text.is_empty()) {
            let stands_apart = joined.is_empty() || joined.ends_with(char::is_whitespace);
            if self.role != Role::Assistant && !stands_apart && !text.starts_with(char::is_whitespace) {
                joined.push('\n');
            }
            joined.push_str(text);
        }
        joined
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
        /// How closely to look, in a word of OpenAI's dialects.
        detail: Option<String>,
    },
    /// A document, by URL or data URL. The built-in engines cannot take it.
    File {
        /// Where it is.
        url: String,
        /// What it is called.
        name: Option<String>,
    },
    /// Anything else, by its type name (audio, a file that lies with a provider). The built-in engines cannot take it.
    Other {
        /// The part's `type` field.
        kind: String,
    },
}

impl Part {
    /// An image.
    pub fn image(url: impl Into<String>) -> Self {
        Part::Image { url: url.into(), detail: None }
    }

    /// The text, if this part is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Part::Text(text) => Some(text),
            Part::Image { .. } | Part::File { .. } | Part::Other { .. } => None,
        }
    }
}

/// A function the caller offers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tool {
    /// Function name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON schema of its arguments, `Null` when the caller gave none.
    pub parameters: Value,
    /// Whether the caller demands that calls fit the schema. The built-in engines' always do.
    pub strict: bool,
    /// Whether it takes free text (OpenAI's custom tools): elsewhere that is the one member, [`Tool::INPUT`], of an object.
    pub freeform: bool,
    /// The group it stands in (OpenAI's namespaces) and its name there: elsewhere it goes by both, [`Tool::joined`].
    pub grouped: Option<(String, String)>,
}

impl Tool {
    /// The member of a call's arguments that holds the text for a free-form tool.
    pub const INPUT: &str = "input";

    /// The name of what a call is for where there are no groups.
    pub fn called(group: Option<&str>, name: &str) -> String {
        let group = group.filter(|group| !group.is_empty());
        group.map_or_else(|| name.to_owned(), |group| Tool::joined(group, name))
    }

    /// The name of a function in a group where there are no groups: both names, cut to the 64 bytes that OpenAI's and Anthropic's APIs
    /// take. What is cut is told apart by its hash.
    pub fn joined(group: &str, name: &str) -> String {
        const MAX: usize = 64;
        let between = if group.ends_with("__") { "" } else { "__" };
        let mut joined = format!("{group}{between}{name}");
        if joined.len() > MAX {
            let mut hasher = DefaultHasher::new();
            joined.hash(&mut hasher);
            let mark = format!("_{:08x}", hasher.finish() & 0xffff_ffff);
            let end = (0..=MAX - mark.len()).rev().find(|at| joined.is_char_boundary(*at));
            joined.truncate(end.unwrap_or_default());
            joined.push_str(&mark);
        }
        joined
    }
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

/// What stands beside a demanded JSON schema. For upstreams only: the built-in engines always keep to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaTerms {
    /// Its name.
    pub name: Option<String>,
    /// What it is for, for the model.
    pub description: Option<String>,
    /// Whether the answer must fit. Upstreams take only some schemas then, so it is never made up.
    pub strict: bool,
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
