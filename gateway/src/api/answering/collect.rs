//! A whole answer, gathered from its events. Must never give a part of an answer as if it were all of it.

use futures::StreamExt;
use weir_protocol::{EngineError, Event, FinishReason, TokenLogprob, Usage, Verbatim};

use super::stream::{Order, unfinished};
use crate::backends::EventStream;

/// A complete answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Collected {
    /// The model that answered.
    pub(crate) model: String,
    /// What was said, in order; pieces of one kind that follow each other are one.
    pub(crate) items: Vec<Item>,
    /// What it cost, where the backend told.
    pub(crate) usage: Option<Usage>,
    /// Why it ended.
    pub(crate) reason: FinishReason,
    /// The stop text that ended it, where the backend told.
    pub(crate) stopped_at: Option<String>,
    /// All of it in the upstream's own words, where they are in the caller's dialect and nothing had to be mended.
    pub(crate) words: Option<Words>,
}

/// An upstream's own words for an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Words {
    /// The data of a stream's events.
    Pieces(Vec<String>),
    /// The answer as a document.
    Document(String),
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// Reasoning and the seal on it.
    Reasoning {
        /// What was thought; may be empty where only the seal is shown.
        text: String,
        /// Opaque.
        signature: Option<String>,
    },
    /// Text and, if asked for, its log-probabilities.
    Text {
        /// What was said.
        text: String,
        /// Of its tokens.
        logprobs: Vec<TokenLogprob>,
    },
    /// What was said where the model would not do what was asked.
    Refusal(String),
    /// A tool call.
    Call(Call),
}

/// A tool call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// Position among the answer's calls.
    pub(crate) index: u32,
    /// Id its result will refer to.
    pub(crate) id: String,
    /// The function.
    pub(crate) name: String,
    /// JSON text.
    pub(crate) arguments: String,
}

/// Waits for the end of the answer.
///
/// # Errors
/// The answer did not complete.
pub(crate) async fn collect(mut events: EventStream) -> Result<Collected, EngineError> {
    let mut answer = Collecting::default();
    while let Some(event) = events.next().await {
        if let Some(reason) = answer.take(event?)? {
            return Ok(answer.complete(reason));
        }
    }
    Err(unfinished())
}

#[derive(Default)]
struct Collecting {
    order: Order,
    model: String,
    items: Vec<Item>,
    /// Those of the text that comes next.
    logprobs: Vec<TokenLogprob>,
    usage: Option<Usage>,
    stopped_at: Option<String>,
    words: Option<Words>,
    mended: bool,
}

impl Collecting {
    /// The reason, once the answer is complete.
    fn take(&mut self, event: Event) -> Result<Option<FinishReason>, EngineError> {
        if !self.order.check(&event)? {
            return Ok(None);
        }
        match event {
            Event::Started { model } => self.model = model,
            Event::TextDelta(more) => self.text(&more),
            Event::RefusalDelta(more) => match self.items.last_mut() {
                Some(Item::Refusal(text)) => text.push_str(&more),
                _ => self.items.push(Item::Refusal(more)),
            },
            Event::Logprobs(more) => self.logprobs.extend(more),
            Event::ReasoningDelta(more) => match self.items.last_mut() {
                Some(Item::Reasoning { text, signature: None }) => text.push_str(&more),
                _ => self.items.push(Item::Reasoning { text: more, signature: None }),
            },
            Event::ReasoningSignature(seal) => match self.items.last_mut() {
                Some(Item::Reasoning { signature: signature @ None, .. }) => *signature = Some(seal),
                _ => self.items.push(Item::Reasoning { text: String::new(), signature: Some(seal) }),
            },
            Event::ToolCallStarted { index, id, name } => {
                self.items.push(Item::Call(Call { index, id, name, arguments: String::new() }));
            }
            Event::ToolCallDelta { index, arguments } => {
                let mut calls = self.items.iter_mut().filter_map(|item| match item {
                    Item::Call(call) => Some(call),
                    _ => None,
                });
                if let Some(call) = calls.find(|call| call.index == index) {
                    call.arguments.push_str(&arguments);
                }
            }
            Event::Draft { .. } | Event::Foreign | Event::RateLimits(_) | Event::Continued { .. } => {}
            Event::Verbatim(Verbatim::Piece(piece)) => match &mut self.words {
                Some(Words::Pieces(pieces)) => pieces.push(piece),
                _ => self.words = Some(Words::Pieces(vec![piece])),
            },
            Event::Verbatim(Verbatim::Document(text)) => self.words = Some(Words::Document(text)),
            Event::Verbatim(Verbatim::Over) => self.mended = true,
            Event::StoppedAt(text) => self.stopped_at = Some(text),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finished { reason } => return Ok(Some(reason)),
        }
        Ok(None)
    }

