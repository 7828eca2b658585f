//! The files a config was read from, with what they held, so that a change can be seen. Must never keep a file's text.

use std::io;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

/// One file as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRead {
    path: PathBuf,
    /// `None`: it could not be read.
    digest: Option<Vec<u8>>,
}

impl FileRead {
    /// Reads a file, and takes note of it in `files`.
    pub(super) fn read(path: &Path, files: &mut Vec<FileRead>) -> io::Result<Vec<u8>> {
        let bytes = std::fs::read(path);
        files.push(FileRead { path: path.to_owned(), digest: bytes.as_deref().ok().map(digest_of) });
        bytes
    }

    /// A file's text, of which no note is taken.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn text_of(path: &Path) -> io::Result<String> {
        std::fs::read(path).and_then(FileRead::text)
    }

    /// Bytes as text.
    ///
    /// # Errors
    /// They are none.
    pub(super) fn text(bytes: Vec<u8>) -> io::Result<String> {
        String::from_utf8(bytes).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
            io::Error::other(format!("line {line} is not UTF-8 (save it as UTF-8, not as UTF-16 or Latin-1)"))
        })
    }

    /// The same file as it is now.
    pub fn again(&self) -> FileRead {
        let digest = std::fs::read(&self.path).ok().map(|bytes| digest_of(&bytes));
        FileRead { path: self.path.clone(), digest }
    }

    /// Whether nothing was in it.
    pub fn is_empty(&self) -> bool {
        self.digest.as_ref().is_some_and(|digest| *digest == digest_of(b""))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn digest_of(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_content_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let mut files = Vec::new();
        assert!(FileRead::read(&file, &mut files).is_err());
        std::fs::write(&file, "1").unwrap();
        assert_eq!(FileRead::read(&file, &mut files).unwrap(), b"1");
        assert_ne!(files[0].again(), files[0], "it is there now");
        std::fs::write(&file, "1").unwrap();
        assert_eq!(files[1].again(), files[1], "written again, the same");
        std::fs::write(&file, "2").unwrap();
        assert_ne!(files[1].again(), files[1]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(files[0].again(), files[0]);
        assert!(!files[0].is_empty(), "it is not there");
        std::fs::write(&file, "").unwrap();
        assert!(files[0].again().is_empty() && !files[1].is_empty());
    }
}
