//! The shapes of an answer on the wire. Data only: the order in which they may come is [`super::stream`]'s business.

use serde::Serialize;
use weir_protocol::{TokenChance, TokenLogprob, Usage};

use crate::api::answering::stats::{DiffusionBody, Extra};

/// The last frame of a complete stream.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// One piece of a streamed answer.
#[derive(Serialize)]
pub(crate) struct Chunk<'a> {
    pub(crate) id: &'a str,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: &'a str,
    /// One choice, or none in the usage chunk.
    pub(crate) choices: &'a [ChunkChoice],
    /// Absent unless the caller asked for usage; then null in every chunk but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Option<UsageBody>>,
    /// What only Weir has; clients that do not know it skip it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weir: Option<Extra>,
}

#[derive(Serialize)]
pub(crate) struct ChunkChoice {
    pub(crate) index: u32,
    pub(crate) delta: Delta,
    /// Absent unless the caller asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logprobs: Option<LogprobsBody>,
    pub(crate) finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
pub(crate) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_calls: Option<[CallDelta; 1]>,
}

#[derive(Serialize)]
pub(crate) struct CallDelta {
    pub(crate) index: u32,
    /// With `type` and the name: only in a call's first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'static str>,
    pub(crate) function: FunctionDelta,
}

#[derive(Serialize)]
pub(crate) struct FunctionDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) arguments: String,
}

/// A whole answer.
#[derive(Serialize)]
pub(crate) struct Completion {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) choices: [CompletionChoice; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<UsageBody>,
}

#[derive(Serialize)]
pub(crate) struct CompletionChoice {
    pub(crate) index: u32,
    pub(crate) message: AssistantMessage,
    /// Null unless the caller asked for them.
    pub(crate) logprobs: Option<LogprobsBody>,
    pub(crate) finish_reason: &'static str,
}

#[derive(Serialize)]
pub(crate) struct AssistantMessage {
    pub(crate) role: &'static str,
    /// Null when the answer only calls tools, or refuses.
    pub(crate) content: Option<String>,
    /// Mostly null; clients that check the schema demand it.
    pub(crate) refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<CallBody>,
}

#[derive(Serialize)]
pub(crate) struct CallBody {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) function: FunctionBody,
}

#[derive(Serialize)]
pub(crate) struct FunctionBody {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// The log-probabilities of a piece of the answer.
#[derive(Serialize)]
pub(crate) struct LogprobsBody {
    content: Vec<LogprobBody>,
    /// Always null, but clients that check the schema demand it.
    refusal: (),
}

/// A token of the answer, as both of OpenAI's chat dialects show it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LogprobBody {
    #[serde(flatten)]
    chosen: ChanceBody,
    top_logprobs: Vec<ChanceBody>,
}

#[derive(Debug, Clone, Serialize)]
struct ChanceBody {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
}

impl LogprobsBody {
    /// `None` of none.
    pub(crate) fn of(logprobs: Vec<TokenLogprob>) -> Option<Self> {
        let content: Vec<LogprobBody> = logprobs.into_iter().map(LogprobBody::from).collect();
        (!content.is_empty()).then_some(LogprobsBody { content, refusal: () })
    }
}

impl From<TokenLogprob> for LogprobBody {
    fn from(entry: TokenLogprob) -> Self {
        LogprobBody { chosen: entry.chosen.into(), top_logprobs: entry.top.into_iter().map(ChanceBody::from).collect() }
    }
}

impl From<TokenChance> for ChanceBody {
    fn from(chance: TokenChance) -> Self {
        ChanceBody { token: chance.token, logprob: chance.logprob, bytes: chance.bytes }
    }
}

/// Tokens, with what a diffusion engine adds.
#[derive(Clone, Serialize)]
pub(crate) struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    /// Only where there is something to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diffusion: Option<DiffusionBody>,
}

#[derive(Clone, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Clone, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<&Usage> for UsageBody {
    fn from(usage: &Usage) -> Self {
        UsageBody {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens },
            completion_tokens_details: (usage.reasoning_tokens > 0)
                .then_some(CompletionDetails { reasoning_tokens: usage.reasoning_tokens }),
            diffusion: DiffusionBody::of(usage),
        }
    }
}
