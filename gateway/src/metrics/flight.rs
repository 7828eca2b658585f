//! The guards. A [`Flight`] lives as long as a request: first in the future that looks for an answer, then in the
//! event stream, and whoever drops it, a client that leaves included, makes its record know how it ended.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use prometheus::IntGauge;
use tokio::time::Instant;
use weir_protocol::{EngineError, Event};

use super::{Metrics, NONE};
use crate::record::attempts::{AttemptNote, Purpose, Skipped};
use crate::record::closed::{CANCELLED, FINISHED};
use crate::record::{AnswerSaid, Landing, Record, Waiting};
use crate::tenants::Charge;
use crate::traces::TraceContext;

/// One request, from its plan to its end.
pub struct Flight {
    metrics: Arc<Metrics>,
    record: Record,
    asked_at: Instant,
    landing: Landing,
    /// The attempt whose answer goes to the caller.
    answering: Option<Arc<AttemptNote>>,
    /// Settled when the flight ends.
    charge: Option<Charge>,
    /// The request's span, for the log line at its end: by then nobody is inside it.
    span: tracing::Span,
}

impl Flight {
    /// A request sets out. Until told otherwise it will count as cancelled.
    pub(crate) fn start(record: Record, route: &str, charge: Option<Charge>) -> Self {
        let recorder = record.recorder();
        let answer = recorder.keeps_content().then(AnswerSaid::default);
        let landing = Landing { outcome: CANCELLED, route: Some(route.to_owned()), answer, ..Landing::default() };
        Flight {
            metrics: Arc::clone(recorder.metrics()),
            asked_at: record.asked_at(),
            record,
            landing,
            answering: None,
            charge,
            span: tracing::Span::current(),
        }
    }

    /// An attempt at `backend` begins; the guard lives as long as the attempt.
    pub(crate) fn attempt(&mut self, backend: &str, purpose: Purpose) -> AttemptGuard {
        self.landing.backend = Some(backend.to_owned());
        let gauge = self.metrics.in_flight.with_label_values(&[backend]);
        gauge.inc();
        let trace = self.record.trace();
        let span_id = trace.and_then(TraceContext::attempt_span);
        let trace = trace.map(|trace| trace.headers(span_id)).unwrap_or_default();
        if purpose == Purpose::Retry {
            self.metrics.attempts.retries.with_label_values(&[backend]).inc();
        }
        let note = Arc::new(AttemptNote::new(backend, purpose, span_id));
        self.landing.attempts.push(Arc::clone(&note));
        AttemptGuard { gauge, note, trace, waiting: Some(self.record.waiting()) }
    }

    /// A pause before an attempt, until the guard is dropped.
    pub(crate) fn pause(&self) -> Waiting {
        self.record.waiting()
    }

    /// The attempt at `from` failed before its first content and `to` is next.
    pub fn fell_back(&self, from: &str, to: &str, cause: &EngineError) {
        self.metrics.fallbacks.with_label_values(&[from, to, cause.kind()]).inc();
    }

    /// This attempt has something to show: those beside it are given up.
    pub(crate) fn chosen(&self, attempt: &AttemptGuard) {
        for other in self.landing.attempts.iter().filter(|other| !Arc::ptr_eq(other, &attempt.note)) {
            // Those that failed have their end already.
            other.end("lost");
        }
    }

    /// Of the attempts, this one's is the answer; its first content came at `first_content`.
    pub(crate) fn answered_by(&mut self, note: Arc<AttemptNote>, first_content: Option<Instant>) {
        self.landing.backend = Some(note.backend.clone());
        self.answering = Some(note);
        if let Some(at) = first_content.filter(|_| self.landing.first_content.is_none()) {
            self.first_content(at);
        }
    }

    fn first_content(&mut self, at: Instant) {
        self.landing.first_content = Some(at);
        if let Some(note) = &self.answering {
            let _ = note.first_content.set(at);
        }
        let backend = self.landing.backend.as_deref().unwrap_or(NONE);
        let waited = at.saturating_duration_since(self.asked_at).as_secs_f64();
        self.metrics.first_token.with_label_values(&[backend]).observe(waited);
    }

    /// Whether an attempt was made at `backend` already.
    pub(crate) fn has_asked(&self, backend: &str) -> bool {
        self.landing.attempts.iter().any(|note| note.backend == backend)
    }

