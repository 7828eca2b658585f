//! `weir route simulate --log`: the requests of a request log again, to servers as the log saw them work, and what was
//! recorded beside what is simulated. Asks no backend and opens no socket.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use serde::Serialize;
use weir_router_policies::simulate::{ComesAs, Host, Percentiles, Recorded, Replaying, Report, Servers, Summary};

use super::log::{self, Read};
use super::simulate::{Told, shown, table};
use crate::backends::expected;
use crate::config::{FileRead, Settings};

/// The processor of the built-in engines.
const OWN_PROCESSOR: &str = "gateway";
/// Largest load that is taken for meant.
const LOAD_MAX: f64 = 1e6;

/// How requests come.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(in crate::cli) enum Arrivals {
    /// At the recorded moments.
    #[default]
    Recorded,
    /// At random, at the recorded mean rate.
    Poisson,
}

/// What the operator said of the log.
pub(super) struct From {
    pub(super) log: PathBuf,
    pub(super) load: f64,
    pub(super) arrivals: Arrivals,
    pub(super) save: Option<PathBuf>,
    /// Servers in place of those measured.
    pub(super) servers: Option<PathBuf>,
}

/// The answer to `--json`.
#[derive(Serialize)]
struct Answer<'a> {
    recorded: &'a Summary,
    servers: &'a Servers,
    load: f64,
    policy: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) fn command(from: &From, told: &Told, settings: &Settings) -> Result<()> {
    let place = from.log.display().to_string();
    if !(from.load > 0.0 && from.load <= LOAD_MAX) {
        bail!("--load: {} is not a number above 0, at most {LOAD_MAX}", from.load);
    }
    let Read { lines, unread } = log::read(&from.log)?;
    let unread = unread.into_iter().map(|(why, count)| (format!("not read: {why}"), count)).collect();
    let recorded = Recorded::of(&lines, unread, &hosts(settings)).map_err(|why| anyhow!("{place}: {why}"))?;
    drop(lines);
    let mut servers = recorded.servers.clone();
    if let Some(file) = &from.save {
        let text = servers.written().map_err(|why| anyhow!("{why}"))?;
        std::fs::write(file, text).with_context(|| file.display().to_string())?;
        eprintln!("the measured servers are in {}", file.display());
    }
    if let Some(file) = &from.servers {
        let name = file.display().to_string();
        let text = FileRead::text_of(file).with_context(|| name.clone())?;
        let others = Servers::parse(&text).map_err(|why| anyhow!("{name}: {why}"))?;
        servers.replaced_by(others).map_err(|why| anyhow!("{name}: {why}"))?;
    }
    let policy = told.policy(settings, &servers.backend, &place)?;
    let how = Replaying {
        load: from.load,
        comes_as: match from.arrivals {
            Arrivals::Recorded => ComesAs::Recorded,
            Arrivals::Poisson => ComesAs::Poisson,
        },
        requests: told.requests,
        seed: told.seed.unwrap_or(1),
    };
    let report = recorded.run(&servers, &policy, &how);
    if told.json {
        let (recorded, policy) = (&recorded.summary, policy.origin());
        let answer = Answer { recorded, servers: &servers, load: from.load, policy, report: &report };
        println!("{}", serde_json::to_string_pretty(&answer).context("a report is JSON")?);
    } else {
        print!("{}{}", read(&recorded.summary, &place), table(&report, policy.origin()));
        print!("{}", beside(&recorded.summary, &report));
    }
    Ok(())
}

/// A config's backends. Built-in engines share the gateway's processor; every other has its own.
fn hosts(settings: &Settings) -> Vec<Host> {
    let facts = expected::facts(settings);
    let host = |facts: weir_router_policies::BackendFacts| {
        let engine = settings.engines.iter().find(|engine| engine.role.as_str() == facts.name);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Host {
            places: engine.map(|engine| (count(engine.max_running), count(engine.queue_limit))),
            processor: engine.map(|_| OWN_PROCESSOR.to_owned()),
            facts,
        }
    };
    facts.into_iter().map(host).collect()
}

/// What was read, what was left out, who was measured.
fn read(summary: &Summary, place: &str) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{place}: {} requests in {:.1} s ({:.3} a second), {} for a named model, {} without a whole answer",
        summary.requests, summary.seconds, summary.per_s, summary.pinned, summary.without_answer
    );
    for (why, count) in &summary.left_out {
        let _ = writeln!(out, "left out: {count} lines, {why}");
    }
    for one in &summary.backends {
        let _ = writeln!(
            out,
            "measured: {}: {} answers, {} failures, {} its queue had no room for, {} given up, {} answers without times or sizes, at most {} at once{}",
            one.name,
            one.answers,
            one.failed,
            one.shed,
            one.given_up,
            one.untold,
            one.most_at_once,
            if one.simulated { "" } else { "; too few to be simulated: nobody is sent there" }
        );
    }
    for one in &summary.processors {
        let what = one.capacity.map_or_else(
            || "nobody got slower beside others".to_owned(),
            |capacity| format!("serves {capacity:.2} at full speed, then all share"),
        );
        let _ = writeln!(out, "measured: processor of {}: {what}; at most {} at once", one.name, one.most_at_once);
    }
    out.push('\n');
    out
}

/// Recorded and simulated, and where the simulation leaves what was measured.
fn beside(summary: &Summary, report: &Report) -> String {
    let mut out = String::new();
    let rows = [("first content", summary.ttft_ms, report.all.ttft_ms), ("end", summary.total_ms, report.all.total_ms)];
    let _ = writeln!(out, "\n{:14} {:>27} {:>27} {:>8} {:>8}", "ms p50/95/99", "recorded", "simulated", "p50", "p95");
    for (what, was, is) in rows {
        let change = |of: fn(&Percentiles) -> f64| match (was, is) {
            (Some(was), Some(is)) if of(&was) > 0.0 => format!("{:+.0} %", (of(&is) / of(&was) - 1.0) * 100.0),
            _ => "-".to_owned(),
        };
        let (p50, p95) = (change(|times| times.p50), change(|times| times.p95));
        let _ = writeln!(out, "{what:14} {:>27} {:>27} {p50:>8} {p95:>8}", shown(was), shown(is));
    }
    for row in &report.backends {
        let measured = summary.backends.iter().find(|one| one.name == row.name);
        if let Some(one) = measured.filter(|one| row.most_at_once > one.most_at_once.saturating_mul(2)) {
            let _ = writeln!(
                out,
                "{}: up to {} at once here, at most {} in the log: its times beyond that are not measured",
                row.name, row.most_at_once, one.most_at_once
            );
        }
    }
    out
}
