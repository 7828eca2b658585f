//! Asks the real gateway, as callers that wait for each other and as a Poisson stream that waits for nobody. The same
//! seed asks the same things at the same moments.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::timeout;
use weir_tests::asking::client;
use weir_tests::binary::Weir;
use weir_tests::frames::Frames;
use weir_tests::schemas::Dice;

use super::super::figures::ms;
use super::PATIENCE;

/// One kind of request: prompts that the policy sends to the same backend.
pub(super) struct Kind {
    /// The held-out task it is made from.
    task: &'static str,
    share: f64,
    bodies: Vec<Arc<str>>,
}

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) backend: String,
    pub(super) ttft_ms: f64,
    pub(super) total_ms: f64,
}

/// From 0 to below 1.
fn share(dice: &mut Dice) -> f64 {
    (dice.bits() >> 11) as f64 / (1_u64 << 53) as f64
}

/// What is asked: three held-out tasks, one of them for the AR engine. Every fourth request has a long system text before
/// it, which tells what reading costs.
pub(super) fn kinds(models: &Path) -> Result<Vec<Kind>> {
    let file = models.join("heldout.jsonl");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let rows = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let kind = |task, share| {
        let own = rows.iter().filter(|row| row["task"] == task);
        let body = |(number, row): (usize, &Value)| {
            let mut body = json!({"model": "auto", "messages": row["messages"], "max_tokens": 64, "stream": true,
                "temperature": 0, "stream_options": {"include_usage": true}});
            if number.is_multiple_of(4) {
                let house = "You keep a house: lights, blinds, heating, doors and the garden. ".repeat(6);
                body["messages"] = json!([{"role": "system", "content": house}, row["messages"][0]]);
            }
            Arc::from(body.to_string())
        };
        Kind { task, share, bodies: own.enumerate().map(body).collect() }
    };
    let kinds = vec![kind("transforms", 0.4), kind("paths", 0.2), kind("chat", 0.4)];
    for kind in &kinds {
        ensure!(!kind.bodies.is_empty(), "{} has no prompt of the task {}", file.display(), kind.task);
    }
    Ok(kinds)
}

/// Asks one gateway.
pub(super) struct Asker {
    pub(super) kinds: Vec<Kind>,
    client: reqwest::Client,
    url: String,
}

impl Asker {
    pub(super) fn new(weir: &Weir, kinds: Vec<Kind>) -> Result<Self> {
        Ok(Asker { kinds, client: client()?, url: weir.url("/v1/chat/completions") })
    }

    /// A caller for each list of kinds, each asking its kinds in turns, the next when the last is answered; `count`
    /// answers, more or less.
    pub(super) async fn by_callers(&self, callers: &[&[usize]], count: usize) -> Result<Vec<Answered>> {
        let asked = AtomicUsize::new(0);
        let each = callers.iter().map(|kinds| async {
            let mut answers = Vec::new();
            for turn in 0.. {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                if number >= count && turn >= kinds.len() {
                    break;
                }
                answers.push(self.ask(kinds[turn % kinds.len()], number).await?);
            }
            anyhow::Ok(answers)
        });
        Ok(try_join_all(each).await?.concat())
    }

    /// `count` requests at `per_s` a second, whatever becomes of the others.
    pub(super) async fn poisson(&self, per_s: f64, count: usize, seed: u64) -> Result<Vec<Answered>> {
        let mut dice = Dice::new(seed);
        let mut due = 0.0;
        let plan: Vec<(f64, usize)> = (0..count)
            .map(|_| {
                due -= (1.0 - share(&mut dice)).ln() / per_s;
                let mut place = share(&mut dice) * self.kinds.iter().map(|kind| kind.share).sum::<f64>();
                let kind = self.kinds.iter().position(|kind| {
                    place -= kind.share;
                    place < 0.0
                });
                (due, kind.unwrap_or(0))
            })
            .collect();
        let begun = tokio::time::Instant::now();
        let asks = plan.into_iter().enumerate().map(|(number, (due, kind))| async move {
            tokio::time::sleep_until(begun + Duration::from_secs_f64(due)).await;
            self.ask(kind, number).await
        });
        try_join_all(asks).await
    }

    async fn ask(&self, kind: usize, number: usize) -> Result<Answered> {
        let bodies = &self.kinds[kind].bodies;
        let body = bodies[number % bodies.len()].to_string();
        timeout(PATIENCE, self.answer(body)).await.context("an answer takes too long")?
    }

    async fn answer(&self, body: String) -> Result<Answered> {
        let begun = Instant::now();
        let request = self.client.post(&self.url).header("content-type", "application/json").body(body);
        let response = request.send().await?;
        let status = response.status();
        let backend = response.headers().get("x-weir-backend").and_then(|name| name.to_str().ok());
        let backend = backend.unwrap_or_default().to_owned();
        let (mut text, mut first) = (Vec::new(), None);
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            text.extend_from_slice(&piece?);
            if first.is_none() && says_something(&text) {
                first = Some(ms(begun.elapsed()));
            }
        }
        let total_ms = ms(begun.elapsed());
        let text = String::from_utf8_lossy(&text);
        ensure!(status == 200, "{text}");
        let frames = Frames::read(&text);
        let usage = frames.usages().last().copied().cloned().unwrap_or_default();
        ensure!(frames.done_last && usage["completion_tokens"].is_u64(), "an answer without an end: {text}");
        Ok(Answered { backend, ttft_ms: first.unwrap_or(total_ms), total_ms })
    }
}

/// Whether a piece of content that is not empty is there.
fn says_something(bytes: &[u8]) -> bool {
    const BEFORE: &[u8] = br#""content":""#;
    bytes.windows(BEFORE.len() + 1).any(|window| window.starts_with(BEFORE) && !window.ends_with(b"\""))
        || bytes.windows(12).any(|window| window == br#""tool_calls""#)
}
