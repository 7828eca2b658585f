//! What is counted, through guards only ([`flight`]): nothing outside may raise or lower a figure by hand. Labels are
//! names from the config and words of the protocol, never anything a caller wrote.

mod attempts;
mod connections;
mod ends;
mod families;
mod flight;
mod policies;
mod process;
mod records;
mod reloads;
mod tenants;
mod totals;

pub use connections::{ConnectionGuard, ConnectionMetrics};
pub use families::{Family, reference};
pub use flight::{AttemptGuard, Flight};

use self::attempts::AttemptMetrics;
use self::connections::ConnectionFamilies;
use self::ends::EndMetrics;
use self::families::Registry;
use self::policies::PolicyMetrics;
use self::process::ProcessMetrics;
use self::records::RecordMetrics;
use self::reloads::ReloadMetrics;
use self::tenants::TenantMetrics;
use self::totals::Totals;
use std::sync::{Mutex, PoisonError};

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder, core::Collector,
};

use weir_diffusion_engine::EngineLoad;
use weir_protocol::Usage;

use crate::route::StandingView;
use weir_router_policies::latency::OwnError;

/// Label value where no backend or route was reached.
pub const NONE: &str = "none";

/// Seconds: from a nano model's millisecond to a long answer of a slow upstream.
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Tokens per forward: 1 is an AR model, 32 a whole block at once.
const PER_FORWARD: [f64; 10] = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0];

/// The registry and its families. No globals: each gateway has its own.
pub struct Metrics {
    registry: Registry,
    first_token: HistogramVec,
    duration: HistogramVec,
    tokens: IntCounterVec,
    per_forward: HistogramVec,
    steps: IntCounterVec,
    edits: IntCounterVec,
    fallbacks: IntCounterVec,
    queue_depth: IntGaugeVec,
    in_flight: IntGaugeVec,
    body_bytes: IntGauge,
    cached: IntCounterVec,
    kv_pages: IntGaugeVec,
    kv_evicted: IntCounterVec,
    attempts: AttemptMetrics,
    policies: PolicyMetrics,
    records: RecordMetrics,
    tenants: TenantMetrics,
    connections: ConnectionFamilies,
    ends: EndMetrics,
    process: ProcessMetrics,
    reloads: ReloadMetrics,
    evicted_totals: Totals,
    /// Held while a page is written: half of one moment and half of another would be no page.
    page: Mutex<()>,
}

/// What is not counted but looked at when a page is asked for.
#[derive(Default)]
pub struct Scrape<'a> {
    /// How each backend stands.
    pub standings: &'a [StandingView],
    /// How wrong predictions were lately.
    pub foresight: &'a [OwnError],
    /// What each built-in engine is busy with, by its backend's name.
    pub engines: &'a [(&'a str, EngineLoad)],
    /// What is held of requests' bodies.
    pub body_bytes: usize,
    /// Whether there is a canary (1), given up or not (2).
    pub canary: i64,
}

