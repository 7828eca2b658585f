//! Servers from the attempts of a log. A processor's capacity is the one with which, once what ran beside an answer is
//! taken out of its time, nothing is left of it that goes with how many others came then. Must never give a backend
//! figures that it did not earn: with few answers it has none, and the summary says so.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Host;
use super::fit::{Leaning, Line, Row};
use super::requests::{came_at, family, told_ms};
use super::sharing::{Span, Traffic};
use crate::classify::Family;
use crate::facts::BackendRole;
use crate::replay::{Logged, LoggedTry};
use crate::simulate::asked::Own;
use crate::simulate::servers::{Fleet, Processor, Servers};

/// Answers of a backend without which it is not simulated.
pub(super) const LEAST: usize = 12;
/// Answers a line is put through, the latest: more say no more.
const KEPT: usize = 20_000;
/// Attempts of a family without which its failures are those of the whole backend.
const OWN: u64 = 20;
/// From one capacity that is tried to the next.
const STEP: f64 = 1.05;
/// Standard errors by which times must rise with what came beside to speak of a shared processor.
const SURE: f64 = 3.0;
/// Places of a backend that says of no limit.
const PLACES: u32 = 1_000_000;

/// A backend of a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Whole answers with times and sizes.
    pub answers: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts that its queue had no room for: no failures, since the simulation has that queue, too.
    pub shed: u64,
    /// Attempts given up: by the caller, or because another was quicker.
    pub given_up: u64,
    /// Answers whose times or sizes the log does not have.
    pub untold: u64,
    /// Most attempts that were under way at once: beyond it the simulation was not measured.
    pub most_at_once: u32,
    /// Whether it is simulated.
    pub simulated: bool,
}

/// What backends of a log share.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sharer {
    /// Its name.
    pub name: String,
    /// Most that was under way on it at once.
    pub most_at_once: u32,
    /// What it serves at full speed; `None`: nothing got slower beside others.
    pub capacity: Option<f64>,
}

/// What servers a log shows, and what else it says of them.
pub(super) struct Found {
    pub(super) servers: Servers,
    pub(super) backends: Vec<Measured>,
    pub(super) processors: Vec<Sharer>,
    /// By line of the log.
    pub(super) own: Vec<Option<Own>>,
}

/// One attempt.
struct Tried {
    /// Of the log.
    line: usize,
    span: Span,
    /// Of a whole answer: until when its first content was there, and the rest of its row.
    answer: Option<(f64, Row)>,
}

/// All of a backend.
#[derive(Default)]
struct Backend {
    tried: Vec<Tried>,
    /// Attempts that ended well, and that failed.
    seen: BTreeMap<Family, (u64, u64)>,
    shed: u64,
    given_up: u64,
    untold: u64,
    caches: bool,
    steps_told: bool,
}

pub(super) fn servers(lines: &[Logged], hosts: &[Host]) -> Found {
    let host = |name: &str| hosts.iter().find(|host| host.facts.name == name);
    let backends = backends(lines, |name| host(name).is_some_and(|host| host.places.is_some()));
    let mut groups: BTreeMap<String, Vec<(&String, &Backend)>> = BTreeMap::new();
    for (name, backend) in &backends {
        let processor = host(name).and_then(|host| host.processor.clone()).unwrap_or_else(|| name.clone());
        groups.entry(processor).or_default().push((name, backend));
    }
    let mut out = Found {
        servers: Servers::default(),
        backends: Vec::new(),
        processors: Vec::new(),
        own: vec![None; lines.len()],
    };
    for (processor, members) in groups {
        let traffic = Traffic::of(members.iter().flat_map(|(_, backend)| backend.tried.iter().map(|one| one.span)));
        // A log may come from another gateway: who is not among the hosts is what its answers show it to be.
        let role = |name: &str, backend: &Backend| match host(name) {
            Some(host) => host.facts.role,
            None if backend.steps_told => BackendRole::Diffusion,
            None => BackendRole::Ar,
        };
        let sized: Vec<_> = members.iter().filter(|(_, backend)| backend.answers() >= LEAST).collect();
        let leans = |capacity: f64| -> f64 {
            let of = |(name, backend): &&(&String, &Backend)| {
                let rows = backend.rows(&traffic, capacity);
                Line::through(latest(&rows), role(name, backend)).leans(latest(&rows))
            };
            Leaning::together(&sized.iter().map(of).collect::<Vec<_>>())
        };
        let capacity = capacity(&traffic, leans);
        out.processors.push(Sharer { name: processor.clone(), most_at_once: traffic.most_at_once, capacity });
        if let Some(capacity) = capacity.filter(|_| !sized.is_empty()) {
            out.servers.processor.push(Processor { name: processor.clone(), capacity, machines: 1 });
        }
        for (name, backend) in members {
            let simulated = backend.answers() >= LEAST;
            out.backends.push(backend.told(name, simulated));
            if simulated {
                let rows = backend.rows(&traffic, capacity.unwrap_or(f64::INFINITY));
                let role = role(name, backend);
                let line = Line::through(latest(&rows), role);
                for (tried, row) in backend.answered().zip(&rows) {
                    out.own[tried.line] =
                        Some(Own { backend: name.clone(), factor: line.factor(row), steps: row.forwards });
                }
                let mut fleet = backend.fleet(name, role, &line, latest(&rows));
                fleet.processor = capacity.map(|_| processor.clone());
                if let Some(host) = host(name) {
                    (fleet.concurrency, fleet.queue) = host.places.unwrap_or((PLACES, 0));
                    fleet.context_tokens = host.facts.context_tokens;
                }
                out.servers.backend.push(fleet);
            }
        }
    }
    // As configured, so that `role:…` means the same first choice.
    let place = |name: &str| hosts.iter().position(|host| host.facts.name == name).unwrap_or(hosts.len());
    out.servers.backend.sort_by_key(|fleet| place(&fleet.name));
    out.backends.sort_by_key(|measured: &Measured| place(&measured.name));
    out
}

