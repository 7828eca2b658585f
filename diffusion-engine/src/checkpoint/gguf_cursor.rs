//! Steps through a GGUF file's header; every step is checked against the bytes that are left. Must never allocate.

use std::fmt;

/// Longest text; a `tokenizer.huggingface.json` has about 12 MB.
const MOST_TEXT: u64 = 64 << 20;

/// What is wrong at the cursor; the caller adds the file and the key or tensor.
#[derive(Debug)]
pub(super) struct Wrong(pub(super) String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A position in the bytes.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Refuses a `count` of things that cannot be there because each has at least `size` bytes.
    pub(super) fn room(&self, count: u64, size: u64, what: &str) -> Result<(), Wrong> {
        let left = (self.bytes.len() - self.at) as u64;
        match count.checked_mul(size) {
            Some(needed) if needed <= left => Ok(()),
            _ => Err(Wrong(format!("claims {count} {what} in the {left} bytes that are left"))),
        }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        let end = self.at.checked_add(count);
        let bytes = end.and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| {
            Wrong(format!("ends after {} of {count} bytes: the file is cut", self.bytes.len() - self.at))
        })?;
        self.at += count;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let bytes = self.bytes(N)?;
        bytes.try_into().map_err(|_| Wrong("is cut".into()))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Wrong> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Wrong> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A length and that many bytes of UTF-8.
    pub(super) fn text(&mut self) -> Result<&'a str, Wrong> {
        let bytes = self.text_bytes()?;
        std::str::from_utf8(bytes).map_err(|_| Wrong("is not UTF-8".into()))
    }

    /// As [`Cursor::text`], whatever the bytes are.
    pub(super) fn skip_text(&mut self) -> Result<(), Wrong> {
        self.text_bytes().map(|_| ())
    }

    fn text_bytes(&mut self) -> Result<&'a [u8], Wrong> {
        let length = self.u64()?;
        match usize::try_from(length) {
            Ok(length) if length as u64 <= MOST_TEXT => self.bytes(length),
            _ => Err(Wrong(format!("a text of {length} bytes, at most {MOST_TEXT}"))),
        }
    }
}
