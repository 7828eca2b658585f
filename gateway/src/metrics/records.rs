//! What is counted about finished requests and about what is written of them.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};

use super::families::Registry;
use super::{Metrics, NONE, add, counter};
use crate::record::closed::Closed;

/// Seconds: what a gateway adds is far below what a model takes.
const OVERHEAD: [f64; 13] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
/// Seconds a token, from a fast engine's to a slow upstream's.
const PER_TOKEN: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1.0];
/// Tokens, as the conventions for generative AI want them.
const TOKENS: [f64; 12] =
    [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

pub(super) struct RecordMetrics {
    requests: IntCounterVec,
    overhead: Histogram,
    per_token: HistogramVec,
    usage: HistogramVec,
    lines: IntCounter,
    dropped: IntCounterVec,
    spans: IntCounter,
    spans_dropped: IntCounterVec,
}

impl RecordMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            add(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
        };
        let overhead = HistogramOpts::new(
            "weir_overhead_seconds",
            "What Weir added: the whole, less what backends and callers took.",
        );
        Ok(RecordMetrics {
            requests: add(
                registry,
                counter(
                    "weir_requests_total",
                    "Requests, each once, by how they ended.",
                    &["route", "backend", "outcome"],
                )?,
            )?,
            overhead: add(registry, Histogram::with_opts(overhead.buckets(OVERHEAD.to_vec()))?)?,
            per_token: histogram(
                "gen_ai_server_time_per_output_token_seconds",
                "Between two tokens of an answer, after its first content.",
                &PER_TOKEN,
                &["backend"],
            )?,
            usage: histogram(
                "gen_ai_client_token_usage",
                "Tokens of requests, by type: input or output.",
                &TOKENS,
                &["backend", "gen_ai_token_type"],
            )?,
            lines: add(registry, IntCounter::new("weir_request_log_lines_total", "Lines of the request log.")?)?,
            spans: add(registry, IntCounter::new("weir_spans_total", "Spans the trace collector has taken.")?)?,
            spans_dropped: add(
                registry,
                counter("weir_spans_dropped_total", "Spans that were lost: no room, or not taken.", &["cause"])?,
            )?,
            dropped: add(
                registry,
                counter(
                    "weir_request_log_dropped_total",
                    "Lines that were lost: no room, or not written.",
                    &["cause"],
                )?,
            )?,
        })
    }
}

impl Metrics {
    /// A request is over. The only place that counts requests.
    pub(crate) fn closed(&self, closed: &Closed) {
        let records = &self.records;
        let route = closed.route.as_deref().unwrap_or(NONE);
        let backend = closed.backend.as_deref().unwrap_or(NONE);
        records.requests.with_label_values(&[route, backend, closed.outcome]).inc();
        if let Some(overhead) = closed.overhead {
            records.overhead.observe(overhead.as_secs_f64());
        }
        let Some(usage) = &closed.usage else { return };
        let kinds = [(usage.prompt(), "input"), (Some(usage.completion_tokens), "output")];
        for (tokens, kind) in kinds.into_iter().filter_map(|(tokens, kind)| Some((tokens?, kind))) {
            records.usage.with_label_values(&[backend, kind]).observe(tokens as f64);
        }
        if let (Some(first), Some(last), 2..) = (closed.first_content, closed.answered_at(), usage.completion_tokens) {
            let seconds = last.saturating_duration_since(first).as_secs_f64();
            records.per_token.with_label_values(&[backend]).observe(seconds / (usage.completion_tokens - 1) as f64);
        }
    }

    /// Lines of the request log were written.
    pub(crate) fn lines_written(&self, lines: usize) {
        self.records.lines.inc_by(lines as u64);
    }

    /// The collector took spans.
    pub(crate) fn spans_sent(&self, spans: usize) {
        self.records.spans.inc_by(spans as u64);
    }

    /// Spans are lost.
    pub(crate) fn spans_dropped(&self, cause: &'static str, spans: usize) {
        self.records.spans_dropped.with_label_values(&[cause]).inc_by(spans as u64);
    }

    /// A line of the request log is lost.
    pub(crate) fn line_dropped(&self, cause: &'static str) {
        self.records.dropped.with_label_values(&[cause]).inc();
    }
}
