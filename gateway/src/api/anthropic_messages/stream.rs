//! The order of a stream's events: `message_start`, blocks one after another (start, deltas, stop), `message_delta` with
//! the reason and the usage, `message_stop`; or `error`, and then nothing.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use weir_protocol::{EngineError, Event, FinishReason, Usage};

use super::encode::{
    Block, BlockDelta, Input, MessageBody, MessageDelta, StreamEvent, UNSEALED, UsageBody, stop_reason, with_refusal,
};
use super::error::ErrorBody;
use crate::api::answering::Identity;
use crate::api::answering::braces::Braces;
use crate::api::answering::failure::Failure;
use crate::api::answering::frames::{named, named_as_written};
use crate::api::answering::stats::{DraftBody, Extra};
use crate::api::answering::stream::Grammar;

/// Writes one streamed answer.
#[derive(Debug)]
pub(crate) struct MessagesGrammar {
    identity: Identity,
    begun: bool,
    /// The block being written.
    open: Option<Open>,
    /// Its place, or that of the next one.
    index: usize,
    /// Calls that were begun before the open one is complete. Their pieces wait, in order.
    waiting: VecDeque<Waiting>,
    /// What was said between the pieces of the open call: blocks stand one after another, so it waits, too.
    later: String,
    usage: Option<Usage>,
    stopped_at: Option<String>,
    /// Those of the request.
    stops: Vec<String>,
    /// Whether the model would not do what was asked: here that is the reason of the end.
    refused: bool,
    /// Who went on where another was cut.
    continued: Option<String>,
    /// Whether the upstream's own events are sent, and whether the last one was among them.
    passing: bool,
    stopped: bool,
    /// The place of the block that the upstream began and did not end, while its events are passed on, and what it is then.
    theirs: Option<(usize, Open)>,
}

#[derive(Debug)]
enum Open {
    /// One of the upstream's, about which nothing was told here.
    Theirs,
    Text,
    Thinking,
    /// Thinking that has its signature.
    Sealed,
    Call {
        index: u32,
        braces: Braces,
    },
}

/// A call that has to wait for its turn.
#[derive(Debug)]
struct Waiting {
    index: u32,
    id: String,
    name: String,
    arguments: String,
}

impl MessagesGrammar {
    /// For one answer.
    pub(super) fn new(identity: Identity, stops: &[String]) -> Self {
        MessagesGrammar {
            identity,
            begun: false,
            open: None,
            index: 0,
            waiting: VecDeque::new(),
            later: String::new(),
            usage: None,
            stopped_at: None,
            stops: stops.to_vec(),
            refused: false,
            continued: None,
            passing: false,
            stopped: false,
            theirs: None,
        }
    }
}

impl Grammar for MessagesGrammar {
    fn event(&mut self, event: Event) -> Result<Vec<Bytes>, EngineError> {
        let mut out = Frames { frames: Vec::new(), muted: self.passing };
        match event {
            Event::Started { model } => self.begin(model, &mut out),
            event => {
                self.begin(String::new(), &mut out);
                self.say(event, &mut out)?;
            }
        }
        Ok(out.frames)
    }

    fn broken(&mut self, error: &EngineError) -> Vec<Bytes> {
        vec![named("error", &ErrorBody::from(&Failure::from(error).named(super::FIELDS)))]
    }

    /// Blocks are numbered as the upstream does it, those of kinds unknown here too.
    fn verbatim(&mut self, piece: &str) -> Vec<Bytes> {
        let Written { kind, index, content_block } = serde_json::from_str(piece).unwrap_or_default();
        match (kind.as_ref(), index) {
            ("content_block_start", Some(index)) => {
                let block = content_block.and_then(|block| serde_json::from_str::<Kind>(block.get()).ok());
                let open = if block.is_some_and(|block| block.kind == "text") { Open::Text } else { Open::Theirs };
                (self.theirs, self.index) = (Some((index, open)), index);
            }
            ("content_block_stop", Some(index)) => {
                (self.theirs, self.open, self.index) = (None, None, index.saturating_add(1));
            }
            ("message_stop", _) => self.stopped = true,
            _ => {}
        }
        self.passing = true;
        vec![named_as_written(&kind, piece)]
    }

    fn goes_on(&mut self) {
        self.passing = false;
        if let Some((index, open)) = self.theirs.take().filter(|_| self.open.is_none()) {
            (self.open, self.index) = (Some(open), index);
        }
    }

    /// A stream that was closed after its reason is complete; clients wait for the word.
    fn last_word(&mut self) -> Vec<Bytes> {
        let mut out = Frames { frames: Vec::new(), muted: self.stopped };
        out.push(&StreamEvent::MessageStop);
        out.frames
    }
}

/// What is to be known of an upstream's own event.
#[derive(Default, Deserialize)]
struct Written<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    index: Option<usize>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// Frames being put together.
struct Frames {
    frames: Vec<Bytes>,
    /// Whether nobody would see them.
    muted: bool,
}

impl Frames {
    fn push(&mut self, event: &StreamEvent) {
        if !self.muted {
            self.frames.push(named(event.name(), event));
        }
    }
}

