//! What is counted about tenants. Labels are tenants' names from the config and words of our own.

use prometheus::IntCounterVec;

use super::families::Registry;
use super::{add, counter};

pub(super) struct TenantMetrics {
    pub(super) requests: IntCounterVec,
    pub(super) tokens: IntCounterVec,
    pub(super) denied: IntCounterVec,
    pub(super) store_lost: IntCounterVec,
    pub(super) questions: IntCounterVec,
}

impl TenantMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = |name: &str, help: &str, labels: &[&str]| add(registry, counter(name, help, labels)?);
        Ok(TenantMetrics {
            requests: family("weir_tenant_requests_total", "Requests that were let in, at their end.", &["tenant"])?,
            tokens: family("weir_tenant_tokens_total", "Tokens in and out that were charged.", &["tenant"])?,
            denied: family("weir_denied_total", "Requests that were not let in.", &["tenant", "by"])?,
            questions: family(
                "weir_questions_total",
                "Questions about requests that nobody makes (`count_tokens`, OpenAI's `input_tokens` too; `explain`), and how they ended.",
                &["what", "outcome"],
            )?,
            store_lost: family("weir_limit_store_lost_total", "Times the limits' Redis was away.", &["then"])?,
        })
    }
}
