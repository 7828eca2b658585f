//! Recorded and simulated beside each other, with the error between. Runs the simulation as an operator does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weir_tests::binary::{self, Weir};

use super::asking::Answered;

/// Requests of a simulation that does not repeat recorded moments.
const FORETOLD: &str = "20000";

/// One load, as it was.
pub(super) struct Run {
    /// Of what the machine can do.
    pub(super) load: f64,
    pub(super) per_s: f64,
    pub(super) log: PathBuf,
    /// As the callers saw it.
    pub(super) seen: Vec<Answered>,
}

pub(super) fn head() {
    println!(
        "{:>5} {:<10} {:<14} {:>8} {:>9} {:>7} {:>9} {:>9} {:>7} {:>16}",
        "load", "from", "ms", "real p50", "simulated", "error", "real p95", "simulated", "error", "callers p50/95"
    );
}

/// The run's own log again, at its own moments.
pub(super) fn again(weir: &Weir, run: &Run) -> Result<Value> {
    let report = simulated(weir, &["--log", &run.log.display().to_string()])?;
    let lines = lines(run, "own log", &report["recorded"], &report);
    let mut backends = Vec::new();
    for row in report["backends"].as_array().into_iter().flatten() {
        let name = row["name"].as_str().unwrap_or_default();
        let count = run.seen.iter().filter(|one| one.backend == name).count();
        let text = format!("{name}: recorded {count}, simulated {}, in work {:.2}", row["answered"], row["in_work"]);
        println!("{:>5} {text}", "");
        backends
            .push(json!({"name": name, "recorded": count, "simulated": row["answered"], "in_work": row["in_work"]}));
    }
    let processors = &report["recorded"]["processors"];
    println!("{:>5} processors: {processors}", "");
    let recorded = &report["recorded"];
    Ok(json!({"load": run.load, "per_s": run.per_s, "recorded": recorded, "lines": lines, "backends": backends}))
}

/// What the log of another load says this one should be.
pub(super) fn foretold(weir: &Weir, from: &Run, run: &Run, real: &Value, save: &Path) -> Result<Value> {
    let (log, load, save) =
        (from.log.display().to_string(), (run.per_s / from.per_s).to_string(), save.display().to_string());
    let told = ["--log", &log, "--load", &load, "--arrivals", "poisson", "--requests", FORETOLD, "--save", &save];
    let report = simulated(weir, &told)?;
    let name = format!("log of {:.0}", from.load * 100.0);
    Ok(json!({"load": run.load, "from": from.load, "lines": lines(run, &name, &real["recorded"], &report)}))
}

fn simulated(weir: &Weir, told: &[&str]) -> Result<Value> {
    let config = ["--config", "weir.toml", "--json"];
    let out = binary::run(weir.folder(), &[["route", "simulate"].as_slice(), told, config.as_slice()].concat())?;
    if !out.status.success() {
        bail!("weir route simulate: {}", String::from_utf8_lossy(&out.stderr));
    }
    serde_json::from_slice(&out.stdout).context("the report is JSON")
}

fn lines(run: &Run, from: &str, recorded: &Value, report: &Value) -> Vec<Value> {
    type Figure = fn(&Answered) -> f64;
    let figures: [(&str, &str, Figure); 2] =
        [("ttft_ms", "first content", |one| one.ttft_ms), ("total_ms", "end", |one| one.total_ms)];
    let line = |(field, what, figure): (&str, &str, Figure)| {
        let mut took: Vec<f64> = run.seen.iter().map(figure).collect();
        took.sort_by(f64::total_cmp);
        let callers = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or_default();
        let pair = |of: &str| {
            let figure = |report: &Value| report[field][of].as_f64().unwrap_or_default();
            let (real, told) = (figure(recorded), figure(&report["all"]));
            (real, told, if real > 0.0 { told / real - 1.0 } else { 0.0 })
        };
        let (p50, p95) = (pair("p50"), pair("p95"));
        println!(
            "{:>4.0}% {from:<10} {what:<14} {:>8.2} {:>9.2} {:>+6.0}% {:>9.2} {:>9.2} {:>+6.0}% {:>8.2}/{:.2}",
            run.load * 100.0,
            p50.0,
            p50.1,
            p50.2 * 100.0,
            p95.0,
            p95.1,
            p95.2 * 100.0,
            callers(0.5),
            callers(0.95)
        );
        let shown =
            |(real, simulated, error): (f64, f64, f64)| json!({"real": real, "simulated": simulated, "error": error});
        json!({"what": what, "p50": shown(p50), "p95": shown(p95), "callers": [callers(0.5), callers(0.95)]})
    };
    figures.into_iter().map(line).collect()
}
