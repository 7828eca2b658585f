//! The shapes of an answer on the wire: a whole one, and a piece of a streamed one, look the same.

use serde::{Serialize, Serializer};
use weir_protocol::{FinishReason, TokenChance, TokenLogprob};

use crate::api::answering::stats::Extra;
use crate::api::openai_chat::encode::UsageBody;

/// An answer or a piece of it.
#[derive(Serialize)]
pub(crate) struct Completion<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    /// One choice, or none in the usage chunk.
    pub(super) choices: &'a [Choice],
    /// In a stream absent unless the caller asked for usage; then null in every chunk but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<UsageBody>>,
    /// What only Weir has; clients that do not know it skip it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) weir: Option<Extra>,
}

#[derive(Serialize)]
pub(super) struct Choice {
    pub(super) text: String,
    pub(super) index: u32,
    pub(super) logprobs: Option<LogprobsBody>,
    pub(super) finish_reason: Option<&'static str>,
}

/// The dialect's word for the end. It knows no calls.
pub(super) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::ToolCalls => "stop",
        FinishReason::Length => "length",
        FinishReason::ContentFilter => "content_filter",
    }
}

/// The log-probabilities of a piece, in four lists of the same length.
#[derive(Serialize)]
pub(super) struct LogprobsBody {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<Top>,
    text_offset: Vec<usize>,
}

/// The likeliest tokens at one place: an object with a member for each.
struct Top(Vec<TokenChance>);

impl Serialize for Top {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|chance| (&chance.token, chance.logprob)))
    }
}

impl LogprobsBody {
    /// `None` of none. `offset` counts the characters of the answer up to the piece, and is moved on.
    pub(super) fn of(logprobs: Vec<TokenLogprob>, offset: &mut usize) -> Option<Self> {
        let mut body = LogprobsBody {
            tokens: Vec::with_capacity(logprobs.len()),
            token_logprobs: Vec::with_capacity(logprobs.len()),
            top_logprobs: Vec::with_capacity(logprobs.len()),
            text_offset: Vec::with_capacity(logprobs.len()),
        };
        for entry in logprobs {
            body.text_offset.push(*offset);
            *offset += entry.chosen.token.chars().count();
            body.top_logprobs.push(Top(entry.top));
            body.token_logprobs.push(entry.chosen.logprob);
            body.tokens.push(entry.chosen.token);
        }
        (!body.tokens.is_empty()).then_some(body)
    }
}
