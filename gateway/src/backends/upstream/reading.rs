//! What the bytes of an upstream's answer say, read under its limits. Must never go on after a limit, a fault or the end.

use async_stream::stream;
use futures::Stream;
use reqwest::Response;
use tokio::time::Instant;
use weir_protocol::{EngineError, Event};

use super::Decoder;
use super::clock::{Clock, Wait};
use super::frames::{Frame, FrameReader, Framing};
use super::pieces::{Piece, Pieces};
use super::verbatim::Words;
use crate::backends::sse::ReadError;

/// What was waited for: a piece, or that there are no more.
type Come = Result<Option<Piece>, EngineError>;

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
            let fault = match clock.bound(reading.wait, pieces.next()).await {
                // What comes together goes on together: it is written at once.
                Ok(Some(come)) => reading.take_all(come, &mut events),
                Ok(None) => reading.take(Ok(None), &mut events),
                Err(late) => reading.take(Err(late), &mut events),
            };
            if reading.decoder.has_ended() {
                pieces.over();
                for event in events {
                    yield Ok(event);
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
    words: Words,
    wait: Wait,
}

impl Reading {
    /// `passes`: whether the caller gets the upstream's own words.
    pub(super) fn new(status: u16, framing: Framing, decoder: Box<dyn Decoder>, passes: bool) -> Self {
        Reading {
            status,
            reader: FrameReader::new(framing),
            decoder,
            words: Words::new(passes),
            wait: Wait::FirstContent,
        }
    }

    /// Whether nothing after this is taken.
    #[cfg(any(test, fuzzing))]
    pub(super) fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// What pieces say that came together.
    fn take_all(&mut self, come: Vec<Piece>, events: &mut Vec<Event>) -> Result<(), EngineError> {
        for piece in come {
            self.take(Ok(Some(piece)), events)?;
            if self.decoder.has_ended() {
                break;
            }
        }
        Ok(())
    }

    /// What the next piece says, behind `events`, up to its first fault.
    ///
    /// # Errors
    /// The fault.
    pub(super) fn take(&mut self, piece: Come, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let from = events.len();
        let read = self.read(piece, events);
        if self.wait == Wait::FirstContent && events.iter().skip(from).any(Event::is_content) {
            self.wait = Wait::Idle(Instant::now());
        }
        if self.decoder.has_reason() && !matches!(self.wait, Wait::Tail(_)) {
            self.wait = Wait::Tail(Instant::now());
        }
        read
    }

    fn read(&mut self, piece: Come, events: &mut Vec<Event>) -> Result<(), EngineError> {
        match piece {
            Ok(Some(Ok(bytes))) => {
                let (frames, read) = self.reader.push(&bytes);
                frames.into_iter().try_for_each(|frame| self.frame(frame, events))?;
                // What comes after the answer's end need not be readable.
                read.or_else(|error| if self.decoder.has_ended() { Ok(()) } else { Err(self.unreadable(error)) })
            }
            // The answer itself is whole: how the connection ends no longer matters.
            Ok(Some(Err(_))) | Err(_) if self.decoder.has_reason() => self.end(events),
            Ok(Some(Err(_))) => Err(EngineError::StreamCut { message: "the upstream's connection broke".into() }),
            Ok(None) => {
                if let Some(frame) = self.reader.finish().map_err(|error| self.unreadable(error))? {
                    self.frame(frame, events)?;
                }
                if self.decoder.has_ended() { Ok(()) } else { self.end(events) }
            }
            Err(late) => Err(late),
        }
    }

    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let from = events.len();
        self.decoder.end(events)?;
        self.words.said(None, from, self.decoder.as_ref(), events);
        Ok(())
    }

    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let from = events.len();
        match frame {
            // Nothing after the end is taken.
            _ if self.decoder.has_ended() => {}
            Frame::Data(data) => {
                self.decoder.take(&data, events)?;
                self.words.said(Some(data), from, self.decoder.as_ref(), events);
            }
            Frame::Document(document) => {
                self.decoder.whole(&document, events)?;
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

/// A body of at most `limit` bytes.
pub(super) async fn at_most(mut response: Response, limit: usize) -> Result<Vec<u8>, EngineError> {
    let cut = |message: &str| EngineError::StreamCut { message: message.into() };
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|_| cut("the upstream's connection broke"))? {
        if body.len() + piece.len() > limit {
            return Err(cut("the upstream's answer is too long"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
