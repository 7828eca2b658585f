//! What came of a simulation. Must never hold a figure for which nothing was seen.

use serde::Serialize;

/// Steps of a logarithm: values within a bucket differ by two in a hundred.
const STEP: f64 = 0.02;
/// Smallest and largest milliseconds told apart.
const LEAST_MS: f64 = 0.001;
const BUCKETS: usize = 1300;

/// Times, counted by size: exact to two in a hundred, however many there are.
#[derive(Debug, Clone)]
pub(super) struct Times {
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Times {
    pub(super) fn new() -> Self {
        Times { buckets: vec![0; BUCKETS], count: 0, sum: 0.0 }
    }

    pub(super) fn seen(&mut self, ms: f64) {
        let bucket = ((ms.max(LEAST_MS) / LEAST_MS).ln() / STEP) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.count += 1;
        self.sum += ms;
    }

    /// `None` where nothing was seen.
    pub(super) fn told(&self) -> Option<Percentiles> {
        if self.count == 0 {
            return None;
        }
        let at = |share: f64| {
            let place = ((self.count as f64 * share).ceil() as u64).max(1);
            let mut below = 0;
            let bucket = self.buckets.iter().position(|count| {
                below += count;
                below >= place
            });
            LEAST_MS * ((bucket.unwrap_or(BUCKETS - 1) as f64 + 0.5) * STEP).exp()
        };
        Some(Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), mean: self.sum / self.count as f64 })
    }
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are below.
    pub p50: f64,
    /// Nineteen of twenty are.
    pub p95: f64,
    /// Ninety-nine of a hundred are.
    pub p99: f64,
    /// The mean.
    pub mean: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Requests that arrived.
    pub requests: u64,
    /// Requests that no backend answered.
    pub unanswered: u64,
    /// Simulated seconds until the last request was answered, or by nobody.
    pub seconds: f64,
    /// All requests together.
    pub all: Row,
    /// By kind of request.
    pub kinds: Vec<Row>,
    /// By backend.
    pub backends: Vec<BackendRow>,
    /// By processor.
    pub processors: Vec<ProcessorRow>,
    /// Money for all servers over that time.
    pub cost: f64,
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// The family it was taken for.
    pub family: String,
    /// The rule that decided last.
    pub rule: String,
    /// Answers.
    pub answered: u64,
    /// Requests that no backend answered.
    pub unanswered: u64,
    /// Attempts replaced by the plan's next.
    pub fallbacks: u64,
    /// Until the first content.
    pub ttft_ms: Option<Percentiles>,
    /// Until the end.
    pub total_ms: Option<Percentiles>,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackendRow {
    /// Its name.
    pub name: String,
    /// Servers.
    pub replicas: usize,
    /// Answers.
    pub answered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts given up when the plan's time was over.
    pub over_budget: u64,
    /// Attempts not taken: every place and the queue were full.
    pub shed: u64,
    /// Mean share of its places that were in use.
    pub utilisation: f64,
    /// Requests in work on all its servers, on average.
    pub in_work: f64,
    /// Most requests that were at one server at once, in work or waiting.
    pub most_at_once: u32,
    /// Milliseconds waited for a place.
    pub waited_ms: Option<Percentiles>,
    /// How far off the latency model's predictions were, as a typical relative error: first content, end.
    pub prediction_error: Option<(f64, f64)>,
}

/// One processor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessorRow {
    /// Its name.
    pub name: String,
    /// How many there are.
    pub machines: usize,
    /// Mean share of their capacity that was in use.
    pub utilisation: f64,
}
