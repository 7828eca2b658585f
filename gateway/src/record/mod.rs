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
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use closed::Closed;
pub(crate) use content::AnswerSaid;
pub(crate) use open::{Landing, Waiting};
pub use open::{Outcome, Record};
use writer::RequestLog;

use crate::config::telemetry::RequestLogSettings;
use crate::metrics::Metrics;

/// Where the records of a process end up.
pub struct Recorder {
    metrics: Arc<Metrics>,
    log: Option<RequestLog>,
}

impl Recorder {
    /// Counts, and writes what the operator wants written.
    ///
    /// # Errors
    /// The log's file cannot be opened.
    pub fn start(settings: Option<&RequestLogSettings>, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let log = settings.map(|settings| RequestLog::start(settings, Arc::clone(&metrics))).transpose()?;
        Ok(Recorder { metrics, log })
    }

    /// Only counts.
    pub fn counting(metrics: Arc<Metrics>) -> Self {
        Recorder { metrics, log: None }
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether prompts and answers are kept.
    pub(crate) fn keeps_content(&self) -> bool {
        self.log.as_ref().is_some_and(RequestLog::keeps_content)
    }

    /// Writes out everything that is waiting and lets the file go; waits no longer than `most`.
    pub fn stop(&self, most: Duration) {
        if let Some(log) = &self.log {
            log.stop(most);
        }
    }

    /// The end of a request.
    fn closed(&self, closed: Closed) {
        self.metrics.closed(&closed);
        if let Some(log) = &self.log {
            log.take(closed);
        }
    }
}
