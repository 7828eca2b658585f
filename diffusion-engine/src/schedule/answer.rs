//! One answer on its way out: final tokens in, text events out, and the reason why it ends. Must never send text that
//! could still change, nor anything after the end.

use std::collections::VecDeque;

use tokio::sync::mpsc::UnboundedSender;
use weir_protocol::{EngineError, FinishReason, TokenLogprob, Usage};

use crate::checkpoint::text_stream::TextStream;
use crate::checkpoint::tokenizer::TextTokenizer;
use crate::decode::logprobs::TokenScore;
use crate::generation::GenerationEvent;

use super::token_writer::Written;

/// The sending end of a [`crate::Generation`].
pub(crate) struct Answer {
    events: UnboundedSender<GenerationEvent>,
    text: TextStream,
    /// Text that is ready but not sent: a block goes out as one event.
    ready: String,
    scores: Scores,
    ends: Vec<u32>,
    limit: usize,
    tokens: usize,
    end: Option<FinishReason>,
    stopped_at: Option<String>,
}

impl Answer {
    /// An answer of at most `limit` tokens, the end token included, that ends at one of `ends` or of `stops`.
    pub(crate) fn new(
        events: UnboundedSender<GenerationEvent>,
        stops: &[String],
        ends: Vec<u32>,
        limit: usize,
    ) -> Self {
        let text = TextStream::new(stops);
        Answer {
            events,
            text,
            ready: String::new(),
            scores: Scores::default(),
            ends,
            limit,
            tokens: 0,
            end: None,
            stopped_at: None,
        }
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Tokens of the answer so far, the end token included.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens that may still follow.
    pub(crate) fn room(&self) -> usize {
        self.limit - self.tokens
    }

    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Adds final tokens up to the answer's end; tokens after it are not part of the answer.
    pub(crate) fn push(&mut self, written: &Written, tokenizer: &TextTokenizer) {
        for (at, token) in written.tokens.iter().enumerate() {
            if self.end.is_some() {
                break;
            }
            self.tokens += 1;
            if self.is_end(*token) {
                self.end = Some(FinishReason::Stop);
            } else {
                let progress = self.text.push(*token, tokenizer);
                // Of a token that a stop text cuts, not all goes.
                let (held, unfinished) = self.text.held();
                let rest = (held, unfinished || progress.stopped.is_some());
                self.scores.push(written.scores.get(at), progress.text.len(), rest);
                self.ready.push_str(&progress.text);
                if let Some(stop) = progress.stopped {
                    self.stopped_at = Some(stop);
                    // Nothing held may follow a stop text.
                    self.text = TextStream::new(&[]);
                    self.end = Some(FinishReason::Stop);
                } else if self.tokens >= self.limit {
                    self.end = Some(FinishReason::Length);
                }
            }
        }
        if self.end.is_some() {
            let last = self.text.finish(tokenizer);
            self.scores.finish(last.text.len());
            self.ready.push_str(&last.text);
            if let Some(stop) = last.stopped {
                self.stopped_at = Some(stop);
                self.end = Some(FinishReason::Stop);
            }
        }
        let logprobs = self.scores.ready(tokenizer);
        if !logprobs.is_empty() {
            self.send(GenerationEvent::Logprobs(logprobs));
        }
        if !self.ready.is_empty() {
            let text = std::mem::take(&mut self.ready);
            self.send(GenerationEvent::Text(text));
        }
    }

    /// Why the answer is complete, once it is.
    pub(crate) fn end(&self) -> Option<FinishReason> {
        self.end
    }

    /// Shows unfinished blocks.
    pub(crate) fn show(&self, view: GenerationEvent) {
        self.send(view);
    }

    /// Ends the stream as complete; `was_cut`: the token limit chose where.
    pub(crate) fn complete(mut self, mut reason: FinishReason, was_cut: bool, usage: Usage) {
        if let Some(stop) = self.stopped_at.take() {
            self.send(GenerationEvent::StoppedAt(stop));
        } else if was_cut {
            reason = FinishReason::Length;
        }
        self.send(GenerationEvent::Done { reason, usage });
    }

    /// Ends the stream as broken.
    pub(crate) fn fail(self, error: EngineError) {
        self.send(GenerationEvent::Failed(error));
    }

    /// A listener that left is noticed by [`Answer::is_abandoned`] before the next step.
    fn send(&self, event: GenerationEvent) {
        let _ = self.events.send(event);
    }
}

/// Log-probabilities on their way out: a token's goes when all of its text has gone, so that they tell no more than the
/// text does. What a stop text cuts off goes never.
#[derive(Default)]
struct Scores {
    /// With the length of the answer's text up to the token's end.
    waiting: VecDeque<(TokenScore, usize)>,
    /// Bytes of text that have gone.
    gone: usize,
}

impl Scores {
    /// A token came; `more` bytes of text go, `held` are known and wait, `unfinished` if the token has more to say.
    fn push(&mut self, score: Option<&TokenScore>, more: usize, (held, unfinished): (usize, bool)) {
        self.gone += more;
        if let Some(score) = score {
            self.waiting.push_back((score.clone(), self.gone + held + usize::from(unfinished)));
        }
    }

    /// The last `more` bytes go.
    fn finish(&mut self, more: usize) {
        self.gone += more;
    }

    fn ready(&mut self, tokenizer: &TextTokenizer) -> Vec<TokenLogprob> {
        let count = self.waiting.iter().take_while(|(_, end)| *end <= self.gone).count();
        self.waiting.drain(..count).map(|(score, _)| score.named(tokenizer)).collect()
    }
}