impl Metrics {
    /// All families, registered.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::default();
        let backend = &["backend"];
        Ok(Metrics {
            first_token: add(
                &registry,
                histogram("gen_ai_server_time_to_first_token_seconds", "Until the first content.", &SECONDS)?,
            )?,
            duration: add(
                &registry,
                histogram("gen_ai_server_request_duration_seconds", "Until the end, however it ended.", &SECONDS)?,
            )?,
            tokens: add(&registry, counter("weir_tokens_total", "Tokens in and out.", &["backend", "direction"])?)?,
            per_forward: add(
                &registry,
                histogram("weir_tokens_per_forward", "Tokens of a diffusion answer per denoise step.", &PER_FORWARD)?,
            )?,
            steps: add(&registry, counter("weir_denoise_steps_total", "Denoise steps.", backend)?)?,
            edits: add(&registry, counter("weir_edits_total", "Tokens replaced after being written.", backend)?)?,
            fallbacks: add(
                &registry,
                counter(
                    "weir_fallbacks_total",
                    "Attempts replaced before the first content.",
                    &["from", "to", "cause"],
                )?,
            )?,
            queue_depth: add(&registry, gauge("weir_queue_depth", "Requests waiting in a built-in engine.", backend)?)?,
            body_bytes: add(
                &registry,
                IntGauge::new(
                    "weir_body_bytes",
                    "Memory that request bodies in work take, by estimate, in bytes; small ones are not counted.",
                )?,
            )?,
            in_flight: add(&registry, gauge("weir_in_flight", "Attempts under way.", backend)?)?,
            cached: add(
                &registry,
                counter("weir_cached_tokens_total", "Prompt tokens whose K/V came from a cache.", backend)?,
            )?,
            kv_pages: add(
                &registry,
                gauge("weir_kv_pages", "Pages of K/V: free, or shared by prompt beginning.", &["backend", "state"])?,
            )?,
            kv_evicted: add(
                &registry,
                counter("weir_kv_evicted_pages_total", "Shared pages thrown out for running requests.", backend)?,
            )?,
            attempts: AttemptMetrics::new(&registry)?,
            policies: PolicyMetrics::new(&registry)?,
            records: RecordMetrics::new(&registry)?,
            tenants: TenantMetrics::new(&registry)?,
            connections: ConnectionFamilies::new(&registry)?,
            ends: EndMetrics::new(&registry)?,
            process: ProcessMetrics::new(&registry)?,
            reloads: ReloadMetrics::new(&registry)?,
            evicted_totals: Totals::default(),
            page: Mutex::new(()),
            registry,
        })
    }

    /// Everything that is exported, by name.
    pub fn families(&self) -> Vec<Family> {
        self.registry.all()
    }

    /// A tenant's request was not let in, by what. `none` where no tenant was known.
    pub fn denied(&self, tenant: &str, by: &str) {
        self.tenants.denied.with_label_values(&[tenant, by]).inc();
    }

    /// A question about a request that nobody makes was answered, or not.
    pub fn question(&self, what: &'static str, outcome: &'static str) {
        self.tenants.questions.with_label_values(&[what, outcome]).inc();
    }

    /// What an attempt at a backend took.
    fn used(&self, backend: &str, usage: &Usage) {
        self.tokens.with_label_values(&[backend, "input"]).inc_by(usage.prompt_tokens);
        self.tokens.with_label_values(&[backend, "output"]).inc_by(usage.completion_tokens);
        self.cached.with_label_values(&[backend]).inc_by(usage.cached_tokens);
        if let Some(stats) = &usage.diffusion {
            self.per_forward.with_label_values(&[backend]).observe(stats.tokens_per_forward());
            self.steps.with_label_values(&[backend]).inc_by(u64::from(stats.steps));
            self.edits.with_label_values(&[backend]).inc_by(u64::from(stats.edits));
        }
    }

    /// What a request of a tenant took in the end.
    pub fn tenant_took(&self, tenant: &str, tokens: u64) {
        self.tenants.requests.with_label_values(&[tenant]).inc();
        self.tenants.tokens.with_label_values(&[tenant]).inc_by(tokens);
    }

    /// The limits' store was away, and what was done about it.
    pub fn store_lost(&self, then: &'static str) {
        self.tenants.store_lost.with_label_values(&[then]).inc();
    }

    /// What counts the connections of this listener.
    pub fn connections(&self, listener: &'static str) -> ConnectionMetrics {
        self.connections.of(listener)
    }

    /// The config was read again; `is_good`: what was read is in force.
    pub fn reloaded(&self, outcome: &str, is_good: bool) {
        self.reloads.reloaded(outcome, is_good);
    }

    /// The text `GET /metrics` answers with. What has a value only at this moment is written anew for each page: a backend
    /// that is gone is on none, whichever generation of the config asks, and whatever was asked beside the change.
    pub fn render(&self, scrape: &Scrape<'_>) -> Result<String, prometheus::Error> {
        let _one_page_at_a_time = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        self.attempts.standings(scrape.standings);
        self.attempts.foresight(scrape.foresight);
        self.body_bytes.set(i64::try_from(scrape.body_bytes).unwrap_or(i64::MAX));
        self.policies.state.set(scrape.canary);
        self.queue_depth.reset();
        self.kv_pages.reset();
        for (backend, load) in scrape.engines {
            set(&self.queue_depth, &[backend], load.queued);
            set(&self.kv_pages, &[backend, "free"], load.free_pages);
            set(&self.kv_pages, &[backend, "shared"], load.shared_pages);
            self.evicted_totals.up_to(&self.kv_evicted, backend, load.evicted_pages);
        }
        self.process.look();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> Result<C, prometheus::Error> {
    registry.add(family)
}

fn counter(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn gauge(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

fn set(gauge: &IntGaugeVec, labels: &[&str], value: usize) {
    gauge.with_label_values(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Result<HistogramVec, prometheus::Error> {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &["backend"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_is_on_no_page_whoever_asked_last() {
        let metrics = Metrics::new().unwrap();
        let view = |backend: &str| StandingView {
            backend: backend.into(),
            breaker: 0,
            opened: 0,
            ejections: 0,
            healthy: true,
            budget: 1.0,
            latency_seconds: Some(0.1),
            in_flight: 0,
            drained: false,
            paused: None,
        };
        let (before, after) = ([view("old"), view("kept")], [view("kept")]);
        let engines = [("old", EngineLoad::default())];
        for _ in 0..2 {
            // A scrape that was still asked of the old backends, then one of the new.
            let scrape = Scrape { standings: &before, engines: &engines, ..Scrape::default() };
            assert!(metrics.render(&scrape).unwrap().contains("weir_backend_up{backend=\"old\"} 1"));
            let page = metrics.render(&Scrape { standings: &after, ..Scrape::default() }).unwrap();
            let gauges = ["weir_backend_up", "weir_breaker_state", "weir_extra_budget", "weir_queue_depth", "weir_kv"];
            let mut told = page.lines().filter(|line| gauges.iter().any(|gauge| line.starts_with(gauge)));
            assert!(told.all(|line| !line.contains("\"old\"") || line.contains("_total")), "{page}");
            assert!(page.contains("weir_backend_up{backend=\"kept\"} 1"));
        }
    }
}
