//! A streamed answer as a state machine: told events, it gives the frames to send. A stream that was not told its end
//! never looks complete: no dialect's end is ever made up, and nothing follows it. What an event looks like is the
//! dialect's [`Grammar`]. Knows no sockets and no clock.

use bytes::Bytes;
use weir_protocol::{EngineError, Event, Verbatim};

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

    /// A piece that the upstream wrote in this dialect. The events after it say what it means: they are told, so that the
    /// grammar could go on by itself at any time, but what it makes of them is not sent.
    fn verbatim(&mut self, piece: &str) -> Vec<Bytes>;

    /// From here on what it makes of events is sent.
    fn goes_on(&mut self) {}

    /// What follows the upstream's last piece.
    fn last_word(&mut self) -> Vec<Bytes> {
        Vec::new()
    }
}

/// Writes one streamed answer.
#[derive(Debug)]
pub(crate) struct StreamWriter<G> {
    grammar: G,
    order: Order,
    drafts: bool,
    ended: bool,
    /// The frames of the beginning, until it is known whether the upstream wrote one itself.
    opening: Vec<Bytes>,
    /// Whether the upstream's own words are sent.
    passing: bool,
}

impl<G: Grammar> StreamWriter<G> {
    /// A writer for one answer; `drafts`: whether the caller asked for them.
    pub(crate) fn new(grammar: G, drafts: bool) -> Self {
        StreamWriter { grammar, order: Order::default(), drafts, ended: false, opening: Vec::new(), passing: false }
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
        if let Event::Verbatim(words) = event {
            return self.verbatim(words);
        }
        let (begins, ends) = (matches!(event, Event::Started { .. }), matches!(event, Event::Finished { .. }));
        let frames = match self.order.check(&event) {
            Ok(true) if self.drafts || !matches!(event, Event::Draft { .. }) => self.grammar.event(event),
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        match frames {
            Ok(frames) if begins && !self.passing => {
                self.opening.extend(frames);
                Vec::new()
            }
            Ok(frames) => {
                self.ended = ends;
                match (self.passing, ends) {
                    (false, _) => self.opened(frames),
                    (true, true) => self.grammar.last_word(),
                    (true, false) => Vec::new(),
                }
            }
            Err(error) => self.error(&error),
        }
    }

    fn verbatim(&mut self, words: Verbatim) -> Vec<Bytes> {
        match words {
            Verbatim::Piece(piece) => {
                self.passing = true;
                self.opening.clear();
                self.grammar.verbatim(&piece)
            }
            Verbatim::Document(_) => Vec::new(),
            Verbatim::Over => {
                self.goes_on();
                Vec::new()
            }
        }
    }

    fn goes_on(&mut self) {
        if std::mem::take(&mut self.passing) {
            self.grammar.goes_on();
        }
    }

    /// `frames` after those of the beginning.
    fn opened(&mut self, frames: Vec<Bytes>) -> Vec<Bytes> {
        if self.opening.is_empty() {
            return frames;
        }
        let mut all = std::mem::take(&mut self.opening);
        all.extend(frames);
        all
    }

    /// The answer broke off.
    pub(crate) fn error(&mut self, error: &EngineError) -> Vec<Bytes> {
        if self.ended {
            return Vec::new();
        }
        self.ended = true;
        self.goes_on();
        let frames = self.grammar.broken(error);
        self.opened(frames)
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
            Event::TextDelta(text) | Event::RefusalDelta(text) | Event::ReasoningDelta(text) => Ok(!text.is_empty()),
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
            // Headers were made of the one; the other is in the upstream's own words, or nowhere.
            Event::RateLimits(_) | Event::Foreign => Ok(false),
            Event::Verbatim(_)
            | Event::Logprobs(_)
            | Event::ReasoningSignature(_)
            | Event::Draft { .. }
            | Event::Continued { .. }
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
    use serde_json::Value;
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

    /// The data of the frames of an answer that began in the upstream's own words, told with what each of them means, and went on
    /// with `rest` in the grammar's.
    pub(crate) fn gone_on<G: Grammar>(
        grammar: G,
        theirs: &[Value],
        meaning: impl Fn(&Value) -> Vec<Event>,
        rest: Vec<Event>,
    ) -> Vec<Value> {
        let told = theirs.iter().flat_map(|event| {
            std::iter::once(Event::Verbatim(Verbatim::Piece(event.to_string()))).chain(meaning(event))
        });
        let all = std::iter::once(started()).chain(told).chain([Event::Verbatim(Verbatim::Over)]).chain(rest);
        let data = |frame: String| serde_json::from_str(frame.split_once("data: ").expect("data").1).expect("JSON");
        write(grammar, false, all.collect()).into_iter().map(data).collect()
    }

    /// One event of any kind, allowed or not where it comes.
    pub(crate) fn any_event() -> impl Strategy<Value = Event> {
        let about = TokenChance { token: "x".into(), logprob: -0.5, bytes: None };
        prop_oneof![
            Just(started()),
            ".{0,4}".prop_map(Event::TextDelta),
            ".{0,4}".prop_map(Event::TextDelta),
            ".{0,4}".prop_map(Event::RefusalDelta),
            ".{0,4}".prop_map(Event::ReasoningDelta),
            Just(Event::ReasoningSignature("s".into())),
            (0u32..3).prop_map(|index| call(index, "i", "n")),
            (0u32..3).prop_map(|index| arguments(index, "{}")),
            (0u32..3).prop_map(|index| arguments(index, "{\"a")),
            Just(Event::Draft { snapshot: "░".into(), step: 1, masked: 1 }),
            Just(Event::Logprobs(vec![TokenLogprob { chosen: about.clone(), top: vec![about] }])),
            Just(Event::StoppedAt("END".into())),
            Just(Event::Usage(Usage::default())),
            Just(Event::Foreign),
            Just(Event::Verbatim(Verbatim::Over)),
            Just(Event::Continued { backend: "b".into() }),
            Just(Event::Verbatim(Verbatim::Document("{}".into()))),
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
