//! What the bytes of an upstream's answer say, read under its limits. Must never go on after a limit, a fault or the end.

use async_stream::stream;
use futures::Stream;
use reqwest::Response;
use tokio::time::Instant;
use weir_protocol::{EngineError, Event};

use super::Decoder;
use super::arguments::Arguments;
use super::clock::{Clock, Wait};
use super::frames::{Frame, FrameReader, Framing};
use super::one_call::OneCall;
use super::pieces::{Come, Pieces};
use super::verbatim::Words;
use crate::api::reading::halves::Halves;
use crate::backends::sse::ReadError;

/// The events of an answer. `limits` is what its headers said.
pub(super) fn events(
    response: Response,
    mut reading: Reading,
    clock: Clock,
    limits: Option<Event>,
) -> impl Stream<Item = Result<Event, EngineError>> + Send {
    stream! {
        if let Some(limits) = limits {
            yield Ok(limits);
        }
        let mut pieces = Pieces::of(response);
        loop {
            let mut events = Vec::new();
            // What comes together goes on together: it is written at once.
            let come = clock.bound(reading.wait, pieces.next()).await;
            let fault = reading.take(come, &mut events);
            if reading.decoder.has_ended() {
                pieces.over();
                for event in events {
                    yield Ok(event);
                }
                if let Err(fault) = fault {
                    yield Err(fault);
                }
                break;
            }
            let progress = events.iter().any(|event| !matches!(event, Event::Verbatim(_)));
            for event in events {
                yield Ok(event);
            }
            if let Err(fault) = fault {
                yield Err(fault);
                break;
            }
            if progress {
                reading.moved_on();
            }
        }
    }
}

/// An answer being read.
pub(super) struct Reading {
    status: u16,
    reader: FrameReader,
    decoder: Box<dyn Decoder>,
    halves: Halves,
    words: Words,
    wait: Wait,
    /// Whether the caller gets the answer as a whole.
    whole: bool,
    /// Those of its calls, where they must be objects.
    arguments: Option<Arguments>,
    /// Where the caller takes one call only.
    one_call: Option<OneCall>,
}

impl Reading {
    /// `passes`: whether the caller gets the upstream's own words; `whole`: whether at once, so that nobody sees how many
    /// pieces they came in.
    pub(super) fn new(status: u16, framing: Framing, decoder: Box<dyn Decoder>, passes: bool, whole: bool) -> Self {
        Reading {
            status,
            reader: FrameReader::new(framing),
            decoder,
            halves: Halves::default(),
            words: Words::new(passes),
            wait: Wait::FirstContent,
            whole,
            arguments: None,
            one_call: None,
        }
    }

    /// The same, for a caller who can be shown objects only as arguments of calls.
    pub(super) fn with_objects(self) -> Self {
        Reading { arguments: Some(Arguments::default()), ..self }
    }

    /// The same, for a caller who takes one call only; `backend` answers.
    pub(super) fn with_one_call(self, backend: &str) -> Self {
        Reading { one_call: Some(OneCall::of(backend)), ..self }
    }

    /// Whether nothing after this is taken.
    #[cfg(any(test, fuzzing))]
    pub(super) fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// What came says this, behind `events`, up to its first fault. `None`: there is no more.
    ///
    /// # Errors
    /// The fault.
    pub(super) fn take(
        &mut self,
        come: Result<Option<Come>, EngineError>,
        events: &mut Vec<Event>,
    ) -> Result<(), EngineError> {
        let (from, was_over) = (events.len(), self.decoder.has_reason());
        let read = self.read(come, events);
        let read = match &mut self.arguments {
            Some(arguments) => read.and_then(|()| arguments.check(from, events)),
            None => read,
        };
        let says_more = events.iter().skip(from).any(Event::is_content);
        if says_more && (was_over || self.wait == Wait::FirstContent) {
            // Some servers name a reason in each piece: one that still speaks is not at its end.
            self.wait = Wait::Idle(Instant::now());
        }
        if self.decoder.has_reason() && !(says_more && was_over) {
            let now = Instant::now();
            let reason = if let Wait::Tail { reason, .. } = self.wait { reason } else { now };
            self.wait = Wait::Tail { reason, piece: now };
        }
        read
    }

    fn read(&mut self, come: Result<Option<Come>, EngineError>, events: &mut Vec<Event>) -> Result<(), EngineError> {
        match come {
            Ok(Some(Come { bytes, is_broken })) => {
                let (pieces, read) = self.reader.push(&bytes);
                self.pieces(pieces, events)?;
                match read {
                    // What comes after the answer's end need not be readable.
                    _ if self.decoder.has_ended() => Ok(()),
                    Err(error) => Err(self.unreadable(error)),
                    Ok(()) if !is_broken => Ok(()),
                    // The answer itself is whole: how the connection ends no longer matters.
                    Ok(()) if self.decoder.has_reason() => self.end(events),
                    Ok(()) => Err(EngineError::StreamCut { message: "the upstream's connection broke".into() }),
                }
            }
            Err(_) if self.decoder.has_reason() => self.end(events),
            Ok(None) => {
                if let Some(frame) = self.reader.finish().map_err(|error| self.unreadable(error))? {
                    self.frame(frame, events)?;
                }
                if self.decoder.has_ended() { Ok(()) } else { self.end(events) }
            }
            Err(late) => Err(late),
        }
    }

