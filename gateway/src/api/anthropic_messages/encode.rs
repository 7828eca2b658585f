//! The shapes of an answer on the wire. Data only: the order in which they may come is [`super::stream`]'s business.

use serde::Serialize;
use serde_json::value::RawValue;
use weir_protocol::{FinishReason, Usage};

use crate::api::answering::stats::{DiffusionBody, DraftBody, Extra};

/// What streams send while nothing is ready.
pub(super) const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// The signature of thinking that no backend of this dialect has signed: sent back, it is known for what it is
/// (`backends/anthropic/unsealed.rs`).
pub(crate) const UNSEALED: &str = "weir";

/// An answer: whole, or as a stream begins it.
#[derive(Serialize)]
pub(crate) struct MessageBody {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) role: &'static str,
    pub(super) model: String,
    pub(super) content: Vec<Block>,
    pub(super) stop_reason: Option<&'static str>,
    pub(super) stop_sequence: Option<String>,
    pub(super) usage: UsageBody,
}

/// A piece of an answer.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block {
    Thinking { thinking: String, signature: String },
    Text { text: String },
    ToolUse { id: String, name: String, input: Input },
}

/// The arguments of a call.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Input {
    /// They are told piece by piece.
    Later {},
    /// As the backend wrote them.
    Written(Box<RawValue>),
}

/// One event of a stream, under the name of its `type`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StreamEvent {
    MessageStart {
        message: MessageBody,
    },
    ContentBlockStart {
        index: usize,
        content_block: Block,
    },
    ContentBlockDelta {
        index: usize,
        delta: BlockDelta,
    },
    ContentBlockStop {
        index: usize,
    },
    MessageDelta {
        delta: MessageDelta,
        usage: UsageBody,
        #[serde(skip_serializing_if = "Option::is_none")]
        weir: Option<Extra>,
    },
    MessageStop,
    /// What only Weir has; clients that do not know it skip it.
    #[serde(rename = "weir.draft")]
    Draft {
        draft: DraftBody,
    },
}

impl StreamEvent {
    /// The event's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            StreamEvent::MessageStart { .. } => "message_start",
            StreamEvent::ContentBlockStart { .. } => "content_block_start",
            StreamEvent::ContentBlockDelta { .. } => "content_block_delta",
            StreamEvent::ContentBlockStop { .. } => "content_block_stop",
            StreamEvent::MessageDelta { .. } => "message_delta",
            StreamEvent::MessageStop => "message_stop",
            StreamEvent::Draft { .. } => "weir.draft",
        }
    }
}

/// More of a block.
#[derive(Serialize)]
#[serde(tag = "type")]
pub(super) enum BlockDelta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: String },
}

#[derive(Serialize)]
pub(super) struct MessageDelta {
    pub(super) stop_reason: &'static str,
    pub(super) stop_sequence: Option<String>,
}

/// Tokens, with what a diffusion engine adds. The dialect demands numbers: zeros where the backend told none.
#[derive(Serialize)]
pub(super) struct UsageBody {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<OutputDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diffusion: Option<DiffusionBody>,
}

#[derive(Serialize)]
struct OutputDetails {
    thinking_tokens: u64,
}

impl From<&Usage> for UsageBody {
    fn from(usage: &Usage) -> Self {
        // Here the prompt's tokens are told in three parts that do not overlap.
        let cached = usage.cached_tokens.saturating_add(usage.cache_write_tokens);
        UsageBody {
            input_tokens: usage.prompt_tokens.saturating_sub(cached),
            cache_creation_input_tokens: usage.cache_write_tokens,
            cache_read_input_tokens: usage.cached_tokens,
            output_tokens: usage.completion_tokens,
            output_tokens_details: (usage.reasoning_tokens > 0)
                .then_some(OutputDetails { thinking_tokens: usage.reasoning_tokens }),
            diffusion: DiffusionBody::of(usage),
        }
    }
}

/// The reason of an answer, `refused` if the model would not do what was asked.
pub(super) fn with_refusal(reason: FinishReason, refused: bool) -> FinishReason {
    if refused && reason == FinishReason::Stop { FinishReason::ContentFilter } else { reason }
}

/// The dialect's word for the end; a stop text that is known has its own.
pub(super) fn stop_reason(reason: FinishReason, stopped_at: Option<&str>) -> &'static str {
    match reason {
        FinishReason::Stop if stopped_at.is_some() => "stop_sequence",
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
    }
}
