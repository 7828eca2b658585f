//! What is counted about the attempts of plans, and how the backends stand. Labels are backends' names and words of
//! our own.

use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGaugeVec, Opts};

use super::families::Registry;
use super::totals::Totals;
use super::{add, counter, gauge};
use crate::route::StandingView;
use weir_router_policies::latency::OwnError;

/// Which time was predicted.
const FORESEEN: [&str; 2] = ["first_content", "total"];

pub(super) struct AttemptMetrics {
    pub(super) retries: IntCounterVec,
    pub(super) hedges: IntCounterVec,
    pub(super) skipped: IntCounterVec,
    pub(super) continued: IntCounterVec,
    breaker: IntGaugeVec,
    opened: IntCounterVec,
    ejections: IntCounterVec,
    up: IntGaugeVec,
    budget: GaugeVec,
    latency: GaugeVec,
    opened_totals: Totals,
    ejections_totals: Totals,
    foresight_error: GaugeVec,
    foresight_inside: GaugeVec,
}

impl AttemptMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let backend = &["backend"];
        let float = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), backend);
        Ok(AttemptMetrics {
            retries: add(
                registry,
                counter("weir_retries_total", "Attempts made once more at the same backend.", backend)?,
            )?,
            hedges: add(
                registry,
                counter(
                    "weir_hedges_total",
                    "Second attempts beside a slow first one: won, lost, failed, cancelled, or not_paid.",
                    &["backend", "outcome"],
                )?,
            )?,
            skipped: add(
                registry,
                counter("weir_skipped_total", "Backends of a plan that were not asked.", &["backend", "cause"])?,
            )?,
            continued: add(
                registry,
                counter(
                    "weir_continued_total",
                    "Streams cut after they had said something, and another backend went on.",
                    &["from", "to", "cause"],
                )?,
            )?,
            breaker: add(
                registry,
                gauge("weir_breaker_state", "Circuit breaker: 0 closed, 1 half open, 2 open.", backend)?,
            )?,
            opened: add(registry, counter("weir_breaker_opened_total", "Times the breaker opened.", backend)?)?,
            ejections: add(
                registry,
                counter("weir_ejections_total", "Times a backend failed so much more than its equals.", backend)?,
            )?,
            up: add(
                registry,
                gauge("weir_backend_up", "Whether the health check is well, or there is none.", backend)?,
            )?,
            budget: add(registry, float("weir_extra_budget", "Retries and hedges the backend may cost now.")?)?,
            foresight_error: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "weir_prediction_error_ratio",
                        "Typical relative error of predicted times lately: 0.2 is a fifth too long or too short.",
                    ),
                    &["backend", "of"],
                )?,
            )?,
            foresight_inside: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "weir_prediction_inside_ratio",
                        "Share of times inside their predicted interval lately; 0.8 is meant.",
                    ),
                    &["backend", "of"],
                )?,
            )?,
            latency: add(
                registry,
                float("weir_backend_latency_seconds", "Peak EWMA of the time to the first content.")?,
            )?,
            opened_totals: Totals::default(),
            ejections_totals: Totals::default(),
        })
    }

    pub(super) fn foresight(&self, errors: &[OwnError]) {
        self.foresight_error.reset();
        self.foresight_inside.reset();
        for error in errors {
            let backend = error.backend.as_str();
            self.foresight_error.with_label_values(&[backend, FORESEEN[0]]).set(error.ttft);
            self.foresight_error.with_label_values(&[backend, FORESEEN[1]]).set(error.total);
            self.foresight_inside.with_label_values(&[backend, FORESEEN[0]]).set(error.ttft_inside);
            self.foresight_inside.with_label_values(&[backend, FORESEEN[1]]).set(error.total_inside);
        }
    }

    pub(super) fn standings(&self, views: &[StandingView]) {
        self.breaker.reset();
        self.up.reset();
        self.budget.reset();
        self.latency.reset();
        for view in views {
            let backend = view.backend.as_str();
            let float = |family: &GaugeVec, value: f64| {
                let gauge: Gauge = family.with_label_values(&[backend]);
                gauge.set(value);
            };
            self.breaker.with_label_values(&[backend]).set(view.breaker);
            self.opened_totals.up_to(&self.opened, backend, view.opened);
            self.ejections_totals.up_to(&self.ejections, backend, view.ejections);
            self.up.with_label_values(&[backend]).set(i64::from(view.healthy));
            float(&self.budget, view.budget);
            if let Some(seconds) = view.latency_seconds {
                float(&self.latency, seconds);
            }
        }
    }
}
