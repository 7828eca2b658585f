//! What is counted about reloads of the config. Labels are words of our own.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntCounterVec, IntGauge};

use super::families::Registry;
use super::{add, counter};

pub(super) struct ReloadMetrics {
    total: IntCounterVec,
    successful: IntGauge,
    at: Gauge,
}

impl ReloadMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = ReloadMetrics {
            total: add(
                registry,
                counter(
                    "weir_config_reloads_total",
                    "Times the config was read again: applied, unchanged, invalid, or needs_restart.",
                    &["outcome"],
                )?,
            )?,
            successful: add(
                registry,
                IntGauge::new("weir_config_last_reload_successful", "Whether the last read config is in force.")?,
            )?,
            at: add(
                registry,
                Gauge::new(
                    "weir_config_last_reload_success_timestamp_seconds",
                    "When a config was last found good, in seconds since 1970.",
                )?,
            )?,
        };
        metrics.good();
        Ok(metrics)
    }

    pub(super) fn reloaded(&self, outcome: &str, is_good: bool) {
        self.total.with_label_values(&[outcome]).inc();
        match is_good {
            true => self.good(),
            false => self.successful.set(0),
        }
    }

    fn good(&self) {
        self.successful.set(1);
        self.at.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    }
}
