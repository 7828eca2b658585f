//! What an answer's bytes are framed in: server-sent events, lines of JSON, or one document. The first byte tells, since
//! some servers and proxies send a content type that is not true. Must never know what the pieces mean.

use super::lines::LineReader;
use crate::backends::sse::{ReadError, SseReader};

/// Largest answer taken as one JSON document.
const WHOLE_LIMIT: usize = 16 * 1024 * 1024;

/// What a kind of upstream streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backends) enum Framing {
    /// Server-sent events.
    Events,
    /// One JSON object a line.
    Lines,
}

impl Framing {
    /// What is asked for.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Framing::Events => "text/event-stream",
            Framing::Lines => "application/x-ndjson",
        }
    }
}

/// A piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The data of an event, or a line.
    Data(String),
    /// All of the answer.
    Document(Vec<u8>),
}

/// Reads an answer's bytes.
#[derive(Debug)]
pub(super) struct FrameReader {
    framing: Framing,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing but white space so far.
    Unknown,
    Events(SseReader),
    Lines(LineReader),
    Document(Vec<u8>),
}

impl FrameReader {
    pub(super) fn new(framing: Framing) -> Self {
        FrameReader { framing, state: State::Unknown }
    }

    /// Takes the next bytes; gives the data of the pieces they complete, up to what cannot be read.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> (Vec<String>, Result<(), ReadError>) {
        if matches!(self.state, State::Unknown) {
            bytes = bytes.trim_ascii_start();
            let Some(first) = bytes.first() else { return (Vec::new(), Ok(())) };
            self.state = match (first, self.framing) {
                (b'<', _) => return (Vec::new(), Err(ReadError::WebPage)),
                (b'{', Framing::Events) => State::Document(Vec::new()),
                (_, Framing::Events) => State::Events(SseReader::default()),
                (_, Framing::Lines) => State::Lines(LineReader::default()),
            };
        }
        let mut pieces = Vec::new();
        let read = match &mut self.state {
            State::Unknown => Ok(()),
            State::Events(reader) => reader.push(bytes, &mut pieces),
            State::Lines(reader) => reader.push(bytes, &mut pieces),
            State::Document(document) if document.len() + bytes.len() > WHOLE_LIMIT => Err(ReadError::TooLong),
            State::Document(document) => {
                document.extend_from_slice(bytes);
                Ok(())
            }
        };
        (pieces, read)
    }

    /// The bytes have ended: the last piece, if one is left.
    pub(super) fn finish(&mut self) -> Result<Option<Frame>, ReadError> {
        Ok(match std::mem::replace(&mut self.state, State::Unknown) {
            State::Unknown => None,
            State::Events(reader) => reader.finish()?.map(Frame::Data),
            State::Lines(reader) => reader.finish()?.map(Frame::Data),
            State::Document(document) => Some(Frame::Document(document)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(framing: Framing, text: &str, expect: Result<Vec<Frame>, ReadError>) {
        for size in [1, 3, text.len().max(1)] {
            let mut reader = FrameReader::new(framing);
            let mut read = || {
                let mut frames = Vec::new();
                for piece in text.as_bytes().chunks(size) {
                    let (more, read) = reader.push(piece);
                    frames.extend(more.into_iter().map(Frame::Data));
                    read?;
                }
                frames.extend(reader.finish()?);
                Ok(frames)
            };
            assert_eq!(read(), expect, "{size} bytes at a time");
        }
    }

    #[test]
    fn the_first_byte_tells() {
        let data = |text: &str| Frame::Data(text.into());
        check(Framing::Events, "\r\n\n: hi\n\ndata: {}\n\n", Ok(vec![data("{}")]));
        check(Framing::Events, " {\"a\":\n1}", Ok(vec![Frame::Document(b"{\"a\":\n1}".to_vec())]));
        check(Framing::Lines, "\n{\"a\":1}\r\n{}", Ok(vec![data("{\"a\":1}"), data("{}")]));
        check(Framing::Lines, "data: {}\n", Ok(vec![data("data: {}")]));
        for framing in [Framing::Events, Framing::Lines] {
            check(framing, " \n<!DOCTYPE html>", Err(ReadError::WebPage));
            check(framing, " \n", Ok(vec![]));
        }
    }

    #[test]
    fn a_document_has_its_limit() {
        let mut reader = FrameReader::new(Framing::Events);
        reader.push(b"{").1.expect("begun");
        let piece = vec![b' '; 1024 * 1024];
        assert_eq!((0..99).find_map(|_| reader.push(&piece).1.err()), Some(ReadError::TooLong));
    }
}
