//! What is counted about connections. Labels are the two listeners' names and words of our own.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::families::Registry;
use super::{add, counter, gauge};

pub(super) struct ConnectionFamilies {
    open: IntGaugeVec,
    refused: IntCounterVec,
    cut: IntCounterVec,
}

impl ConnectionFamilies {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let listener = &["listener"];
        Ok(ConnectionFamilies {
            open: add(registry, gauge("weir_connections", "Connections open.", listener)?)?,
            refused: add(
                registry,
                counter("weir_connections_refused_total", "Connections beyond the limit, closed.", listener)?,
            )?,
            cut: add(
                registry,
                counter(
                    "weir_connections_cut_total",
                    "Connections that were ended before their client ended them, and why.",
                    &["listener", "cause"],
                )?,
            )?,
        })
    }

    pub(super) fn of(&self, listener: &'static str) -> ConnectionMetrics {
        ConnectionMetrics {
            listener,
            open: self.open.with_label_values(&[listener]),
            refused: self.refused.with_label_values(&[listener]),
            cut: self.cut.clone(),
        }
    }
}

/// Counts one listener's connections.
#[derive(Clone)]
pub struct ConnectionMetrics {
    listener: &'static str,
    open: IntGauge,
    refused: IntCounter,
    cut: IntCounterVec,
}

impl ConnectionMetrics {
    /// A connection is open while the guard lives.
    pub fn opened(&self) -> ConnectionGuard {
        self.open.inc();
        ConnectionGuard(self.open.clone())
    }

    /// One was beyond the limit.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// One was ended by us.
    pub fn cut(&self, cause: &'static str) {
        self.cut.with_label_values(&[self.listener, cause]).inc();
    }
}

/// One open connection.
pub struct ConnectionGuard(IntGauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
