//! What a backend answers with: a stream of events that ends in [`Event::Finished`] exactly once, or in an
//! [`crate::EngineError`]. A stream that just stops is a fault of the backend and must be reported as
//! [`crate::EngineError::StreamCut`], never as complete.

use crate::usage::Usage;

/// One step of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The backend took the request. First, exactly once.
    Started {
        /// Model that really answers.
        model: String,
    },
    /// What the upstream said about its rate limits, as header names in lower case and their values. At most once, before
    /// the first content; `route` makes headers of the answer from it.
    RateLimits(Vec<(String, String)>),
    /// What the upstream itself wrote, where it speaks the caller's dialect.
    Verbatim(Verbatim),
    /// The upstream says what only its own dialect has a word for: a step of a tool of its own, a picture. The caller, who
    /// speaks it, sees it in the upstream's words; told so that such an answer is known to say something.
    Foreign,
    /// More answer text.
    TextDelta(String),
    /// More of what the model says where it will not do what is asked, from backends that tell it apart from an answer.
    RefusalDelta(String),
    /// The log-probabilities of the tokens whose text comes next (only if asked for). Each token once, in order.
    Logprobs(Vec<TokenLogprob>),
    /// More reasoning text.
    ReasoningDelta(String),
    /// The seal a backend puts on the reasoning before it (Anthropic's `signature`, OpenAI's `encrypted_content`):
    /// opaque, to be sent back with the turn. Closes that piece of reasoning.
    ReasoningSignature(String),
    /// A tool call begins.
    ToolCallStarted {
        /// Position among this answer's calls, from 0.
        index: u32,
        /// Id the result will refer to.
        id: String,
        /// Function name.
        name: String,
    },
    /// More argument text of a call.
    ToolCallDelta {
        /// The call's position.
        index: u32,
        /// Next piece of the JSON text.
        arguments: String,
    },
    /// A look at an unfinished block (diffusion only, only if asked for). Replaces the draft before; the text is
    /// not part of the answer until it comes as a delta.
    Draft {
        /// The active block as text, masks shown as `░`.
        snapshot: String,
        /// Denoise step within the answer, from 1.
        step: u32,
        /// Positions still masked.
        masked: u32,
    },
    /// The backend broke off, and this one goes on from the text so far. From here on the events stand for themselves.
    Continued {
        /// Its name.
        backend: String,
    },
    /// The stop text that ended the answer, where the backend knows it. At most once, before `Finished`. Some say a word of
    /// their own: only one of the request's is meant.
    StoppedAt(String),
    /// What was used. At most once, before `Finished`.
    Usage(Usage),
    /// The answer is complete. Last, exactly once.
    Finished {
        /// Why it ended.
        reason: FinishReason,
    },
}

impl Event {
    /// Whether the caller would see this as part of the answer: after the first one no other backend may take over.
    pub fn is_content(&self) -> bool {
        match self {
            Event::TextDelta(text) | Event::RefusalDelta(text) | Event::ReasoningDelta(text) => !text.is_empty(),
            Event::Foreign | Event::ToolCallStarted { .. } | Event::ToolCallDelta { .. } => true,
            Event::Started { .. }
            | Event::RateLimits(_)
            | Event::Verbatim(_)
            | Event::Logprobs(_)
            | Event::ReasoningSignature(_)
            | Event::Draft { .. }
            | Event::Continued { .. }
            | Event::StoppedAt(_)
            | Event::Usage(_)
            | Event::Finished { .. } => false,
        }
    }
}

/// An upstream's own words, for a caller of the same dialect: a writer of that dialect passes them on and leaves out the
/// events that say the same, so that fields nobody here knows survive. All others skip it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verbatim {
    /// The data of one event of a stream. The events that mean the same come after it; from here on there are none that
    /// are not in such a piece.
    Piece(String),
    /// All of the answer as one document, before the events that mean the same. A stream cannot use it.
    Document(String),
    /// From here on the events stand for themselves: what the upstream wrote had to be mended.
    Over,
}

/// A token of the answer and how likely it was where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token itself.
    pub chosen: TokenChance,
    /// The likeliest tokens at its place, likeliest first.
    pub top: Vec<TokenChance>,
}

/// A token and its log-probability.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenChance {
    /// Its text; bytes that are not UTF-8 by themselves are shown as U+FFFD.
    pub token: String,
    /// Natural logarithm of its probability; finite.
    pub logprob: f32,
    /// Its bytes, where the backend knows them.
    pub bytes: Option<Vec<u8>>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model ended its turn, or a stop text was met.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
    /// The model called tools.
    ToolCalls,
    /// The backend withheld content.
    ContentFilter,
}

impl FinishReason {
    /// The OpenAI word, also used as a metrics label.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::ContentFilter => "content_filter",
        }
    }
}
