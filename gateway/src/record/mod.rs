//! What is kept of each request, from its first byte to its last: one [`Record`], closed exactly once by whoever drops it
//! last, the answer's body included. From it come the counters of outcomes, the line of the request log and the spans.
//! Must never make a request wait, nor hold prompt text unless the operator turned `content` on.
//!
//! - [`Record`]: a request under way.
//! - [`attempts`]: what was tried for it.
//! - [`closed`]: what is known at its end.
//! - [`content`]: prompt and answer, where they are wanted; [`redact`]: what is taken out of them.
//! - [`line`]: the line; [`writer`]: who writes it; [`file`]: where.

pub(crate) mod attempts;
pub(crate) mod closed;
mod content;
mod file;
mod line;
mod open;
pub mod redact;
pub(crate) mod waiting;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::HeaderMap;

use closed::Closed;
pub(crate) use content::AnswerSaid;
use content::Said;
use file::Place;
pub(crate) use line::rfc3339;
pub(crate) use open::{Landing, Waiting};
pub use open::{Outcome, Record};
use writer::RequestLog;

use crate::config::BackendSettings;
use crate::config::telemetry::{RequestLogSettings, TelemetrySettings};
use crate::metrics::Metrics;
use crate::traces::{ExportError, Exporter, TraceContext};

/// Where the records of a process end up.
pub struct Recorder {
    metrics: Arc<Metrics>,
    log: Option<RequestLog>,
    exporter: Option<Exporter>,
    /// The threads of those before it, which end when the last request that began with them is over.
    before: Mutex<Vec<JoinHandle<()>>>,
}

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The request log.
    #[error("`request_log.file`: {place} cannot be written")]
    Log {
        /// Where it should go.
        place: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The request log's writer.
    #[error("no thread for the request log")]
    Thread(#[source] std::io::Error),
    /// Spans.
    #[error(transparent)]
    Traces(#[from] ExportError),
}

impl Recorder {
    /// Counts, writes what the operator wants written, sends what it wants sent.
    ///
    /// # Errors
    /// The log's file cannot be opened, or the way to the collector cannot be set up.
    pub fn start(settings: &TelemetrySettings, metrics: Arc<Metrics>) -> Result<Self, RecorderError> {
        let log = settings.request_log.as_ref();
        let start = |settings: &RequestLogSettings| {
            let place = Place::open(&settings.target);
            let place = place.map_err(|source| RecorderError::Log { place: settings.target.to_string(), source })?;
            RequestLog::start(place, settings, Arc::clone(&metrics)).map_err(RecorderError::Thread)
        };
        let log = log.map(start).transpose()?;
        let exporter = settings.otlp.as_ref();
        let exporter = exporter.map(|settings| Exporter::start(settings, Arc::clone(&metrics))).transpose()?;
        Ok(Recorder { metrics, log, exporter, before: Mutex::default() })
    }

    /// Only counts.
    pub fn counting(metrics: Arc<Metrics>) -> Self {
        Recorder { metrics, log: None, exporter: None, before: Mutex::default() }
    }

    /// Which upstreams there are now: their spans say where they are.
    pub fn introduce(&self, backends: &[BackendSettings]) {
        if let Some(exporter) = &self.exporter {
            exporter.introduce(backends);
        }
    }

    /// The trace a request with these headers belongs to, if to any.
    pub(crate) fn trace(&self, headers: &HeaderMap) -> Option<TraceContext> {
        TraceContext::begin(headers, self.exporter.as_ref().map(Exporter::sample))
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether prompts and answers are kept.
    pub(crate) fn keeps_content(&self) -> bool {
        self.log.as_ref().is_some_and(RequestLog::keeps_content)
    }

    /// Requests begin here from now on instead of at `old`.
    pub(crate) fn succeeds(&self, old: &Recorder) {
        let mut before = std::mem::take(&mut *old.before());
        before.retain(|thread| !thread.is_finished());
        before.extend(old.log.as_ref().and_then(RequestLog::thread));
        before.extend(old.exporter.as_ref().and_then(Exporter::thread));
        self.before().extend(before);
    }

    fn before(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        // Each change is complete in itself, so what a panicking thread left is sound.
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes out everything that is waiting, at those before it, too, and lets the file go; waits no longer than `most`
    /// for each.
    pub fn stop(&self, most: Duration) {
        if let Some(log) = &self.log {
            log.stop(most);
        }
        if let Some(exporter) = &self.exporter {
            exporter.stop(most);
        }
        let before = std::mem::take(&mut *self.before());
        waiting::wait_for(&before, Instant::now() + most);
    }

    /// The end of a request; prompt and answer where they are kept.
    fn closed(&self, closed: Closed, said: Option<Said>) {
        self.metrics.closed(&closed);
        let closed = Arc::new(closed);
        if let Some(exporter) = &self.exporter {
            exporter.take(&closed);
        }
        if let Some(log) = &self.log {
            log.take(closed, said);
        }
    }
}
