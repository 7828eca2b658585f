//! The shapes of an answer on the wire. Data only: the order in which they may come is [`super::stream`]'s business.

use bytes::Bytes;
use serde::Serialize;
use weir_protocol::{DiffusionStats, TokenChance, TokenLogprob, Usage};

/// The last frame of a complete stream.
pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";

/// A comment: shows that the answer is alive, and clients ignore it.
pub(super) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// One piece of a streamed answer.
#[derive(Serialize)]
pub(super) struct Chunk<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    /// One choice, or none in the usage chunk.
    pub(super) choices: &'a [ChunkChoice],
    /// Absent unless the caller asked for usage; then null in every chunk but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<UsageBody>>,
    /// What only Weir has; clients that do not know it skip it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) weir: Option<Extra>,
}

#[derive(Serialize)]
pub(super) struct ChunkChoice {
    pub(super) index: u32,
    pub(super) delta: Delta,
    /// Absent unless the caller asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<LogprobsBody>,
    pub(super) finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
pub(super) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_calls: Option<[CallDelta; 1]>,
}

#[derive(Serialize)]
pub(super) struct CallDelta {
    pub(super) index: u32,
    /// With `type` and the name: only in a call's first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    pub(super) function: FunctionDelta,
}

#[derive(Serialize)]
pub(super) struct FunctionDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) arguments: String,
}

#[derive(Serialize)]
pub(super) struct Extra {
    pub(super) draft: DraftBody,
}

/// A look at an unfinished block.
#[derive(Serialize)]
pub(super) struct DraftBody {
    pub(super) snapshot: String,
    pub(super) step: u32,
    pub(super) masked: u32,
}

/// A whole answer.
#[derive(Serialize)]
pub(super) struct Completion {
    pub(super) id: String,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) choices: [CompletionChoice; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<UsageBody>,
}

#[derive(Serialize)]
pub(super) struct CompletionChoice {
    pub(super) index: u32,
    pub(super) message: AssistantMessage,
    /// Null unless the caller asked for them.
    pub(super) logprobs: Option<LogprobsBody>,
    pub(super) finish_reason: &'static str,
}

#[derive(Serialize)]
pub(super) struct AssistantMessage {
    pub(super) role: &'static str,
    /// Null when the answer only calls tools.
    pub(super) content: Option<String>,
    /// Always null, but clients that check the schema demand it.
    pub(super) refusal: (),
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<CallBody>,
}

#[derive(Serialize)]
pub(super) struct CallBody {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) function: FunctionBody,
}

#[derive(Serialize)]
pub(super) struct FunctionBody {
    pub(super) name: String,
    pub(super) arguments: String,
}

/// The log-probabilities of a piece of the answer.
#[derive(Serialize)]
pub(super) struct LogprobsBody {
    content: Vec<LogprobBody>,
    /// Always null, but clients that check the schema demand it.
    refusal: (),
}

#[derive(Serialize)]
struct LogprobBody {
    #[serde(flatten)]
    chosen: ChanceBody,
    top_logprobs: Vec<ChanceBody>,
}

#[derive(Serialize)]
struct ChanceBody {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
}

impl LogprobsBody {
    /// `None` of none.
    pub(super) fn of(logprobs: Vec<TokenLogprob>) -> Option<Self> {
        let entry = |entry: TokenLogprob| LogprobBody {
            chosen: entry.chosen.into(),
            top_logprobs: entry.top.into_iter().map(ChanceBody::from).collect(),
        };
        let content: Vec<LogprobBody> = logprobs.into_iter().map(entry).collect();
        (!content.is_empty()).then_some(LogprobsBody { content, refusal: () })
    }
}

impl From<TokenChance> for ChanceBody {
    fn from(chance: TokenChance) -> Self {
        ChanceBody { token: chance.token, logprob: chance.logprob, bytes: chance.bytes }
    }
}

/// Tokens, with what a diffusion engine adds.
#[derive(Clone, Serialize)]
pub(super) struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    #[serde(skip_serializing_if = "Option::is_none")]
    diffusion: Option<DiffusionBody>,
}

#[derive(Clone, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Clone, Serialize)]
struct DiffusionBody {
    steps: u32,
    blocks: u32,
    edits: u32,
    tokens_per_forward: f64,
    forced_tokens: u32,
    cached_tokens: u64,
}

impl From<&Usage> for UsageBody {
    fn from(usage: &Usage) -> Self {
        UsageBody {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens },
            diffusion: usage.diffusion.as_ref().map(|stats| DiffusionBody::new(stats, usage.cached_tokens)),
        }
    }
}

impl DiffusionBody {
    fn new(stats: &DiffusionStats, cached_tokens: u64) -> Self {
        DiffusionBody {
            steps: stats.steps,
            blocks: stats.blocks,
            edits: stats.edits,
            // Two places are what a reader can use; the division's tail is noise.
            tokens_per_forward: (stats.tokens_per_forward() * 100.0).round() / 100.0,
            forced_tokens: stats.forced_tokens,
            cached_tokens,
        }
    }
}

/// One event of the stream.
pub(super) fn frame(value: &impl Serialize) -> Bytes {
    let mut out = b"data: ".to_vec();
    if serde_json::to_writer(&mut out, value).is_err() {
        // Strings and numbers always serialize; if ever not, the client must not take the stream for whole.
        out = br#"data: {"error":{"message":"internal error","type":"server_error","param":null,"code":"internal"}}"#
            .to_vec();
    }
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
}
