//! What the upstream was asked and how each request ended. An entry that is dropped before its end means that the
//! caller left: that is how a test sees a cancelled request from the other side.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;
use serde::Serialize;
use serde_json::Value;

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// The fault it asked for.
    pub fault: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Value,
    /// How it ended.
    pub ending: Ending,
}

impl Seen {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Not yet.
    Open,
    /// We sent everything we wanted to.
    Whole,
    /// We cut it on command.
    CutByUs,
    /// The caller closed the connection first.
    ClosedByCaller,
}

/// All requests of one upstream.
#[derive(Debug, Default)]
pub(super) struct Records(Mutex<Vec<Seen>>);

impl Records {
    pub(super) fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn open(own: &Arc<Self>, fault: String, headers: &HeaderMap, body: Value) -> Entry {
        let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let mut all = own.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Seen { fault, headers, body, ending: Ending::Open });
        Entry { records: Arc::clone(own), place: all.len() - 1 }
    }
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Entry {
    records: Arc<Records>,
    place: usize,
}

impl Entry {
    /// The first ending counts.
    pub(super) fn ended(&self, ending: Ending) {
        let mut all = self.records.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = all.get_mut(self.place).filter(|seen| seen.ending == Ending::Open) {
            seen.ending = ending;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ended(Ending::ClosedByCaller);
    }
}
