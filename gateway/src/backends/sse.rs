//! Reads server-sent events from bytes that arrive in any pieces. Must never hold more than [`EVENT_LIMIT`] bytes of an
//! unfinished event, and never know what the events mean.

use memchr::memchr2;

/// Largest event taken. A whole tool call or a long burst fits many times over; an endless line does not.
pub const EVENT_LIMIT: usize = 8 * 1024 * 1024;

/// Why an answer cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// An event, a line or a document grew past its limit.
    #[error("a piece of the answer is too long")]
    TooLong,
    /// A piece's bytes are not UTF-8.
    #[error("a piece of the answer is not valid UTF-8")]
    NotUtf8,
    /// Markup instead of an answer.
    #[error("it answered with a web page; check its base URL")]
    WebPage,
}

/// Gives the `data` of each event, in order. Comments, `event`, `id` and `retry` lines carry nothing we use.
#[derive(Debug, Default)]
pub struct SseReader {
    /// What came of the unfinished line. Bytes, not text: a piece may end inside a character.
    line: Vec<u8>,
    /// Data lines of the unfinished event, each ended by a newline.
    data: Vec<u8>,
    /// Whether the last byte was a CR, so that a LF right after it belongs to the same line end.
    after_cr: bool,
    /// Whether a line was read before: only the first may begin with a byte order mark.
    begun: bool,
}

impl SseReader {
    /// Takes the next bytes; puts the data of the events they complete behind `events`, up to what cannot be read.
    ///
    /// # Errors
    /// The stream cannot be read on; the reader must not be used again.
    pub fn push(&mut self, mut bytes: &[u8], events: &mut Vec<String>) -> Result<(), ReadError> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            let (piece, rest) = bytes.split_at(end);
            self.check(piece)?;
            bytes = match rest {
                [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
                [] => rest,
            };
            self.after_cr = rest == b"\r";
            self.end_line(piece, events)?;
        }
        self.check(bytes)?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// The stream has ended: an event whose closing blank line never came. Whether it is whole is for the reader of
    /// its data to judge.
    ///
    /// # Errors
    /// Its bytes are not UTF-8.
    pub fn finish(mut self) -> Result<Option<String>, ReadError> {
        let mut events = Vec::new();
        self.end_line(b"", &mut events)?;
        self.end_line(b"", &mut events)?;
        Ok(events.pop())
    }

    fn check(&self, piece: &[u8]) -> Result<(), ReadError> {
        let fits = self.line.len() + self.data.len() + piece.len() <= EVENT_LIMIT;
        if fits { Ok(()) } else { Err(ReadError::TooLong) }
    }

    /// `rest`: what came last of the line.
    fn end_line(&mut self, rest: &[u8], events: &mut Vec<String>) -> Result<(), ReadError> {
        // Mostly a line comes whole.
        let mut line = rest;
        if !self.line.is_empty() {
            self.line.extend_from_slice(rest);
            line = &self.line;
        }
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            if !self.data.is_empty() {
                // The last line's own newline is no part of the data.
                self.data.pop();
                let data = String::from_utf8(std::mem::take(&mut self.data)).map_err(|_| ReadError::NotUtf8)?;
                events.push(data);
            }
        } else if let Some(value) = data_of(line) {
            self.data.reserve(value.len() + 1);
            self.data.extend_from_slice(value);
            self.data.push(b'\n');
        }
        self.line.clear();
        Ok(())
    }
}

/// The value of a `data` line; `None` for comments and other fields.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, ReadError> {
        let mut reader = SseReader::default();
        let mut events = Vec::new();
        for piece in pieces {
            reader.push(piece, &mut events)?;
        }
        events.extend(reader.finish()?);
        Ok(events)
    }

    #[track_caller]
    fn check(text: &str, expect: &[&str]) {
        assert_eq!(read(&[text.as_bytes()]).expect("readable"), expect, "in one piece");
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes).expect("readable"), expect, "byte by byte");
    }

    #[test]
    fn events_come_out_whatever_the_line_ends() {
        check("data: a\n\ndata: b\n\n", &["a", "b"]);
        check("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]);
        check("data: a\r\rdata: b\r\r", &["a", "b"]);
        check("data:a\n\ndata:  b\n\n", &["a", " b"]);
    }

    #[test]
    fn lines_that_are_not_data_are_skipped() {
        check(": keep-alive\n\nevent: x\nid: 1\nretry: 5\ndata: a\n\n", &["a"]);
        check("database: no\n\n\n\ndata: a\n\n", &["a"]);
        check("\u{feff}data: a\n\n", &["a"]);
    }

    #[test]
    fn data_lines_of_one_event_are_joined() {
        check("data: a\ndata:\ndata\ndata: b\n\n", &["a\n\n\nb"]);
    }

    #[test]
    fn an_event_without_its_blank_line_comes_at_the_end() {
        check("data: a\n\ndata: [DONE]", &["a", "[DONE]"]);
        check("data: a\n\ndata: [DONE]\n", &["a", "[DONE]"]);
        check("", &[]);
    }

    #[test]
    fn characters_split_between_pieces_survive() {
        check("data: Grüße ░ 🦀\n\n", &["Grüße ░ 🦀"]);
    }

    #[test]
    fn memory_is_bounded() {
        let piece = vec![b'x'; 1024 * 1024];
        let mut reader = SseReader::default();
        let error = (0..100).find_map(|_| reader.push(&piece, &mut Vec::new()).err());
        assert_eq!(error, Some(ReadError::TooLong));
        let mut reader = SseReader::default();
        let line = [b"data: ".as_slice(), &piece, b"\n"].concat();
        let error = (0..100).find_map(|_| reader.push(&line, &mut Vec::new()).err());
        assert_eq!(error, Some(ReadError::TooLong));
    }

    #[test]
    fn broken_text_is_an_error_and_what_stands_before_it_is_kept() {
        let mut events = Vec::new();
        let error = SseReader::default().push(b"data: a\n\ndata: \xff\n\ndata: b\n\n", &mut events);
        assert_eq!((error, events), (Err(ReadError::NotUtf8), vec!["a".to_owned()]));
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same(
            events in prop::collection::vec("[^\r\n]{0,20}", 0..6),
            crlf in any::<bool>(),
            cuts in prop::collection::vec(1usize..9, 1..40),
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let text: String = events.iter().map(|event| format!("data: {event}{end}: hm{end}{end}")).collect();
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(read(&pieces).expect("readable"), events);
        }

        #[test]
        fn arbitrary_bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = read(&pieces);
        }
    }
}
