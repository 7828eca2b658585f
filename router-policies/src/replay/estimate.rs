//! What a backend would have taken for a recorded request: what was predicted for it then, else what the log shows the
//! backend take for requests of about the same size. Must never answer for a backend it has not seen.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Logged;
use crate::question::Interval;

/// Fewer measurements than this say nothing.
const LEAST: usize = 5;
/// Half the width of a 95 % interval, in standard errors.
const WIDTH: f64 = 1.96;

/// An expected value with the variance of that expectation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Known {
    pub(super) mean: f64,
    variance: f64,
}

impl Known {
    pub(super) fn exactly(mean: f64) -> Self {
        Known { mean, variance: 0.0 }
    }

    /// A prediction's interval is taken for one of 90 %.
    fn predicted(interval: Interval) -> Option<Self> {
        let spread = (interval.high_ms - interval.low_ms) / 3.29;
        let fine = interval.expected_ms.is_finite() && spread.is_finite();
        fine.then_some(Known { mean: interval.expected_ms, variance: spread * spread })
    }
}

/// A mean change with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Change {
    /// Expected.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// From how many requests.
    pub requests: u64,
}

impl Change {
    /// From pairs of what was and what is expected.
    pub(super) fn of(pairs: impl Iterator<Item = (f64, Known)>) -> Option<Change> {
        let pairs: Vec<(f64, f64)> = pairs.map(|(was, known)| (known.mean - was, known.variance)).collect();
        if pairs.is_empty() {
            return None;
        }
        let count = pairs.len() as f64;
        let mean = pairs.iter().map(|(change, _)| change).sum::<f64>() / count;
        let spread = pairs.iter().map(|(change, _)| (change - mean) * (change - mean)).sum::<f64>();
        let among = spread / (count - 1.0).max(1.0) / count;
        // Expectations from one group of measurements err together: their variance does not shrink with the count.
        let within = pairs.iter().map(|(_, variance)| variance).sum::<f64>() / count;
        let error = WIDTH * (among + within).sqrt();
        Some(Change { mean, low: mean - error, high: mean + error, requests: pairs.len() as u64 })
    }
}

/// Measurements of a log, by backend and size.
pub(super) struct Estimates {
    ttft: BTreeMap<(String, Option<u32>), Vec<f64>>,
    total: BTreeMap<(String, Option<u32>), Vec<f64>>,
}

/// Requests whose prompts differ by less than a factor of four.
fn size(logged: &Logged) -> Option<u32> {
    let tokens = logged.plan.as_ref()?.features.prompt_tokens_estimate;
    Some(tokens.max(1).ilog2() / 2)
}

impl Estimates {
    /// From the finished requests of a log.
    pub(super) fn of(lines: &[Logged]) -> Self {
        let mut out = Estimates { ttft: BTreeMap::new(), total: BTreeMap::new() };
        for logged in lines.iter().filter(|logged| logged.outcome == "finished") {
            let Some(backend) = &logged.backend else { continue };
            for (table, value) in [(&mut out.ttft, logged.ttft_ms), (&mut out.total, logged.total_ms)] {
                let Some(value) = value.filter(|value| value.is_finite()) else { continue };
                for size in [size(logged), None] {
                    table.entry((backend.clone(), size)).or_default().push(value);
                }
            }
        }
        out
    }

    /// Until the first content.
    pub(super) fn ttft(&self, logged: &Logged, backend: &str) -> Option<Known> {
        let predicted = predicted(logged, backend).and_then(|(ttft, _)| Known::predicted(ttft));
        predicted.or_else(|| measured(&self.ttft, logged, backend))
    }

    /// Until the end.
    pub(super) fn total(&self, logged: &Logged, backend: &str) -> Option<Known> {
        let predicted = predicted(logged, backend).and_then(|(_, total)| Known::predicted(total));
        predicted.or_else(|| measured(&self.total, logged, backend))
    }
}

fn predicted(logged: &Logged, backend: &str) -> Option<(Interval, Interval)> {
    let all = &logged.plan.as_ref()?.predicted;
    all.iter().find(|one| one.backend == backend).map(|one| (one.ttft, one.total))
}

fn measured(table: &BTreeMap<(String, Option<u32>), Vec<f64>>, logged: &Logged, backend: &str) -> Option<Known> {
    let enough = |size| table.get(&(backend.to_owned(), size)).filter(|values| values.len() >= LEAST);
    let values = enough(size(logged)).or_else(|| enough(None))?;
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let spread = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / (count - 1.0);
    Some(Known { mean, variance: spread / count })
}
