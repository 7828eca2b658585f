//! Reads lines of JSON from bytes that arrive in any pieces. Must never hold more than [`LINE_LIMIT`] bytes of an
//! unfinished line, and never know what the lines mean.

use memchr::memchr2;

use crate::backends::sse::ReadError;

/// Longest line taken. A whole tool call fits many times over; an endless line does not.
pub(crate) const LINE_LIMIT: usize = 8 * 1024 * 1024;

/// Gives each line that is not blank, in order.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    /// The unfinished line. Bytes, not text: a piece may end inside a character.
    line: Vec<u8>,
}

impl LineReader {
    /// Takes the next bytes; puts the lines they complete behind `lines`, up to what cannot be read.
    ///
    /// # Errors
    /// The stream cannot be read on; the reader must not be used again.
    pub(super) fn push(&mut self, mut bytes: &[u8], lines: &mut Vec<String>) -> Result<(), ReadError> {
        // JSON never holds a bare CR or LF: inside its texts they are escaped.
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            let (piece, rest) = bytes.split_at(end);
            self.grow(piece)?;
            bytes = &rest[1..];
            lines.extend(self.take()?);
        }
        self.grow(bytes)
    }

    /// The stream has ended: a line whose end never came. Whether it is whole is for its reader to judge.
    ///
    /// # Errors
    /// Its bytes are not UTF-8.
    pub(super) fn finish(mut self) -> Result<Option<String>, ReadError> {
        self.take()
    }

    fn grow(&mut self, piece: &[u8]) -> Result<(), ReadError> {
        if self.line.len() + piece.len() > LINE_LIMIT {
            return Err(ReadError::TooLong);
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    fn take(&mut self) -> Result<Option<String>, ReadError> {
        let line = String::from_utf8(std::mem::take(&mut self.line)).map_err(|_| ReadError::NotUtf8)?;
        Ok((!line.trim().is_empty()).then_some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, ReadError> {
        let mut reader = LineReader::default();
        let mut lines = Vec::new();
        for piece in pieces {
            reader.push(piece, &mut lines)?;
        }
        lines.extend(reader.finish()?);
        Ok(lines)
    }

    #[test]
    fn lines_come_out_whatever_their_ends() {
        for end in ["\n", "\r\n", "\r", "\n\n", " \n"] {
            let text = format!("{{\"a\":\"Grüße 🦀\"}}{end}{{}}");
            let lines = read(&text.as_bytes().chunks(1).collect::<Vec<_>>()).expect("readable");
            let trimmed: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
            assert_eq!(trimmed, ["{\"a\":\"Grüße 🦀\"}", "{}"], "{end:?}");
        }
    }

    #[test]
    fn memory_is_bounded_and_broken_text_an_error() {
        let piece = vec![b'x'; 1024 * 1024];
        let mut reader = LineReader::default();
        assert_eq!((0..100).find_map(|_| reader.push(&piece, &mut Vec::new()).err()), Some(ReadError::TooLong));
        let mut lines = Vec::new();
        assert_eq!(LineReader::default().push(b"{}\n\xff\n", &mut lines), Err(ReadError::NotUtf8));
        assert_eq!(lines, ["{}"], "what stands before it is kept");
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same(
            lines in prop::collection::vec("[^\r\n ][^\r\n]{0,20}", 0..6),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n"]), 6),
            cuts in prop::collection::vec(1usize..9, 1..40),
        ) {
            let text: String = lines.iter().zip(&ends).flat_map(|(line, end)| [line.as_str(), end]).collect();
            let (mut pieces, mut rest) = (Vec::new(), text.as_bytes());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            // A line of other white space than ASCII's is blank too.
            let expect: Vec<String> = lines.into_iter().filter(|line| !line.trim().is_empty()).collect();
            prop_assert_eq!(read(&pieces).expect("readable"), expect);
        }

        #[test]
        fn arbitrary_bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let _ = read(&pieces.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }
}
