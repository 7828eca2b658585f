//! The real run and the simulated one beside each other, with the error between. Runs the simulation as an operator does.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weir_tests::binary::{self, Weir};

use super::asking::{Answered, Kind};

type Figure = fn(&Answered) -> f64;

pub(super) fn head() {
    println!(
        "{:>7} {:<10} {:<14} {:>8} {:>9} {:>7} {:>9} {:>9} {:>7}",
        "per s", "of", "ms", "real p50", "simulated", "error", "real p95", "simulated", "error"
    );
}

/// One rate: prints the lines, gives them as JSON.
pub(super) fn one(
    weir: &Weir,
    file: &Path,
    per_s: f64,
    requests: usize,
    (real, seconds): (&[Answered], f64),
    kinds: &[Kind],
) -> Result<Value> {
    let (name, requests) = (file.display().to_string(), requests.max(20_000).to_string());
    let out = binary::run(weir.folder(), &["route", "simulate", &name, "--json", "--requests", &requests])?;
    if !out.status.success() {
        bail!("weir route simulate: {}", String::from_utf8_lossy(&out.stderr));
    }
    let report: Value = serde_json::from_slice(&out.stdout).context("the report is JSON")?;
    let mut lines = Vec::new();
    let mut line = |of: &str, row: &Value, answers: &[&Answered]| {
        let figures: [(&str, Figure); 2] = [("ttft_ms", |one| one.ttft_ms), ("total_ms", |one| one.total_ms)];
        for (field, figure) in figures {
            let mut took: Vec<f64> = answers.iter().map(|one| figure(one)).collect();
            took.sort_by(f64::total_cmp);
            let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or_default();
            let pair = |share: f64, field_of: &str| {
                let (real, told) = (at(share), row[field][field_of].as_f64().unwrap_or_default());
                (real, told, if real > 0.0 { told / real - 1.0 } else { 0.0 })
            };
            let (p50, p95) = (pair(0.5, "p50"), pair(0.95, "p95"));
            println!(
                "{per_s:>7.1} {of:<10} {:<14} {:>8.2} {:>9.2} {:>+6.0}% {:>9.2} {:>9.2} {:>+6.0}%",
                if field == "ttft_ms" { "first content" } else { "end" },
                p50.0,
                p50.1,
                p50.2 * 100.0,
                p95.0,
                p95.1,
                p95.2 * 100.0
            );
            let shown = |(real, simulated, error): (f64, f64, f64)| json!({"real": real, "simulated": simulated, "error": error});
            lines.push(json!({"of": of, "what": field, "p50": shown(p50), "p95": shown(p95)}));
        }
    };
    line("all", &report["all"], &real.iter().collect::<Vec<_>>());
    for (at, kind) in kinds.iter().enumerate() {
        let row = report["kinds"].as_array().into_iter().flatten().find(|row| row["name"] == kind.name);
        let own: Vec<&Answered> = real.iter().filter(|one| one.kind == at).collect();
        line(kind.name, row.unwrap_or(&Value::Null), &own);
    }
    let mut backends = Vec::new();
    for row in report["backends"].as_array().into_iter().flatten() {
        let name = row["name"].as_str().unwrap_or_default();
        let own = real.iter().filter(|one| one.backend == name);
        let in_work = own.clone().map(|one| one.total_ms / 1000.0).sum::<f64>() / seconds;
        // Eight places, as the scenario says.
        let simulated = row["utilisation"].as_f64().unwrap_or_default() * 8.0;
        let error = if in_work > 0.0 { simulated / in_work - 1.0 } else { 0.0 };
        println!(
            "{per_s:>7.1} {name:<10} in work, on average: real {in_work:.3}, simulated {simulated:.3}, error {:+.0}%",
            error * 100.0
        );
        backends.push(json!({"name": name, "answered": own.count(), "in_work": {"real": in_work,
            "simulated": simulated, "error": error}}));
    }
    Ok(json!({"per_s": per_s, "requests": real.len(), "seconds": seconds, "lines": lines, "backends": backends}))
}