    fn text(&mut self, more: &str) {
        let about = std::mem::take(&mut self.logprobs);
        match self.items.last_mut() {
            Some(Item::Text { text, logprobs }) => {
                text.push_str(more);
                logprobs.extend(about);
            }
            _ => self.items.push(Item::Text { text: more.to_owned(), logprobs: about }),
        }
    }

    fn complete(mut self, reason: FinishReason) -> Collected {
        // Tokens without a text of their own (the end token): they belong to what was said last.
        if !self.logprobs.is_empty() {
            self.text("");
        }
        Collected {
            model: self.model,
            items: self.items,
            usage: self.usage,
            reason,
            stopped_at: self.stopped_at,
            words: self.words.filter(|_| !self.mended),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The answer these events make.
    pub(crate) async fn collected(events: Vec<Event>) -> Result<Collected, EngineError> {
        collect(Box::pin(futures::stream::iter(events.into_iter().map(Ok)))).await
    }

    #[tokio::test]
    async fn pieces_keep_their_order_and_grow_together() {
        use crate::api::answering::stream::tests::{arguments, call, started, stop, text};
        let events = vec![
            started(),
            Event::ReasoningDelta("h".into()),
            Event::ReasoningDelta("m".into()),
            Event::ReasoningSignature("seal".into()),
            text("a"),
            text("b"),
            call(0, "c1", "f"),
            call(1, "c2", "g"),
            arguments(0, "{}"),
            text("c"),
            Event::StoppedAt("END".into()),
            stop(),
        ];
        let answer = collected(events).await.expect("complete");
        let plain = |text: &str| Item::Text { text: text.into(), logprobs: Vec::new() };
        let call = |index, id: &str, name: &str, arguments: &str| {
            Item::Call(Call { index, id: id.into(), name: name.into(), arguments: arguments.into() })
        };
        assert_eq!(
            answer.items,
            [
                Item::Reasoning { text: "hm".into(), signature: Some("seal".into()) },
                plain("ab"),
                call(0, "c1", "f", "{}"),
                call(1, "c2", "g", ""),
                plain("c"),
            ]
        );
        assert_eq!((answer.reason, answer.stopped_at.as_deref()), (FinishReason::Stop, Some("END")));
    }

    #[tokio::test]
    async fn words_are_kept_unless_something_was_mended() {
        use crate::api::answering::stream::tests::{started, stop, text};
        let piece = |piece: &str| Event::Verbatim(Verbatim::Piece(piece.into()));
        let told = |over: Vec<Event>| {
            let head = vec![started(), piece("1"), text("a"), piece("2")];
            collected([head, over, vec![stop()]].concat())
        };
        let words = told(vec![]).await.expect("complete").words;
        assert_eq!(words, Some(Words::Pieces(vec!["1".into(), "2".into()])));
        assert_eq!(told(vec![Event::Verbatim(Verbatim::Over)]).await.expect("complete").words, None);
    }

    #[tokio::test]
    async fn half_an_answer_is_an_error() {
        use crate::api::answering::stream::tests::{arguments, started, text};
        let kind = |got: Result<Collected, EngineError>| got.map_err(|error| error.kind());
        assert_eq!(kind(collected(vec![started(), text("a")]).await), Err("stream_cut"));
        assert_eq!(kind(collected(vec![started(), arguments(0, "{}")]).await), Err("internal"));
        let broken =
            futures::stream::iter([Ok(started()), Err(EngineError::Overloaded { limit: 1, retry_after: None })]);
        assert_eq!(kind(collect(Box::pin(broken)).await), Err("overloaded"));
    }
}