    fn pieces(&mut self, pieces: Vec<String>, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let mut pieces = pieces.into_iter();
        loop {
            let together = if self.whole { self.decoder.together(pieces.as_slice()) } else { None };
            let piece = match together {
                Some((piece, count)) => pieces.nth(count.saturating_sub(1)).map(|_| piece),
                None => pieces.next(),
            };
            let Some(piece) = piece else { return Ok(()) };
            self.frame(Frame::Data(piece), events)?;
        }
    }

    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let from = events.len();
        self.decode(events, |decoder, events| decoder.end(events))?;
        self.words.said(None, from, self.decoder.as_ref(), events);
        Ok(())
    }

    /// What the decoder reads, but for calls that the caller does not take.
    fn decode(
        &mut self,
        events: &mut Vec<Event>,
        read: impl FnOnce(&mut dyn Decoder, &mut Vec<Event>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let from = events.len();
        let read = read(self.decoder.as_mut(), events);
        if self.one_call.as_mut().is_some_and(|one| one.keep(from, events)) {
            self.words.over(from, events);
        }
        read
    }

    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let from = events.len();
        match frame {
            // Nothing after the end is taken.
            _ if self.decoder.has_ended() => {}
            Frame::Data(data) => {
                let data = self.halves.mend(data);
                self.decode(events, |decoder, events| decoder.take(&data, events))?;
                self.words.said(Some(data), from, self.decoder.as_ref(), events);
            }
            Frame::Document(document) => {
                self.decode(events, |decoder, events| decoder.whole(&document, events))?;
                self.words.document(document, from, self.decoder.as_ref(), events);
            }
        }
        Ok(())
    }

    fn unreadable(&self, error: ReadError) -> EngineError {
        match error {
            ReadError::WebPage => {
                EngineError::Upstream { status: self.status, message: error.to_string(), retry_after: None }
            }
            ReadError::TooLong | ReadError::NotUtf8 => EngineError::StreamCut { message: error.to_string() },
        }
    }

    /// The caller took what there was: the wait for the next piece begins now. Comments do not count, or a stalled
    /// upstream could hold a caller for ever.
    fn moved_on(&mut self) {
        if let Wait::Idle(since) = &mut self.wait {
            *since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::openai_chat::chunk::ChunkDecoder;

    fn told(reading: &mut Reading, text: &str) -> Vec<Event> {
        let mut events = Vec::new();
        let come = Come { bytes: format!("data: {text}\n\n").into(), is_broken: false };
        reading.take(Ok(Some(come)), &mut events).expect("readable");
        events
    }

    fn reading() -> Reading {
        Reading::new(200, Framing::Events, Box::new(ChunkDecoder::new("m", 9, false)), false, false)
    }

    #[test]
    fn who_still_speaks_is_not_at_the_end() {
        let mut reading = reading();
        let says = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#;
        told(&mut reading, says);
        assert!(matches!(reading.wait, Wait::Tail { .. }));
        told(&mut reading, says);
        assert!(matches!(reading.wait, Wait::Idle(_)));
        told(&mut reading, r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
        assert!(matches!(reading.wait, Wait::Tail { .. }));
    }

    #[test]
    fn a_caller_who_takes_one_call_gets_the_first() {
        let call = |at: u32, arguments: &str| {
            format!(r#"{{"index":{at},"id":"c{at}","function":{{"name":"f","arguments":"{arguments}"}}}}"#)
        };
        let says = |message: &str, calls: &[String], reason: &str| {
            format!(
                r#"{{"choices":[{{"{message}":{{"tool_calls":[{}]}},"finish_reason":{reason}}}]}}"#,
                calls.join(",")
            )
        };
        let first = [
            Event::ToolCallStarted { index: 0, id: "c0".into(), name: "f".into() },
            Event::ToolCallDelta { index: 0, arguments: "{}".into() },
        ];
        let end = Event::Finished { reason: weir_protocol::FinishReason::ToolCalls };
        let (open, calls) = (Event::Started { model: "m".into() }, [call(0, "{}"), call(1, "{"), call(2, "")]);
        for passes in [false, true] {
            let over = passes.then_some(Event::Verbatim(weir_protocol::Verbatim::Over));
            let begins = || over.iter().chain([&open]).chain(&first).cloned();
            let decoder = || Box::new(ChunkDecoder::new("m", 9, passes));
            let new = || Reading::new(200, Framing::Events, decoder(), passes, false).with_one_call("b");
            let mut stream = new();
            let mut events = told(&mut stream, &says("delta", &calls, "null"));
            assert_eq!(events, begins().collect::<Vec<_>>(), "passes {passes}");
            events = told(&mut stream, &says("delta", &[call(1, "}")], "\"tool_calls\""));
            // The third call has no arguments, which are written for it.
            events.extend(told(&mut stream, "[DONE]"));
            assert_eq!(events, std::slice::from_ref(&end), "passes {passes}");
            let mut whole = new();
            let bytes = says("message", &calls, "\"tool_calls\"").into_bytes();
            let mut events = Vec::new();
            whole.take(Ok(Some(Come { bytes, is_broken: false })), &mut events).expect("readable");
            whole.take(Ok(None), &mut events).expect("complete");
            assert_eq!(events, begins().chain([end.clone()]).collect::<Vec<_>>(), "passes {passes}");
        }
    }

    #[test]
    fn halves_of_a_character_come_together() {
        let mut reading = reading();
        told(&mut reading, r#"{"choices":[{"delta":{"content":"a\ud83d"}}]}"#);
        let events = told(&mut reading, r#"{"choices":[{"delta":{"content":"\ude00"}}]}"#);
        assert_eq!(events, [Event::TextDelta("\u{1f600}".into())]);
    }
}
