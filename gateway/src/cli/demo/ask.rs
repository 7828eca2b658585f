//! Asks one question over the real HTTP API and measures what a client sees. Must never reach into the gateway: what
//! the demo shows is what any caller gets.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use serde_json::{Value, json};

use super::questions::Question;
use crate::backends::sse::SseReader;

/// What came back for one question.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) text: String,
    /// (name, JSON arguments), in order.
    pub(super) calls: Vec<(String, String)>,
    pub(super) model: String,
    pub(super) backend: String,
    pub(super) reason: String,
    pub(super) finish_reason: Option<String>,
    /// Whether the stream ended with `[DONE]`.
    pub(super) done: bool,
    pub(super) time_to_first_token: Option<Duration>,
    pub(super) total: Duration,
    pub(super) completion_tokens: u64,
    pub(super) tokens_per_forward: Option<f64>,
    /// Denoise steps seen as drafts.
    pub(super) drafts: u32,
}

impl Seen {
    /// Whether the answer came through whole.
    pub(super) fn complete(&self) -> bool {
        self.done && self.finish_reason.is_some() && (!self.text.is_empty() || !self.calls.is_empty())
    }

    /// Tokens a second over the whole answer, as a caller feels it.
    pub(super) fn tokens_per_second(&self) -> f64 {
        self.completion_tokens as f64 / self.total.as_secs_f64().max(f64::EPSILON)
    }
}

/// What happens while an answer streams in.
pub(super) enum Sight<'a> {
    /// The unfinished block after one denoise step.
    Draft(&'a str),
    /// More of the answer's text.
    Text(&'a str),
    /// A tool call begins.
    Call(&'a str),
    /// More of the call's arguments.
    Arguments(&'a str),
}

/// Sends `question` to `model` at `base` and calls `watch` as the answer comes.
///
/// # Errors
/// Connection trouble, an HTTP error status, or an error event in the stream.
pub(super) async fn ask(
    client: &reqwest::Client,
    base: &str,
    model: &str,
    question: &Question,
    drafts: bool,
    mut watch: impl FnMut(Sight<'_>),
) -> Result<Seen> {
    let mut body = json!({
        "model": model,
        "stream": true,
        "stream_options": {"include_usage": true},
        "temperature": 0,
        "messages": [{"role": "user", "content": question.prompt}],
    });
    if drafts {
        body["diffusion"] = json!({"drafts": true});
    }
    if let Some(tools) = &question.tools {
        body["tools"] = tools.clone();
    }
    let asked = Instant::now();
    let response = client
        .post(format!("{base}/v1/chat/completions"))
        .json(&body)
        .send()
        .await
        .context("the gateway does not answer")?;
    let mut seen = Seen::default();
    for (name, field) in [("x-weir-backend", &mut seen.backend), ("x-weir-reason", &mut seen.reason)] {
        if let Some(value) = response.headers().get(name).and_then(|value| value.to_str().ok()) {
            *field = value.to_owned();
        }
    }
    if !response.status().is_success() {
        bail!("HTTP {}: {}", response.status().as_u16(), response.text().await.unwrap_or_default());
    }
    let mut bytes = response.bytes_stream();
    let mut reader = SseReader::default();
    while let Some(piece) = bytes.next().await {
        let mut events = Vec::new();
        reader.push(&piece.context("the stream broke")?, &mut events)?;
        for data in events {
            if data == "[DONE]" {
                seen.done = true;
                continue;
            }
            let chunk: Value = serde_json::from_str(&data).context("a chunk is not JSON")?;
            if let Some(error) = chunk.get("error") {
                bail!("error event: {}", error["message"].as_str().unwrap_or("no message"));
            }
            seen.take(&chunk, asked, &mut watch);
        }
    }
    seen.total = asked.elapsed();
    Ok(seen)
}

impl Seen {
    fn take(&mut self, chunk: &Value, asked: Instant, watch: &mut impl FnMut(Sight<'_>)) {
        if let Some(model) = chunk["model"].as_str() {
            self.model = model.to_owned();
        }
        if let Some(snapshot) = chunk["weir"]["draft"]["snapshot"].as_str() {
            self.drafts += 1;
            watch(Sight::Draft(snapshot));
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.completion_tokens = usage["completion_tokens"].as_u64().unwrap_or(0);
            self.tokens_per_forward = usage["diffusion"]["tokens_per_forward"].as_f64();
        }
        let choice = &chunk["choices"][0];
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish_reason = Some(reason.to_owned());
        }
        if let Some(text) = choice["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
            self.first_token(asked);
            self.text.push_str(text);
            watch(Sight::Text(text));
        }
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            self.first_token(asked);
            if let Some(name) = call["function"]["name"].as_str() {
                self.calls.push((name.to_owned(), String::new()));
                watch(Sight::Call(name));
            }
            if let (Some(arguments), Some(last)) = (call["function"]["arguments"].as_str(), self.calls.last_mut()) {
                last.1.push_str(arguments);
                watch(Sight::Arguments(arguments));
            }
        }
    }

    fn first_token(&mut self, asked: Instant) {
        self.time_to_first_token.get_or_insert_with(|| asked.elapsed());
    }
}