/// `queues`: whether a backend's places and queue are known, and simulated.
fn backends(lines: &[Logged], queues: impl Fn(&str) -> bool) -> BTreeMap<String, Backend> {
    let mut backends: BTreeMap<String, Backend> = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        let (Some(came), Some(plan)) = (came_at(line), &line.plan) else { continue };
        let family = family(plan);
        for (number, tried) in line.attempts.iter().enumerate() {
            let backend = backends.entry(tried.backend.clone()).or_default();
            if tried.outcome == "overloaded" && queues(&tried.backend) {
                // It was never under way.
                backend.shed += 1;
                continue;
            }
            let well = tried.outcome == "finished";
            // What the gateway adds is part of a first attempt's time: the caller waits for it, too.
            let (from, ms) = match (number, line.total_ms) {
                (0, Some(total)) if well => (came, total),
                _ => (came + told_ms(tried.start_ms) / 1000.0, tried.ms),
            };
            let span = Span { from, until: from + told_ms(ms) / 1000.0 };
            let answer = well.then(|| answer(line, tried, number, span, family)).flatten();
            let seen = backend.seen.entry(family).or_default();
            match tried.outcome.as_str() {
                "finished" => {
                    seen.0 += 1;
                    backend.untold += u64::from(answer.is_none());
                    let usage = line.usage;
                    backend.caches |= usage.is_some_and(|usage| usage.cached_tokens > 0);
                    backend.steps_told |= usage.is_some_and(|usage| usage.diffusion.is_some());
                }
                "lost" | "cancelled" => backend.given_up += 1,
                // Not the backend's doing: any other would say the same.
                "invalid_request" | "unsupported" | "unknown_model" | "context_too_long" => {}
                _ => seen.1 += 1,
            }
            backend.tried.push(Tried { line: at, span, answer });
        }
    }
    backends
}

fn answer(line: &Logged, tried: &LoggedTry, number: usize, span: Span, family: Family) -> Option<(f64, Row)> {
    let usage = line.usage.filter(|usage| usage.completion_tokens > 0)?;
    let first = if number == 0 { line.ttft_ms } else { tried.first_content_ms }?;
    let first = span.from + told_ms(first) / 1000.0;
    let output_tokens = usage.completion_tokens as f64;
    let steps = usage.diffusion.map(|diffusion| diffusion.steps).filter(|steps| *steps > 0);
    let row = Row {
        family,
        ttft_ms: 0.0,
        total_ms: 0.0,
        read: usage.prompt_tokens.saturating_sub(usage.cached_tokens) as f64 / 1000.0,
        output_tokens,
        forwards: steps.map_or(output_tokens, |steps| steps as f64),
        beside: 0.0,
    };
    (span.until > span.from && first <= span.until + 1e-6).then_some((first, row))
}

