//! Weir beside a proxy that only moves bytes, and beside nothing: the same requests, in turns, so that a busy machine
//! hurts all alike.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_tests::asking::{question, with};
use weir_tests::openclaw_request;

use super::super::figures::{median, ms};
use super::load::Callers;
use super::mock::{Mock, PIECES, SLOWLY};
use super::proxies::Way;

/// How many callers, and how often each asks; as soon as it has its answer where that is left out, which keeps all cores
/// busy, so that added time is mostly the wait for one.
const LOADS: [(usize, Option<Duration>); 4] =
    [(1, None), (10, None), (64, None), (10, Some(Duration::from_millis(25)))];

/// What one way took of one kind of requests.
#[derive(Default)]
struct Taken {
    ms: Vec<f64>,
    cpu_seconds: f64,
}

impl Taken {
    fn percentile(&mut self, percent: usize) -> f64 {
        self.ms.sort_by(f64::total_cmp);
        self.ms.get((self.ms.len() * percent / 100).min(self.ms.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    fn cpu_per_thousand(&self) -> f64 {
        self.cpu_seconds * 1000.0 / self.ms.len().max(1) as f64
    }
}

/// Measures, prints, gives it as JSON.
pub(super) async fn measure(smoke: bool) -> Result<Value> {
    let mock = Mock::start().await?;
    let mut ways = vec![Way::direct(mock.address)];
    match Way::haproxy(mock.address).await? {
        Some(haproxy) => ways.push(haproxy),
        None => println!("\nhaproxy is not installed, so there is nothing to compare with"),
    }
    ways.push(Way::weir("weir", mock.address, "")?);
    // Asks whole what its caller wants whole; streams are the same.
    ways.push(Way::weir("whole", mock.address, "stream_whole = false\n")?);
    println!(
        "\n{:<9} {:>9} {:<8} {:>8} {:>8} {:>10} {:>10} {:>12} {:>11}",
        "answers", "at", "through", "p50 ms", "p99 ms", "added p50", "added p99", "CPU s/1000", "of haproxy"
    );
    let mut all = Vec::new();
    for kind in [Kind::Plain, Kind::Streamed, Kind::Openclaw] {
        for load in LOADS {
            all.extend(one(&ways, kind, load, smoke).await?);
        }
    }
    let delays = delays(&mock, &ways, if smoke { 2 } else { 20 }).await?;
    let memory: Vec<Value> = ways
        .iter()
        .map(|way| anyhow::Ok(json!({"through": way.name, "memory_mb": way.memory_mb()?})))
        .collect::<Result<_>>()?;
    for entry in memory.iter().skip(1) {
        println!("{}: {:.1} MB resident", entry["through"].as_str().unwrap_or_default(), entry["memory_mb"]);
    }
    ways.into_iter().try_for_each(Way::end)?;
    Ok(json!({"requests": all, "chunk_delays": delays, "memory": memory}))
}

/// Requests of one kind.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Streamed,
    /// Streamed, and of the size and shape that OpenClaw's have from the first word on.
    Openclaw,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Streamed => "streamed",
            Kind::Openclaw => "openclaw",
        }
    }

    /// One as bytes.
    fn request(self, text: &str) -> Vec<u8> {
        // Usage is asked for, so that all ways carry the same.
        let options = json!({"stream": true, "stream_options": {"include_usage": true}});
        request(&match self {
            Kind::Plain => question("up", text),
            Kind::Streamed => with(question("up", text), options),
            Kind::Openclaw => openclaw_request::request(1, "up", text),
        })
    }
}

fn request(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn one(
    ways: &[Way],
    kind: Kind,
    (concurrency, pace): (usize, Option<Duration>),
    smoke: bool,
) -> Result<Vec<Value>> {
    let request = kind.request(&"Sort these words: lemon, apple, mirror. ".repeat(8));
    let (rounds, requests) = if smoke { (2, 64) } else { (12, if let Kind::Plain = kind { 384 } else { 192 }) };
    let times = (requests / concurrency).max(1);
    let mut callers = Vec::new();
    for way in ways {
        let mut of_way = Callers::connect(way.address, concurrency).await?;
        // The first requests open connections behind it.
        of_way.ask(&request, 2, None).await?;
        callers.push(of_way);
    }
    let mut taken: Vec<Taken> = ways.iter().map(|_| Taken::default()).collect();
    for round in 0..rounds {
        for at in 0..ways.len() {
            // Each is the first as often as the others.
            let at = (at + round) % ways.len();
            let before = ways[at].cpu_seconds()?;
            taken[at].ms.extend(callers[at].ask(&request, times, pace).await?);
            taken[at].cpu_seconds += ways[at].cpu_seconds()? - before;
        }
    }
    let kind = kind.name();
    let a_second = pace.map(|pace| concurrency as f64 / pace.as_secs_f64());
    let load = a_second.map_or_else(|| concurrency.to_string(), |rate| format!("{concurrency}, {rate:.0}/s"));
    let direct = (taken[0].percentile(50), taken[0].percentile(99));
    let haproxy = ways.iter().position(|way| way.name == "haproxy").map(|at| taken[at].cpu_per_thousand());
    let mut out = Vec::new();
    for (way, taken) in ways.iter().zip(&mut taken) {
        let (p50, p99, cpu) = (taken.percentile(50), taken.percentile(99), taken.cpu_per_thousand());
        let (added_p50, added_p99) = (p50 - direct.0, p99 - direct.1);
        let of_haproxy = haproxy.filter(|cpu| *cpu > 0.0).map(|haproxy| cpu / haproxy);
        let shown = of_haproxy.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        println!(
            "{kind:<9} {load:>9} {:<8} {p50:>8.3} {p99:>8.3} {added_p50:>10.3} {added_p99:>10.3} {cpu:>12.4} {shown:>11}",
            way.name
        );
        out.push(
            json!({"answers": kind, "concurrency": concurrency, "requests_a_second": a_second, "through": way.name, "p50_ms": p50, "p99_ms": p99,
            "added_p50_ms": added_p50, "added_p99_ms": added_p99, "cpu_seconds_per_1000": cpu,
            "cpu_of_haproxy": of_haproxy, "requests": taken.ms.len()}),
        );
    }
    Ok(out)
}

/// From a piece's leaving the upstream to its being with the caller, one stream at a time.
async fn delays(mock: &Mock, ways: &[Way], rounds: usize) -> Result<Vec<Value>> {
    let request = Kind::Streamed.request(SLOWLY);
    let mut callers = Vec::new();
    for way in ways {
        callers.push(Callers::connect(way.address, 1).await?);
    }
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (callers, delays) in callers.iter_mut().zip(&mut all) {
            let (arrived, sent) = (callers.watch(&request).await?, mock.sent());
            let pairs = sent.iter().zip(&arrived).take(PIECES);
            delays.extend(pairs.map(|(sent, arrived)| ms(arrived.saturating_duration_since(*sent))));
        }
    }
    let medians: Vec<f64> = all.into_iter().map(median).collect();
    let direct = *medians.first().context("a way")?;
    println!("\n{:<8} {:>14} {:>10}", "through", "chunk delay ms", "added ms");
    let line = |(way, delay): (&Way, &f64)| {
        println!("{:<8} {delay:>14.4} {:>10.4}", way.name, delay - direct);
        json!({"through": way.name, "delay_ms": delay, "added_ms": delay - direct})
    };
    Ok(ways.iter().zip(&medians).map(line).collect())
}
