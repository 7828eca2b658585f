//! `weir route simulate`: a scenario file under a policy, as tables or JSON. Asks no backend and opens no socket.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use weir_router_policies::Policy;
use weir_router_policies::simulate::{self, Fleet, Percentiles, Report, Scenario};

use crate::cli::policy::named;
use crate::config::{FileRead, Settings};

/// What the operator said, whatever is simulated.
pub(super) struct Told {
    pub(super) policy: Option<String>,
    pub(super) requests: Option<u64>,
    pub(super) seed: Option<u64>,
    pub(super) json: bool,
}

impl Told {
    /// The policy; complaints about backends of its rules that are not simulated are printed.
    pub(super) fn policy(&self, settings: &Settings, backends: &[Fleet], place: &str) -> Result<Policy> {
        let policy = match &self.policy {
            None => settings.policy.parse()?,
            Some(name) => named(name)?.parse()?,
        };
        let known: Vec<&str> = backends.iter().map(|one| one.name.as_str()).collect();
        for complaint in policy.check_backends(&known) {
            eprintln!("{place}: {complaint}");
        }
        Ok(policy)
    }
}

pub(super) fn command(scenario: &Path, told: &Told, settings: &Settings) -> Result<()> {
    let name = scenario.display().to_string();
    let text = FileRead::text_of(scenario).with_context(|| name.clone())?;
    let mut scenario = match Scenario::parse(&text) {
        Ok(scenario) => scenario,
        Err(why) => bail!("{name}: {why}"),
    };
    scenario.requests = told.requests.unwrap_or(scenario.requests).max(1);
    scenario.seed = told.seed.unwrap_or(scenario.seed);
    let policy = told.policy(settings, &scenario.backend, &name)?;
    let report = simulate::run(&scenario, &policy);
    if told.json {
        println!("{}", serde_json::to_string_pretty(&report).context("a report is JSON")?);
    } else {
        print!("{}", table(&report, policy.origin()));
    }
    if report.unanswered == report.requests {
        bail!("no request was answered: no backend of the scenario is one that {} asks", policy.origin());
    }
    Ok(())
}

pub(super) fn table(report: &Report, policy: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} requests in {:.1} simulated s under {policy}; {} unanswered\n",
        report.requests, report.seconds, report.unanswered
    );
    let _ = writeln!(
        out,
        "{:16} {:15} {:>10} {:>9} {:>27} {:>27}  rule",
        "kind", "family", "answered", "fallback", "first content p50/95/99 ms", "total p50/95/99 ms"
    );
    for row in report.kinds.iter().chain([&report.all]) {
        let _ = writeln!(
            out,
            "{:16} {:15} {:>10} {:>9} {:>27} {:>27}  {}",
            row.name,
            row.family,
            row.answered,
            row.fallbacks,
            shown(row.ttft_ms),
            shown(row.total_ms),
            row.rule
        );
    }
    let _ = writeln!(
        out,
        "\n{:16} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8} {:>5} {:>27} {:>12}",
        "backend",
        "replicas",
        "answered",
        "failed",
        "budget",
        "shed",
        "in work",
        "most",
        "waited p50/95/99 ms",
        "predicted ±"
    );
    for row in &report.backends {
        let error = row.prediction_error.map_or_else(|| "-".to_owned(), |(_, total)| format!("{:.0} %", total * 100.0));
        let _ = writeln!(
            out,
            "{:16} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8.2} {:>5} {:>27} {:>12}",
            row.name,
            row.replicas,
            row.answered,
            row.failed,
            row.over_budget,
            row.shed,
            row.in_work,
            row.most_at_once,
            shown(row.waited_ms),
            error
        );
    }
    for row in &report.processors {
        let _ = writeln!(out, "processor {} ({}): {:.0} % used", row.name, row.machines, row.utilisation * 100.0);
    }
    if report.cost > 0.0 {
        let _ = writeln!(out, "\ncost of all servers over that time: {:.2}", report.cost);
    }
    out
}

pub(super) fn shown(times: Option<Percentiles>) -> String {
    times.map_or_else(|| "-".to_owned(), |times| format!("{:.1}/{:.1}/{:.1}", times.p50, times.p95, times.p99))
}