/// The capacity with which times go with what came beside no more; `None` if they never did.
fn capacity(traffic: &Traffic, leans: impl Fn(f64) -> f64) -> Option<f64> {
    if leans(f64::INFINITY) < SURE {
        return None;
    }
    // The largest that takes out enough; who is alone is not slowed, so it is one at least.
    let most = f64::from(traffic.most_at_once);
    let mut tried = std::iter::successors(Some(most), |capacity| Some(capacity / STEP)).take_while(|one| *one > 1.0);
    let enough = tried.find(|capacity| leans(*capacity) <= 0.0).unwrap_or(1.0);
    Some((enough * 1000.0).round() / 1000.0)
}

fn latest(rows: &[Row]) -> &[Row] {
    &rows[rows.len().saturating_sub(KEPT)..]
}

impl Backend {
    fn answers(&self) -> usize {
        self.answered().count()
    }

    fn answered(&self) -> impl Iterator<Item = &Tried> {
        self.tried.iter().filter(|tried| tried.answer.is_some())
    }

    /// Its answers, as they would have been without what ran beside them.
    fn rows(&self, traffic: &Traffic, capacity: f64) -> Vec<Row> {
        let done = traffic.shared(capacity);
        let row = |tried: &Tried| {
            let (span, (first, row)) = (tried.span, tried.answer?);
            Some(Row {
                ttft_ms: done.within(Span { until: first, ..span }) * 1000.0,
                total_ms: done.within(span) * 1000.0,
                beside: traffic.beside(span),
                ..row
            })
        };
        self.answered().filter_map(row).collect()
    }

    fn told(&self, name: &str, simulated: bool) -> Measured {
        let spans = self.tried.iter().map(|tried| tried.span);
        Measured {
            name: name.to_owned(),
            answers: self.answers() as u64,
            failed: self.seen.values().map(|(_, failed)| failed).sum(),
            shed: self.shed,
            given_up: self.given_up,
            untold: self.untold,
            most_at_once: Traffic::of(spans).most_at_once,
            simulated,
        }
    }

    fn fleet(&self, name: &str, role: BackendRole, line: &Line, rows: &[Row]) -> Fleet {
        let share =
            |(well, failed): (u64, u64)| if well + failed == 0 { 0.0 } else { failed as f64 / (well + failed) as f64 };
        let all = self.seen.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let own = self.seen.iter().filter(|(_, (well, failed))| well + failed >= OWN);
        let failures_by = own.map(|(family, seen)| (family.as_str().to_owned(), share(*seen)));
        let rounded = |figure: f64| (figure * 1e4).round() / 1e4;
        Fleet {
            name: name.to_owned(),
            role: role.as_str().to_owned(),
            replicas: 1,
            concurrency: PLACES,
            queue: 0,
            processor: None,
            demand: 1.0,
            context_tokens: u64::from(u32::MAX),
            overhead_ms: rounded(line.0[0]),
            prefill_ms_per_1k: rounded(line.0[1]),
            forward_ms: rounded(line.0[2]).max(1e-4),
            slowdown: 0.0,
            tokens_per_forward: self.tokens_per_forward(role, rows),
            spread: 0.0,
            factors: line.factors(rows),
            failures: share(all),
            failures_by: if all.1 == 0 { BTreeMap::new() } else { failures_by.collect() },
            outage: Vec::new(),
            caches_prefixes: self.caches,
            price_per_hour: 0.0,
        }
    }

    /// Medians by family; where nobody said how many steps there were, a token counts as one.
    fn tokens_per_forward(&self, role: BackendRole, rows: &[Row]) -> BTreeMap<String, f64> {
        match (role, self.steps_told) {
            (BackendRole::Ar, _) => BTreeMap::new(),
            (BackendRole::Diffusion, false) => {
                Family::ALL.iter().map(|family| (family.as_str().to_owned(), 1.0)).collect()
            }
            (BackendRole::Diffusion, true) => {
                let mut by: BTreeMap<String, Vec<f64>> = BTreeMap::new();
                for row in rows {
                    by.entry(row.family.as_str().to_owned()).or_default().push(row.output_tokens / row.forwards);
                }
                let median = |mut values: Vec<f64>| {
                    values.sort_by(f64::total_cmp);
                    (values[values.len() / 2] * 1000.0).round() / 1000.0
                };
                by.into_iter().map(|(word, values)| (word, median(values))).collect()
            }
        }
    }
}
