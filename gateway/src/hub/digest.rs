//! The checksums the hub gives: SHA-256 of a large (LFS) file, git's blob id (SHA-1 over a short header and the bytes)
//! of a small one. Must never accept one that it did not compute.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A checksum, lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha256(String),
    GitBlob(String),
}

impl Digest {
    /// A SHA-256 in hex, if it is one.
    pub(super) fn sha256(text: &str) -> Option<Digest> {
        hex(text, 64).map(Digest::Sha256)
    }

    /// What an `etag`, `x-linked-etag` or blob id says: told apart by its length.
    pub(super) fn from_etag(text: &str) -> Option<Digest> {
        let text = text.trim().trim_start_matches("W/").trim_matches('"');
        Digest::sha256(text).or_else(|| hex(text, 40).map(Digest::GitBlob))
    }

    /// Part of a partial file's name, so that another content never continues it.
    pub(super) fn short(&self) -> &str {
        let (Digest::Sha256(hex) | Digest::GitBlob(hex)) = self;
        hex.get(..16).unwrap_or(hex)
    }

    /// A sum over no bytes yet; `size` is the whole file's.
    pub(super) fn start(&self, size: u64) -> Sum {
        match self {
            Digest::Sha256(_) => Sum::Sha256(Sha256::new()),
            Digest::GitBlob(_) => Sum::GitBlob(Sha1::new().chain_update(format!("blob {size}\0"))),
        }
    }
}

fn hex(text: &str, length: usize) -> Option<String> {
    let fits = text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| text.to_ascii_lowercase())
}

/// A checksum being computed.
pub(super) enum Sum {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Sum {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Sum::Sha256(sum) => sum.update(bytes),
            Sum::GitBlob(sum) => sum.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match self {
            Sum::Sha256(sum) => Digest::Sha256(hex(&sum.finalize())),
            Sum::GitBlob(sum) => Digest::GitBlob(hex(&sum.finalize())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        // `printf 'hello\n' | sha256sum`, `git hash-object`.
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let blob = "ce013625030ba8dba906f756967f9e9ca394464a";
        for etag in [sha256.to_owned(), format!("\"{blob}\""), format!("W/\"{}\"", blob.to_uppercase())] {
            let digest = Digest::from_etag(&etag).expect("a digest");
            let mut sum = digest.start(6);
            sum.update(b"hel");
            sum.update(b"lo\n");
            assert_eq!(sum.finish(), digest);
        }
        assert_eq!(Digest::from_etag("\"abc\""), None);
        assert_eq!(Digest::sha256(blob), None);
    }
}
