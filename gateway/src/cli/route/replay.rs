//! `weir route replay`: the decisions of a request log made again under another policy. Reads features, never prompts.

use std::path::PathBuf;

use anyhow::{Context, Result};
use weir_router_policies::replay::{Change, Prices, Replayed, replay};

use super::log::{self, Read};
use super::report;
use crate::backends::expected;
use crate::cli::policy::named;
use crate::config::Settings;

/// What the operator said.
pub(super) struct Told {
    pub(super) log: PathBuf,
    pub(super) policy: Option<String>,
    pub(super) html: Option<PathBuf>,
    pub(super) json: bool,
}

pub(super) fn command(told: &Told, settings: &Settings) -> Result<()> {
    let policy = match &told.policy {
        None => settings.policy.parse()?,
        Some(name) => named(name)?.parse()?,
    };
    let Read { lines, unread } = log::read(&told.log)?;
    for (why, count) in &unread {
        eprintln!("{}: {count} lines are not read: {why}", told.log.display());
    }
    let unread = unread.values().sum();
    let prices: Prices =
        settings.tenants.prices.iter().map(|(name, price)| (name.clone(), (price.input, price.output))).collect();
    let replayed = replay(&lines, unread, &policy, &expected::facts(settings), &prices);
    match told.json {
        true => println!("{}", serde_json::to_string_pretty(&replayed).context("a result is JSON")?),
        false => print!("{}", text(&replayed)),
    }
    if let Some(file) = &told.html {
        let page = report::html(&replayed, &told.log.display().to_string());
        std::fs::write(file, page).with_context(|| file.display().to_string())?;
        eprintln!("the report is in {}", file.display());
    }
    Ok(())
}

fn text(replayed: &Replayed) -> String {
    let mut out = vec![
        format!("policy    {}", replayed.policy),
        format!(
            "requests  {} decided again, {} move ({}); {} named their model, {} lines without a decision",
            replayed.requests,
            replayed.moved,
            share(replayed.moved, replayed.requests),
            replayed.pinned,
            replayed.unread
        ),
        String::new(),
        format!("{:>8}  {:<34} {:<34} {:<26} {:<26} money", "requests", "from", "to", "first content", "end"),
    ];
    for flow in &replayed.flows {
        let from = format!("{} → {}", flow.from.0, flow.from.1);
        let to = format!("{} → {}", flow.to.0, flow.to.1);
        let (ttft, total, money) = match &flow.change {
            None => ("stays".to_owned(), String::new(), String::new()),
            Some(change) => (shown(change.ttft_ms), shown(change.total_ms), money(change.money)),
        };
        out.push(
            format!("{:>8}  {from:<34} {to:<34} {ttft:<26} {total:<26} {money}", flow.requests).trim_end().to_owned(),
        );
    }
    out.push(String::new());
    let overall = &replayed.overall;
    out.push(format!(
        "of a request that moves, with 95 % intervals: first content {}, end {}, money {}",
        shown(overall.ttft_ms),
        shown(overall.total_ms),
        money(overall.money)
    ));
    if replayed.without_estimate > 0 {
        out.push(format!(
            "{} moved requests go where this log has measured nothing: not estimated",
            replayed.without_estimate
        ));
    }
    out.join("\n") + "\n"
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.1} %", if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 })
}

/// Milliseconds.
pub(super) fn shown(change: Option<Change>) -> String {
    change.map_or("unknown".into(), |one| format!("{:+.0} ms ({:+.0} to {:+.0})", one.mean, one.low, one.high))
}

pub(super) fn money(change: Option<Change>) -> String {
    change.map_or("unknown".into(), |one| format!("{:+.6}", one.mean))
}
