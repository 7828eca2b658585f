//! A streamed answer as a state machine: told events, it gives the frames to send. A stream that was not told its end
//! never looks complete: no dialect's end is ever made up, and nothing follows it. What an event looks like is the
//! dialect's [`Grammar`]. Knows no sockets and no clock.

use bytes::Bytes;
use weir_protocol::{EngineError, Event};

/// How a dialect writes a stream. Told only events that may come where they come: text is never empty, arguments belong
/// to a call that was begun, drafts were asked for, nothing comes after the end.
pub(crate) trait Grammar: Send + 'static {
    /// The next event. `Finished` is the end.
    ///
    /// # Errors
    /// The event cannot be said in this dialect: the stream then ends with that error.
    fn event(&mut self, event: Event) -> Result<Vec<Bytes>, EngineError>;

    /// The answer broke off; the stream ends with these.
    fn broken(&mut self, error: &EngineError) -> Vec<Bytes>;
}

/// Writes one streamed answer.
#[derive(Debug)]
pub(crate) struct StreamWriter<G> {
    grammar: G,
    order: Order,
    drafts: bool,
    ended: bool,
}

impl<G: Grammar> StreamWriter<G> {
    /// A writer for one answer; `drafts`: whether the caller asked for them.
    pub(crate) fn new(grammar: G, drafts: bool) -> Self {
        StreamWriter { grammar, order: Order::default(), drafts, ended: false }
    }

    /// Whether the last frame was given.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next event happened. Nothing after the end is taken.
    pub(crate) fn event(&mut self, event: Event) -> Vec<Bytes> {
        if self.ended {
            return Vec::new();
        }
        let ends = matches!(event, Event::Finished { .. });
        let frames = match self.order.check(&event) {
            Ok(true) if self.drafts || !matches!(event, Event::Draft { .. }) => self.grammar.event(event),
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        match frames {
            Ok(frames) => {
                self.ended = ends;
                frames
            }
            Err(error) => self.error(&error),
        }
    }

    /// The answer broke off.
    pub(crate) fn error(&mut self, error: &EngineError) -> Vec<Bytes> {
        if self.ended {
            return Vec::new();
        }
        self.ended = true;
        self.grammar.broken(error)
    }

    /// There are no more events. If the end was not among them, that is an error.
    pub(crate) fn no_more(&mut self) -> Vec<Bytes> {
        self.error(&unfinished())
    }
}

/// The error of an answer that just stops.
pub(crate) fn unfinished() -> EngineError {
    EngineError::StreamCut { message: "the backend's stream ended without a finish".into() }
}

/// Which events have been.
#[derive(Debug, Default)]
pub(crate) struct Order {
    started: bool,
    calls: Vec<u32>,
}

impl Order {
    /// Whether the event says anything; an error if it may not come here.
    pub(crate) fn check(&mut self, event: &Event) -> Result<bool, EngineError> {
        match event {
            Event::Started { .. } => Ok(!std::mem::replace(&mut self.started, true)),
            Event::TextDelta(text) | Event::ReasoningDelta(text) => Ok(!text.is_empty()),
            Event::ToolCallStarted { index, .. } if self.calls.contains(index) => {
                Err(EngineError::internal("a call was begun twice"))
            }
            Event::ToolCallStarted { index, .. } => {
                self.calls.push(*index);
                Ok(true)
            }
            Event::ToolCallDelta { index, .. } if !self.calls.contains(index) => {
                Err(EngineError::internal("arguments of a call that was not begun"))
            }
            Event::ToolCallDelta { arguments, .. } => Ok(!arguments.is_empty()),
            // Headers were made of it.
            Event::RateLimits(_) => Ok(false),
            Event::Logprobs(_)
            | Event::ReasoningSignature(_)
            | Event::Draft { .. }
            | Event::StoppedAt(_)
            | Event::Usage(_)
            | Event::Finished { .. } => Ok(true),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_protocol::{FinishReason, TokenChance, TokenLogprob, Usage};

    pub(crate) fn started() -> Event {
        Event::Started { model: "m".into() }
    }

    pub(crate) fn text(text: &str) -> Event {
        Event::TextDelta(text.into())
    }

    pub(crate) fn call(index: u32, id: &str, name: &str) -> Event {
        Event::ToolCallStarted { index, id: id.into(), name: name.into() }
    }

    pub(crate) fn arguments(index: u32, text: &str) -> Event {
        Event::ToolCallDelta { index, arguments: text.into() }
    }

    pub(crate) fn ends(reason: FinishReason) -> Event {
        Event::Finished { reason }
    }

    pub(crate) fn stop() -> Event {
        ends(FinishReason::Stop)
    }

    /// The frames of these events and of the end of the stream.
    pub(crate) fn write<G: Grammar>(grammar: G, drafts: bool, events: Vec<Event>) -> Vec<String> {
        let mut writer = StreamWriter::new(grammar, drafts);
        let mut frames: Vec<Bytes> = events.into_iter().flat_map(|event| writer.event(event)).collect();
        frames.extend(writer.no_more());
        assert!(writer.has_ended() && writer.event(text("x")).is_empty() && writer.no_more().is_empty());
        frames.iter().map(|frame| String::from_utf8(frame.to_vec()).expect("text")).collect()
    }

    /// One event of any kind, allowed or not where it comes.
    pub(crate) fn any_event() -> impl Strategy<Value = Event> {
        let about = TokenChance { token: "x".into(), logprob: -0.5, bytes: None };
        prop_oneof![
            Just(started()),
            ".{0,4}".prop_map(Event::TextDelta),
            ".{0,4}".prop_map(Event::TextDelta),
            ".{0,4}".prop_map(Event::ReasoningDelta),
            Just(Event::ReasoningSignature("s".into())),
            (0u32..3).prop_map(|index| call(index, "i", "n")),
            (0u32..3).prop_map(|index| arguments(index, "{}")),
            (0u32..3).prop_map(|index| arguments(index, "{\"a")),
            Just(Event::Draft { snapshot: "░".into(), step: 1, masked: 1 }),
            Just(Event::Logprobs(vec![TokenLogprob { chosen: about.clone(), top: vec![about] }])),
            Just(Event::StoppedAt("END".into())),
            Just(Event::Usage(Usage::default())),
            prop_oneof![
                Just(FinishReason::Stop),
                Just(FinishReason::Length),
                Just(FinishReason::ToolCalls),
                Just(FinishReason::ContentFilter)
            ]
            .prop_map(ends),
        ]
    }

    pub(crate) fn any_events() -> impl Strategy<Value = Vec<Event>> {
        prop::collection::vec(any_event(), 0..14)
    }
}
