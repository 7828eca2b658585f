//! When what lets people in comes to its end: the certificate, and each tenant's last key. Labels are tenants' names. Must
//! never show what never ends, nor what is not there: an alarm would never stop.

use prometheus::IntGaugeVec;

use super::families::Registry;
use super::{Metrics, add, gauge};

pub(super) struct EndMetrics {
    certificate: IntGaugeVec,
    keys: IntGaugeVec,
}

impl EndMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = |name: &str, help: &str, labels: &[&str]| add(registry, gauge(name, help, labels)?);
        Ok(EndMetrics {
            certificate: family(
                "weir_certificate_end_timestamp_seconds",
                "When the certificate of `[server.tls]` ends, in seconds since 1970.",
                &[],
            )?,
            keys: family(
                "weir_tenant_keys_end_timestamp_seconds",
                "When the tenant's last key ends, in seconds since 1970; nothing if one is good for ever.",
                &["tenant"],
            )?,
        })
    }
}

impl Metrics {
    /// When the certificate in force ends, and each tenant's last key, in seconds since 1970.
    pub fn ends<'a>(&self, certificate: Option<u64>, keys: impl Iterator<Item = (&'a str, u64)>) {
        let seconds = |end: u64| i64::try_from(end).unwrap_or(i64::MAX);
        let EndMetrics { certificate: of_certificate, keys: of_keys } = &self.ends;
        of_certificate.reset();
        of_keys.reset();
        if let Some(end) = certificate {
            of_certificate.with_label_values::<&str>(&[]).set(seconds(end));
        }
        for (tenant, end) in keys {
            of_keys.with_label_values(&[tenant]).set(seconds(end));
        }
    }
}
