//! Every family that is exported: name, kind, labels, meaning. `docs/metrics.md` is written from it. Must never hold a
//! value.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::MetricType;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family {
    /// Its name on the page.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels' names.
    pub labels: Vec<String>,
    /// What it says.
    pub help: String,
}

/// A registry that remembers what was registered: the page leaves out families that have no value yet.
#[derive(Default)]
pub(super) struct Registry {
    values: prometheus::Registry,
    all: Mutex<Vec<Family>>,
}

impl Registry {
    pub(super) fn add<C: Collector + Clone + 'static>(&self, family: C) -> Result<C, prometheus::Error> {
        self.values.register(Box::new(family.clone()))?;
        let kind = match family.collect().first().map(prometheus::proto::MetricFamily::get_field_type) {
            Some(MetricType::COUNTER) => "counter",
            Some(MetricType::HISTOGRAM) => "histogram",
            _ => "gauge",
        };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(family.desc().into_iter().map(|desc| Family {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        }));
        drop(all);
        Ok(family)
    }

    /// What the page shows.
    pub(super) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.values.gather()
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<Family> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort();
        all
    }
}

/// The reference, `docs/metrics.md`.
pub fn reference(families: &[Family]) -> String {
    let mut text = String::from(
        "# Metrics\n\nWhat `GET /metrics` exports, in Prometheus' text format; written by `weir metrics-doc`. Labels hold \
         names from the\nconfig and words of Weir's own, never anything a caller wrote. Dashboards: \
         [config/grafana](../config/grafana), rules and\nalerts: [config/prometheus](../config/prometheus).\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for Family { name, kind, labels, help } in families {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
    }
    text
}