    /// `from` was cut, and `to` goes on with its answer.
    pub fn continued(&self, from: &str, to: &str, cause: &EngineError) {
        self.metrics.attempts.continued.with_label_values(&[from, to, cause.kind()]).inc();
    }

    /// `backend` was not asked.
    pub fn skipped(&mut self, backend: &str, cause: &'static str) {
        self.metrics.attempts.skipped.with_label_values(&[backend, cause]).inc();
        self.landing.skipped.push(Skipped { backend: backend.to_owned(), cause });
    }

    /// What became of a second attempt beside the first.
    pub fn hedged(&self, backend: &str, outcome: &'static str) {
        self.metrics.attempts.hedges.with_label_values(&[backend, outcome]).inc();
    }

    /// An event goes to the caller.
    pub fn saw(&mut self, event: &Event) {
        if self.landing.first_content.is_none() && event.is_content() {
            // The first, where a draft came before.
            self.first_content(Instant::now());
        }
        let backend = self.landing.backend.as_deref().unwrap_or(NONE);
        if let Some(charge) = &mut self.charge {
            charge.saw(event, backend);
        }
        if let Some(answer) = &mut self.landing.answer {
            answer.saw(event);
        }
        match event {
            Event::Started { model } => self.landing.answered_model = Some(model.clone()),
            Event::Usage(usage) => {
                self.metrics.used(backend, usage);
                self.landing.usage = Some(usage.clone());
            }
            Event::Finished { reason } => {
                self.landing.reason = Some(*reason);
                self.landing.outcome = FINISHED;
                if let Some(note) = &self.answering {
                    note.end(FINISHED);
                }
            }
            _ => {}
        }
    }

    /// The request ends in an error.
    pub fn failed(&mut self, error: &EngineError) {
        self.landing.outcome = error.kind();
        if let Some(note) = &self.answering {
            note.failed(error);
        }
        if let Some(charge) = &mut self.charge {
            charge.failed();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.landing.outcome = "internal";
        }
        // Of the others it is known what became of them.
        let is_answer = |note: &Arc<AttemptNote>| self.answering.as_ref().is_some_and(|own| Arc::ptr_eq(own, note));
        for note in self.landing.attempts.iter().filter(|note| note.purpose == Purpose::Hedge && !is_answer(note)) {
            if note.ended().outcome == CANCELLED {
                self.hedged(&note.backend, CANCELLED);
            }
        }
        for note in self.landing.attempts.iter().filter(|note| !is_answer(note)) {
            let Some(usage) = note.usage.get() else { continue };
            self.metrics.used(&note.backend, usage);
            if let Some(charge) = &mut self.charge {
                charge.spent(&note.backend, usage);
            }
        }
        self.landing.money = self.charge.as_ref().and_then(Charge::money);
        let (landing, ms) = (&self.landing, self.asked_at.elapsed());
        let backend = landing.backend.as_deref().unwrap_or(NONE);
        self.metrics.duration.with_label_values(&[backend]).observe(ms.as_secs_f64());
        let (route, outcome, ms) = (landing.route.as_deref().unwrap_or(NONE), landing.outcome, ms.as_millis());
        self.span.in_scope(|| tracing::info!(route, backend, outcome, %ms, "ended"));
        self.record.landed(std::mem::take(&mut self.landing));
    }
}

/// One attempt under way; the gauge is the number of these.
pub struct AttemptGuard {
    gauge: IntGauge,
    note: Arc<AttemptNote>,
    /// What tells the backend to which trace it belongs.
    pub(crate) trace: Vec<(HeaderName, HeaderValue)>,
    /// While it is waited for: until its first content, or all of an answer that is given whole.
    waiting: Option<Waiting>,
}

impl AttemptGuard {
    /// It failed before anything of it was given.
    pub(crate) fn failed(&mut self, error: &EngineError) {
        self.waiting = None;
        self.note.failed(error);
    }

    /// What it has is the answer, or may be: it is not waited for any more.
    pub(crate) fn answers(&mut self) -> Arc<AttemptNote> {
        self.waiting = None;
        Arc::clone(&self.note)
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        self.gauge.dec();
        self.note.end(CANCELLED);
    }
}
