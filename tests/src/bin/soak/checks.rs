//! The audit: three books (the callers', the metrics', the request log's) that must agree to the last request, and whatever
//! must be gone when nobody asks any more.

use std::collections::HashSet;

use anyhow::{Context, Result};
use weir_tests::asking::{metrics, metrics_until};
use weir_tests::request_log::ids;
use weir_tests::wait::until;

use super::house::House;
use super::ledger::{Books, Ledger};
use super::memory::Memory;
use super::pace::Pace;

/// Most that resident memory may grow after the warming up.
const GROWTH_MAX: f64 = 0.05;
/// Least share of the requests that nothing stands against, in percent: a gateway that only refuses is not soaked.
const SERVED_MIN: f64 = 90.0;
/// Gauges that count what is under way.
const MUST_BE_ZERO: [&str; 3] = ["weir_in_flight", "weir_queue_depth", "weir_body_bytes"];

/// Prints what came out; whether all of it is as it must be.
pub(crate) async fn judge(
    house: House,
    ledger: &Ledger,
    (memory, pace): (&Memory, &Pace),
    smoke: bool,
) -> Result<bool> {
    let books = ledger.books();
    let asked = books.ids.len();
    let mut table = Table::default();
    println!("answers as callers saw them:");
    for (how, count) in &books.endings {
        println!("  {count:>8}  {how}");
    }
    // A moment may pass between a caller's end and the gateway's: a body is dropped after its last byte was read.
    let settled = metrics_until(&house.weir, "all are counted", |page| {
        page.sum("weir_requests_total", &[]) >= asked as f64 && page.sum("weir_in_flight", &[]) == 0.0
    });
    if let Err(error) = settled.await {
        println!("not settled: {error:#}");
    }
    let enough = || async { ids(&house.log_file()).ok().filter(|logged| logged.len() >= asked) };
    let logged = match until("all are logged", enough).await {
        Ok(logged) => logged,
        Err(_) => ids(&house.log_file())?,
    };
    let page = metrics(&house.weir).await.context("the metrics at the end")?;
    table.row("requests sent", asked, "", true);
    let (served, sound) = pace.served();
    let share = served as f64 * 100.0 / sound.max(1) as f64;
    table.row("sound requests served", format!("{served} of {sound}, {share:.1} %"), "≥ 90 %", share >= SERVED_MIN);
    let counted = page.sum("weir_requests_total", &[]);
    table.row("outcomes counted", counted, "= sent", counted == asked as f64);
    table.row("lines of the request log", logged.len(), "= sent", logged.len() == asked);
    let differing = differing(&books, &logged);
    table.row("ids that differ", differing, "0", differing == 0);
    // A sum of no samples is minus zero.
    let lost = page.sum("weir_request_log_dropped_total", &[]) + 0.0;
    table.row("lines lost", lost, "0", lost == 0.0);
    let untold = books.endings.get("UNTOLD").copied().unwrap_or_default();
    table.row("answers without an end", untold, "0", untold == 0);
    for name in MUST_BE_ZERO {
        let left = page.sum(name, &[]);
        table.row(name, left, "0", left == 0.0);
    }
    let closed = until("the upstream's requests have ended", || async { (house.open_upstream() == 0).then_some(()) });
    let open = if closed.await.is_ok() { 0 } else { house.open_upstream() };
    table.row("upstream requests still open", open, "0", open == 0);
    let asks = house.upstream.seen().len();
    table.row("upstream requests", asks, "", true);
    table.row("reloads", house.reloaded, "> 0", house.reloaded > 0);
    table.row("redis restarted", house.redis_restarted, "", true);
    let lost_store = page.sum("weir_limit_store_lost_total", &[]) + 0.0;
    table.row("decisions without redis", lost_store, "", true);
    let overhead = page.sum("weir_overhead_seconds_sum", &[]) / page.sum("weir_overhead_seconds_count", &[]).max(1.0);
    table.row("mean overhead ms", format!("{:.3}", overhead * 1e3), "", true);
    if let Some([start, _, early, middle, _, late]) = memory.fifths() {
        let shown = format!("{start:.1}, {middle:.1}, {late:.1} MiB");
        table.row("memory at start, middle, end", shown, "", true);
        let growth = late / early.max(1.0) - 1.0;
        let wanted = if smoke { "not judged" } else { "≤ 5 %" };
        let shown = format!("{early:.1} → {late:.1} MiB ({:+.1} %), peak {:.1}", growth * 100.0, memory.peak());
        table.row("resident memory", shown, wanted, smoke || growth <= GROWTH_MAX);
    }
    let stopped = tokio::task::spawn_blocking(move || house.weir.terminate()).await.context("stopping")??;
    table.row("exit code after SIGTERM", format!("{stopped:?}"), "Some(0)", stopped == Some(0));
    for what in &books.untold {
        println!("no end: {what}");
    }
    Ok(table.verdict())
}

/// Ids in one book and not in the other, or twice in the log.
fn differing(books: &Books, logged: &[String]) -> usize {
    let once: HashSet<&str> = logged.iter().map(String::as_str).collect();
    let strange = once.iter().filter(|id| !books.ids.contains(**id)).count();
    let missing = books.ids.iter().filter(|id| !once.contains(id.as_str())).count();
    strange + missing + (logged.len() - once.len())
}

/// What is printed, line by line, and whether any line was bad.
#[derive(Default)]
struct Table {
    bad: usize,
    begun: bool,
}

impl Table {
    fn row(&mut self, what: &str, found: impl std::fmt::Display, wanted: &str, fits: bool) {
        if !std::mem::replace(&mut self.begun, true) {
            println!("{:<32} {:>44}  {:<10}", "what", "found", "wanted");
        }
        self.bad += usize::from(!fits);
        let found = found.to_string();
        println!("{what:<32} {found:>44}  {wanted:<10} {}", if fits { "ok" } else { "WRONG" });
    }

    fn verdict(&self) -> bool {
        match self.bad {
            0 => println!("soak: all is where it belongs"),
            bad => println!("soak: {bad} figures are WRONG"),
        }
        self.bad == 0
    }
}
