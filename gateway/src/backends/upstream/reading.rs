//! Bytes of an upstream's answer, read under its limits. Dropping the stream of events drops the connection, which is
//! how the upstream learns that nobody listens.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use reqwest::Response;
use tokio::time::Instant;
use weir_protocol::{EngineError, Event};

use super::Decoder;
use super::clock::{Clock, Wait};
use super::frames::{Frame, FrameReader, Framing};
use super::verbatim::Words;
use crate::backends::sse::ReadError;

/// Most time and bytes spent on what follows an answer's end, so that the connection can be used again.
const DRAIN_TIME: Duration = Duration::from_secs(1);
const DRAIN_LIMIT: usize = 64 * 1024;

/// Events taken together, about.
const TOGETHER_MAX: usize = 64;

type Piece = Result<Option<Result<Bytes, reqwest::Error>>, EngineError>;

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
        let mut body = Box::pin(response.bytes_stream());
        loop {
            let piece = clock.bound(reading.wait, body.next()).await;
            let (mut events, mut fault) = reading.take(piece);
            // The client hands over piece by piece what it has read at once: taken together it is written at once.
            while fault.is_none() && !reading.decoder.has_ended() && events.len() < TOGETHER_MAX {
                let Some(piece) = at_hand(&mut body).await else { break };
                let (more, broken) = reading.take(Ok(piece));
                events.extend(more);
                fault = broken;
            }
            let progress = events.iter().any(|event| !matches!(event, Event::Verbatim(_)));
            if reading.decoder.has_ended() {
                let mut rest = Box::pin(drain(body));
                // Mostly it is here already.
                if rest.as_mut().now_or_never().is_none() {
                    tokio::spawn(tokio::time::timeout(DRAIN_TIME, rest));
                }
                for event in events {
                    yield Ok(event);
                }
                break;
            }
            for event in events {
                yield Ok(event);
            }
            if let Some(fault) = fault {
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

    /// What the next piece says, up to its first fault.
    pub(super) fn take(&mut self, piece: Piece) -> (Vec<Event>, Option<EngineError>) {
        let mut events = Vec::new();
        let fault = self.read(piece, &mut events).err();
        if self.wait == Wait::FirstContent && events.iter().any(Event::is_content) {
            self.wait = Wait::Idle(Instant::now());
        }
        if self.decoder.has_reason() && !matches!(self.wait, Wait::Tail(_)) {
            self.wait = Wait::Tail(Instant::now());
        }
        (events, fault)
    }

    fn read(&mut self, piece: Piece, events: &mut Vec<Event>) -> Result<(), EngineError> {
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
            ReadError::WebPage => EngineError::Upstream { status: self.status, message: error.to_string() },
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

/// The next piece, if it is here, or comes without waiting for anybody but this thread's own tasks.
async fn at_hand<S: Stream + Unpin>(body: &mut S) -> Option<Option<S::Item>> {
    let mut has_waited = false;
    poll_fn(|context| match body.poll_next_unpin(context) {
        Poll::Ready(piece) => Poll::Ready(Some(piece)),
        Poll::Pending if has_waited => Poll::Ready(None),
        Poll::Pending => {
            has_waited = true;
            // Behind the task that reads the connection, which was woken when the last piece was taken.
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

async fn drain(mut body: impl Stream<Item = Result<Bytes, reqwest::Error>> + Unpin) {
    let mut seen = 0;
    while let Some(Ok(piece)) = body.next().await {
        seen += piece.len();
        if seen > DRAIN_LIMIT {
            break;
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
