//! The receiving end of one answer. Dropping it cancels the request within one step. It always ends in `Done` or
//! `Failed`: if the engine goes away without a word, that word is made up here. Must never end silently.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir_protocol::{EngineError, FinishReason, TokenLogprob, Usage};

use crate::steps::StepView;

/// One step of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerationEvent {
    /// The active block as it stands; replaces the draft before. Only if `diffusion.drafts` was asked for.
    Draft {
        /// The block's text so far, masks shown as `░`.
        snapshot: String,
        /// Denoise step within the answer, from 1.
        step: u32,
        /// Positions still masked.
        masked: u32,
    },
    /// The open blocks, position by position. Only from [`crate::Engine::generate_traced`].
    Step(StepView),
    /// The log-probabilities of the tokens of the next text. Only if `sampling.logprobs` was asked for.
    Logprobs(Vec<TokenLogprob>),
    /// Committed text: it will not change. Valid UTF-8; an incomplete code point waits for its rest.
    Text(String),
    /// The stop text that ended the answer. Right before `Done`.
    StoppedAt(String),
    /// The answer is complete. Last, exactly once.
    Done {
        /// Why it ended.
        reason: FinishReason,
        /// What it cost.
        usage: Usage,
    },
    /// The answer broke off. Last, exactly once.
    Failed(EngineError),
}

/// One running answer: a stream of [`GenerationEvent`]s that ends after the first `Done` or `Failed`.
/// Dropping it cancels the request within one denoise step.
#[derive(Debug)]
pub struct Generation {
    events: UnboundedReceiver<GenerationEvent>,
    ended: bool,
    prompt_tokens: u32,
}

impl Generation {
    /// The two ends. The channel has no bound because the number of events has one: the answer's token limit.
    pub(crate) fn channel(prompt_tokens: u32) -> (UnboundedSender<GenerationEvent>, Self) {
        let (sender, events) = unbounded_channel();
        (sender, Generation { events, ended: false, prompt_tokens })
    }

    /// Tokens of the rendered prompt, known before the first event.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    /// The next event, `None` after the last.
    pub async fn next(&mut self) -> Option<GenerationEvent> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await;
        self.settle(event)
    }

    /// [`Generation::next`] for threads outside an async runtime; inside one it panics.
    pub fn next_blocking(&mut self) -> Option<GenerationEvent> {
        if self.ended {
            return None;
        }
        let event = self.events.blocking_recv();
        self.settle(event)
    }

    fn settle(&mut self, event: Option<GenerationEvent>) -> Option<GenerationEvent> {
        let event = event.unwrap_or_else(|| {
            GenerationEvent::Failed(EngineError::internal("the engine stopped before the answer was complete"))
        });
        self.ended = matches!(event, GenerationEvent::Done { .. } | GenerationEvent::Failed(_));
        Some(event)
    }
}

impl Stream for Generation {
    type Item = GenerationEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<GenerationEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.events.poll_recv(context) {
            Poll::Ready(event) => Poll::Ready(self.settle(event)),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_sender_is_a_failure_and_then_the_end() {
        let (sender, mut generation) = Generation::channel(3);
        sender.send(GenerationEvent::Text("a".into())).expect("open");
        drop(sender);
        assert_eq!(generation.next_blocking(), Some(GenerationEvent::Text("a".into())));
        assert!(matches!(generation.next_blocking(), Some(GenerationEvent::Failed(EngineError::Internal { .. }))));
        assert_eq!(generation.next_blocking(), None);
    }

    #[test]
    fn nothing_follows_the_end() {
        let (sender, mut generation) = Generation::channel(3);
        let end = GenerationEvent::Done { reason: FinishReason::Stop, usage: Usage::default() };
        sender.send(end.clone()).expect("open");
        sender.send(GenerationEvent::Text("late".into())).expect("open");
        assert_eq!(generation.next_blocking(), Some(end));
        assert_eq!(generation.next_blocking(), None);
    }
}
