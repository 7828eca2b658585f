//! The callers' own books: every request that the gateway has certainly seen, and how its answer ended.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// Books kept by all callers together.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Books>);

/// See [`Ledger`].
#[derive(Debug, Default, Clone)]
pub(crate) struct Books {
    /// Ids of the requests.
    pub(crate) ids: HashSet<String>,
    /// How many ended how.
    pub(crate) endings: BTreeMap<String, u64>,
    /// Answers that told no end, with what they were; the first few.
    pub(crate) untold: Vec<String>,
}

/// Most that are kept for people to read.
const UNTOLD_MAX: usize = 10;

impl Ledger {
    /// A request that ended as a caller may expect.
    pub(crate) fn ended(&self, id: String, how: &str) {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        books.ids.insert(id);
        *books.endings.entry(how.to_owned()).or_default() += 1;
    }

    /// One whose answer stopped without an end.
    pub(crate) fn untold(&self, id: String, what: String) {
        self.ended(id, "UNTOLD");
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if books.untold.len() < UNTOLD_MAX {
            books.untold.push(what);
        }
    }

    /// All of it.
    pub(crate) fn books(&self) -> Books {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