impl MessagesGrammar {
    fn begin(&mut self, model: String, out: &mut Frames) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let message = MessageBody {
            id: self.identity.id.clone(),
            kind: "message",
            role: "assistant",
            model,
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            // Known at the end only, where the whole is told again.
            usage: UsageBody::from(&Usage::default()),
        };
        out.push(&StreamEvent::MessageStart { message });
    }

    fn say(&mut self, event: Event, out: &mut Frames) -> Result<(), EngineError> {
        match event {
            // No place for log-probabilities here; the beginning was said.
            Event::Started { .. } | Event::Foreign | Event::Logprobs(_) | Event::RateLimits(_) | Event::Verbatim(_) => {
            }
            Event::RefusalDelta(text) => {
                self.refused = true;
                self.say(Event::TextDelta(text), out)?;
            }
            Event::TextDelta(text) if matches!(&self.open, Some(Open::Call { braces, .. }) if braces.is_open()) => {
                self.later.push_str(&text);
            }
            Event::TextDelta(text) => {
                let text = if self.later.is_empty() { text } else { std::mem::take(&mut self.later) + &text };
                if !matches!(self.open, Some(Open::Text)) {
                    self.close_all(out);
                    self.open(Open::Text, Block::Text { text: String::new() }, out);
                }
                self.delta(BlockDelta::Text { text }, out);
            }
            Event::ReasoningDelta(thinking) => {
                self.think(out);
                self.delta(BlockDelta::Thinking { thinking }, out);
            }
            Event::ReasoningSignature(signature) => {
                self.think(out);
                self.delta(BlockDelta::Signature { signature }, out);
                self.open = Some(Open::Sealed);
                self.close(out);
            }
            Event::ToolCallStarted { index, id, name } => {
                let call = Waiting { index, id, name, arguments: String::new() };
                match &self.open {
                    Some(Open::Call { braces, .. }) if !braces.is_complete() => self.waiting.push_back(call),
                    _ => self.call(call, out),
                }
            }
            Event::ToolCallDelta { index, arguments } => self.arguments(index, arguments, out)?,
            Event::Draft { snapshot, step, masked } => {
                out.push(&StreamEvent::Draft { draft: DraftBody { snapshot, step, masked } });
            }
            Event::Continued { backend } => self.continued = Some(backend),
            Event::StoppedAt(text) => self.stopped_at = Some(text).filter(|text| self.stops.contains(text)),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finished { reason } => self.finish(reason, out),
        }
        Ok(())
    }

    fn think(&mut self, out: &mut Frames) {
        if !matches!(self.open, Some(Open::Thinking)) {
            self.close_all(out);
            let block = Block::Thinking { thinking: String::new(), signature: String::new() };
            self.open(Open::Thinking, block, out);
        }
    }

    /// Begins a call, with what is known of its arguments.
    fn call(&mut self, call: Waiting, out: &mut Frames) {
        self.close(out);
        let block = Block::ToolUse { id: call.id, name: call.name, input: Input::Later {} };
        let mut braces = Braces::default();
        braces.push(&call.arguments);
        self.open(Open::Call { index: call.index, braces }, block, out);
        if !call.arguments.trim().is_empty() {
            self.delta(BlockDelta::Input { partial_json: call.arguments }, out);
        }
    }

    fn arguments(&mut self, call: u32, arguments: String, out: &mut Frames) -> Result<(), EngineError> {
        match &mut self.open {
            Some(Open::Call { index, braces }) if *index == call => {
                braces.push(&arguments);
                // White space around an object says nothing, and clients read what there is as JSON.
                if braces.is_open() || !arguments.trim().is_empty() {
                    self.delta(BlockDelta::Input { partial_json: arguments }, out);
                }
                while matches!(&self.open, Some(Open::Call { braces, .. }) if braces.is_complete()) {
                    let Some(next) = self.waiting.pop_front() else { break };
                    self.call(next, out);
                }
                Ok(())
            }
            _ => match self.waiting.iter_mut().find(|waiting| waiting.index == call) {
                Some(waiting) => {
                    waiting.arguments.push_str(&arguments);
                    Ok(())
                }
                // White space after the end of an object says nothing. Of an upstream's own call that had no arguments it is known
                // at its end only; the caller has the upstream's word on it.
                None if arguments.trim().is_empty() || out.muted => Ok(()),
                None => {
                    let message = "it went on with a tool call after it had gone on to something else".into();
                    Err(EngineError::Upstream { status: 0, message, retry_after: None })
                }
            },
        }
    }

    fn open(&mut self, open: Open, content_block: Block, out: &mut Frames) {
        self.open = Some(open);
        out.push(&StreamEvent::ContentBlockStart { index: self.index, content_block });
    }

    fn delta(&mut self, delta: BlockDelta, out: &mut Frames) {
        out.push(&StreamEvent::ContentBlockDelta { index: self.index, delta });
    }

    fn close(&mut self, out: &mut Frames) {
        if matches!(self.open, Some(Open::Thinking)) {
            self.delta(BlockDelta::Signature { signature: UNSEALED.into() }, out);
        }
        if self.open.take().is_some() {
            out.push(&StreamEvent::ContentBlockStop { index: self.index });
            self.index += 1;
        }
    }

    /// Closes the block and writes all that waits.
    fn close_all(&mut self, out: &mut Frames) {
        self.close(out);
        while let Some(call) = self.waiting.pop_front() {
            self.call(call, out);
            self.close(out);
        }
        let text = std::mem::take(&mut self.later);
        if !text.is_empty() {
            self.open(Open::Text, Block::Text { text: String::new() }, out);
            self.delta(BlockDelta::Text { text }, out);
            self.close(out);
        }
    }

    fn finish(&mut self, reason: FinishReason, out: &mut Frames) {
        self.close_all(out);
        let stopped_at = self.stopped_at.take();
        let reason = with_refusal(reason, self.refused);
        let delta = MessageDelta {
            stop_reason: stop_reason(reason, stopped_at.as_deref()),
            stop_sequence: stopped_at.filter(|_| reason == FinishReason::Stop),
        };
        let usage = UsageBody::from(&self.usage.take().unwrap_or_default());
        let weir = Extra::continued(self.continued.take());
        out.push(&StreamEvent::MessageDelta { delta, usage, weir });
        out.push(&StreamEvent::MessageStop);
    }
}

#[cfg(test)]
mod tests;
