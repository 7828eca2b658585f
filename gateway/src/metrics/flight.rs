//! The guards. A [`Flight`] lives as long as a request: first in the future that looks for an answer, then in the
//! event stream, and whoever drops it, a client that leaves included, makes it count exactly once.

use std::sync::Arc;

use prometheus::IntGauge;
use tokio::time::Instant;
use weir_protocol::{EngineError, Event};

use super::{Metrics, NONE};
use crate::tenants::Charge;

/// One request, from its plan to its end.
pub struct Flight {
    metrics: Arc<Metrics>,
    started: Instant,
    route: String,
    backend: Option<String>,
    saw_content: bool,
    outcome: &'static str,
    /// Settled when the flight ends.
    charge: Option<Charge>,
    /// The request's span, for the log line at its end: by then nobody is inside it.
    span: tracing::Span,
}

impl Flight {
    /// A request sets out. Until told otherwise it will count as cancelled.
    pub fn start(metrics: &Arc<Metrics>, route: &str, charge: Option<Charge>) -> Self {
        Flight {
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            route: route.to_owned(),
            backend: None,
            saw_content: false,
            outcome: "cancelled",
            charge,
            span: tracing::Span::current(),
        }
    }

    /// An attempt at `backend` begins; the guard lives as long as the attempt.
    pub fn attempt(&mut self, backend: &str) -> AttemptGuard {
        self.backend = Some(backend.to_owned());
        let gauge = self.metrics.in_flight.with_label_values(&[backend]);
        gauge.inc();
        AttemptGuard { gauge }
    }

    /// The attempt at `from` failed before its first content and `to` is next.
    pub fn fell_back(&self, from: &str, to: &str, cause: &EngineError) {
        self.metrics.fallbacks.with_label_values(&[from, to, cause.kind()]).inc();
    }

    /// Of the attempts, this backend's is the answer; its first content came at `first_content`.
    pub fn answered_by(&mut self, backend: &str, first_content: Option<Instant>) {
        self.backend = Some(backend.to_owned());
        if let Some(at) = first_content {
            self.first_content(at);
        }
    }

    fn first_content(&mut self, at: Instant) {
        if !self.saw_content {
            self.saw_content = true;
            let backend = self.backend.as_deref().unwrap_or(NONE);
            let waited = at.saturating_duration_since(self.started).as_secs_f64();
            self.metrics.first_token.with_label_values(&[backend]).observe(waited);
        }
    }

    /// An attempt is made once more at the same backend.
    pub fn retried(&self, backend: &str) {
        self.metrics.attempts.retries.with_label_values(&[backend]).inc();
    }

    /// `backend` was not asked.
    pub fn skipped(&self, backend: &str, cause: &'static str) {
        self.metrics.attempts.skipped.with_label_values(&[backend, cause]).inc();
    }

    /// What became of a second attempt beside the first.
    pub fn hedged(&self, backend: &str, outcome: &'static str) {
        self.metrics.attempts.hedges.with_label_values(&[backend, outcome]).inc();
    }

    /// An event goes to the caller.
    pub fn saw(&mut self, event: &Event) {
        if event.is_content() {
            // The first, where a draft came before.
            self.first_content(Instant::now());
        }
        let backend = self.backend.as_deref().unwrap_or(NONE);
        if let Some(charge) = &mut self.charge {
            charge.saw(event, backend);
        }
        match event {
            Event::Usage(usage) => {
                self.metrics.tokens.with_label_values(&[backend, "input"]).inc_by(usage.prompt_tokens);
                self.metrics.tokens.with_label_values(&[backend, "output"]).inc_by(usage.completion_tokens);
                self.metrics.cached.with_label_values(&[backend]).inc_by(usage.cached_tokens);
                if let Some(stats) = &usage.diffusion {
                    self.metrics.per_forward.with_label_values(&[backend]).observe(stats.tokens_per_forward());
                    self.metrics.steps.with_label_values(&[backend]).inc_by(u64::from(stats.steps));
                    self.metrics.edits.with_label_values(&[backend]).inc_by(u64::from(stats.edits));
                }
            }
            Event::Finished { .. } => self.outcome = "finished",
            _ => {}
        }
    }

    /// The request ends in an error.
    pub fn failed(&mut self, error: &EngineError) {
        self.outcome = error.kind();
        if let Some(charge) = &mut self.charge {
            charge.failed();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let backend = self.backend.as_deref().unwrap_or(NONE);
        self.metrics.requests.with_label_values(&[&self.route, backend, self.outcome]).inc();
        let elapsed = self.started.elapsed();
        self.metrics.duration.with_label_values(&[backend]).observe(elapsed.as_secs_f64());
        let (route, outcome, ms) = (self.route.as_str(), self.outcome, elapsed.as_millis());
        self.span.in_scope(|| tracing::info!(route, backend, outcome, %ms, "ended"));
    }
}

/// One attempt under way; the gauge is the number of these.
pub struct AttemptGuard {
    gauge: IntGauge,
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
