//! A finished request as one line of JSON (docs/request-log.md has the shape for people). The shape only grows: a reader
//! skips fields it does not know, and a change of meaning is a new `v`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::Instant;
use weir_protocol::{Origin, Usage};
use weir_router_policies::RoutePlan;
use weir_router_policies::canary::Arm;

use super::closed::{AskedFor, Closed};
use super::content::{self, Content, Said};
use super::redact::Redactor;
use crate::caller::ClientKind;

const VERSION: u32 = 1;

#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    time: String,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    tenant: Option<&'a str>,
    client: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Source<'a>>,
    dialect: &'static str,
    stream: Option<bool>,
    model: Option<String>,
    backend: Option<&'a str>,
    answered_model: Option<&'a str>,
    status: Option<u16>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    finish_reason: Option<&'static str>,
    body_ms: Option<f64>,
    ttft_ms: Option<f64>,
    total_ms: f64,
    overhead_ms: Option<f64>,
    usage: Option<Used<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<f64>,
    attempts: Vec<Tried<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<PassedBy<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arm: Option<&'static str>,
    plan: Option<&'a RoutePlan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
}

#[derive(Serialize)]
struct Source<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_tag: Option<&'a str>,
}

#[derive(Serialize)]
struct Tried<'a> {
    backend: &'a str,
    purpose: &'static str,
    start_ms: f64,
    ms: f64,
    first_content_ms: Option<f64>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Used<'a>>,
}

#[derive(Serialize)]
struct PassedBy<'a> {
    backend: &'a str,
    cause: &'static str,
}

#[derive(Serialize)]
struct Used<'a> {
    prompt_tokens: u64,
    completion_tokens: u64,
    cached_tokens: u64,
    cache_write_tokens: u64,
    reasoning_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    diffusion: Option<Denoised<'a>>,
}

#[derive(Serialize)]
struct Denoised<'a> {
    steps: &'a u32,
    blocks: &'a u32,
    edits: &'a u32,
    forced_tokens: &'a u32,
    tokens: &'a u32,
}

/// The line with its end; nothing where it cannot be written as JSON, which no value here can bring about.
pub(super) fn of(closed: &Closed, said: Option<&Said>, redactor: Option<&Redactor>) -> Vec<u8> {
    let since = |at: Instant| ms(at.saturating_duration_since(closed.asked_at()));
    let attempts = closed.attempts.iter().map(|note| {
        let end = note.ended();
        Tried {
            backend: &note.backend,
            purpose: note.purpose.as_str(),
            start_ms: since(note.started),
            ms: ms(end.at.saturating_duration_since(note.started)),
            first_content_ms: note.first_content.get().map(|at| ms(at.saturating_duration_since(note.started))),
            outcome: end.outcome,
            status: end.status,
            why: end.why,
            usage: note.usage.get().map(used),
        }
    });
    let asked = closed.asked.as_ref();
    let line = Line {
        v: VERSION,
        time: rfc3339(closed.time),
        id: &closed.id,
        trace_id: closed.trace.as_ref().map(|trace| format!("{:032x}", trace.trace_id)),
        tenant: closed.tenant.as_deref(),
        client: asked.map(|asked| client(asked.client)),
        origin: asked.and_then(from),
        dialect: closed.dialect.as_str(),
        stream: asked.map(|asked| asked.stream),
        model: match closed.own_model() {
            Some(model) => Some(model.to_owned()),
            None => asked.zip(redactor).map(|(asked, redactor)| redactor.clean(&asked.model)),
        },
        backend: closed.backend.as_deref(),
        answered_model: closed.answered_model.as_deref(),
        status: closed.status,
        outcome: closed.outcome,
        why: closed.why.as_deref(),
        finish_reason: closed.reason.map(|reason| reason.as_str()),
        body_ms: closed.body_read.map(|at| ms(at.saturating_duration_since(closed.started))),
        ttft_ms: closed.first_content.map(since),
        total_ms: since(closed.ended),
        overhead_ms: closed.overhead.map(ms),
        usage: closed.usage.as_ref().map(used),
        cost: closed.money.map(|millionths| millionths as f64 / 1e6),
        attempts: attempts.collect(),
        skipped: closed.skipped.iter().map(|one| PassedBy { backend: &one.backend, cause: one.cause }).collect(),
        arm: closed.by_canary.then_some(Arm::Canary.as_str()),
        plan: closed.plan.as_deref(),
        content: said.zip(redactor).map(|((asked, said), redactor)| content::shown(asked, said, redactor)),
    };
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    if !bytes.is_empty() {
        bytes.push(b'\n');
    }
    bytes
}

/// About the memory a record takes while its line waits to be written.
pub(super) fn weight(closed: &Closed, said: Option<&Said>) -> usize {
    // The whole of it is kept: images, and what the line does not show.
    said.map_or(0, |(_, said)| closed.body_takes.saturating_add(said.bytes())).saturating_add(2048)
}

/// Nothing where the client said nothing.
fn from(asked: &AskedFor) -> Option<Source<'_>> {
    let Origin { session, job, run, turn, tenant_tag } = &asked.origin;
    let said = asked.attempt.is_some() || [session, job, run, turn, tenant_tag].iter().any(|id| id.is_some());
    said.then_some(Source {
        session: session.as_deref(),
        job: job.as_deref(),
        run: run.as_deref(),
        turn: turn.as_deref(),
        attempt: asked.attempt,
        tenant_tag: tenant_tag.as_deref(),
    })
}

fn used(usage: &Usage) -> Used<'_> {
    Used {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        cached_tokens: usage.cached_tokens,
        cache_write_tokens: usage.cache_write_tokens,
        reasoning_tokens: usage.reasoning_tokens,
        diffusion: usage.diffusion.as_ref().map(|stats| Denoised {
            steps: &stats.steps,
            blocks: &stats.blocks,
            edits: &stats.edits,
            forced_tokens: &stats.forced_tokens,
            tokens: &stats.tokens,
        }),
    }
}

fn client(kind: ClientKind) -> &'static str {
    match kind {
        ClientKind::OpenClaw => "openclaw",
        ClientKind::Other => "other",
    }
}

/// Microseconds are what a reader can use.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// `2026-11-29T01:25:00.123456Z`: who sums up what was under way at once needs the microseconds. The date after Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_everybody_writes_it() {
        let shown = |ms| rfc3339(UNIX_EPOCH + Duration::from_millis(ms));
        assert_eq!(shown(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(shown(951_827_696_789), "2000-02-29T12:34:56.789000Z");
        assert_eq!(shown(1_767_225_599_999), "2025-12-31T23:59:59.999000Z");
    }
}
