//! What is counted of policies beside the live one. Labels are words of ours and names from the policies.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge};

use super::families::Registry;
use super::{Metrics, add, counter};

/// Ratios of the shadow's figure to the live one's.
const RATIOS: [f64; 11] = [0.1, 0.2, 0.33, 0.5, 0.75, 1.0, 1.33, 2.0, 3.0, 5.0, 10.0];

/// See the module.
pub(super) struct PolicyMetrics {
    decisions: IntCounterVec,
    sent: IntCounterVec,
    tokens: IntCounterVec,
    ratios: HistogramVec,
    canary: IntCounterVec,
    pub(super) state: IntGauge,
    rolled_back: IntCounterVec,
}

impl PolicyMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let ratios =
            HistogramOpts::new("weir_shadow_ratio", "Figures of the shadow's answers to those of the live ones.");
        Ok(PolicyMetrics {
            decisions: add(
                registry,
                counter(
                    "weir_shadow_decisions_total",
                    "Decisions of the shadow policy beside the live one: `same`, another `rule`, another `backend`.",
                    &["live", "shadow", "difference"],
                )?,
            )?,
            sent: add(
                registry,
                counter(
                    "weir_shadow_sent_total",
                    "Requests of the shadow's sample: `valid`, `broke_form`, `failed`, `too_slow`; not sent: `no_room` (two are \
                     under way), `skipped` (the backend is left alone).",
                    &["outcome"],
                )?,
            )?,
            tokens: add(
                registry,
                counter(
                    "weir_shadow_tokens_total",
                    "Tokens in and out of the shadow's sample; `weir_tokens_total` has none of them, and no tenant pays for them.",
                    &["backend", "direction"],
                )?,
            )?,
            ratios: add(registry, HistogramVec::new(ratios.buckets(RATIOS.to_vec()), &["what"])?)?,
            canary: add(
                registry,
                counter("weir_canary_requests_total", "Requests while there is a canary.", &["arm", "outcome"])?,
            )?,
            state: add(
                registry,
                IntGauge::new("weir_canary_state", "0: none, 1: decides for its share, 2: rolled back.")?,
            )?,
            rolled_back: add(
                registry,
                counter("weir_canary_rolled_back_total", "Canaries given up, by guard rail.", &["by"])?,
            )?,
        })
    }
}

impl Metrics {
    /// The shadow decided beside the live policy.
    pub fn shadow_decided(&self, live: &str, shadow: &str, difference: &str) {
        self.policies.decisions.with_label_values(&[live, shadow, difference]).inc();
    }

    /// What became of a request sent for the shadow.
    pub fn shadow_sent(&self, outcome: &str) {
        self.policies.sent.with_label_values(&[outcome]).inc();
    }

    /// What a request sent for the shadow took of `backend`.
    pub fn shadow_used(&self, backend: &str, (input, output): (u64, u64)) {
        self.policies.tokens.with_label_values(&[backend, "input"]).inc_by(input);
        self.policies.tokens.with_label_values(&[backend, "output"]).inc_by(output);
    }

    /// A figure of the shadow's answer beside the live one's.
    pub fn shadow_ratio(&self, what: &str, shadow: f64, live: f64) {
        if live > 0.0 {
            self.policies.ratios.with_label_values(&[what]).observe(shadow / live);
        }
    }

    /// A request of one of the two arms is over.
    pub fn canary_saw(&self, arm: &str, failed: bool) {
        self.policies.canary.with_label_values(&[arm, if failed { "failed" } else { "finished" }]).inc();
    }

    /// The canary was given up.
    pub fn canary_rolled_back(&self, by: &str) {
        self.policies.rolled_back.with_label_values(&[by]).inc();
    }
}
