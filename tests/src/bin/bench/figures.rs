//! Runs one answer in process and says what it took; medians. Must never print.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use weir_diffusion_engine::{
    DecoderKind, DiffusionOptions, Engine, EngineOptions, GenerationEvent, ModelFiles, Recipe, SharePrefixes,
};
use weir_protocol::{ChatRequest, FinishReason, Message, Role, Tool, Usage};

/// One answer.
pub(super) struct Answered {
    pub(super) text: String,
    pub(super) reason: FinishReason,
    pub(super) usage: Usage,
    pub(super) took: Duration,
    /// Of that: template, tokens and grammar, before the request was queued.
    pub(super) prepared: Duration,
}

/// The model `diffusion` or `ar` of this folder. Where a request names no preset it decodes as LLaDA2.0 does, above
/// 0.95. Reads every prompt anew, as a first caller would feel it.
pub(super) fn load(models: &Path, name: &str) -> Result<Engine> {
    load_with(models, name, EngineOptions { share_prefixes: SharePrefixes::Off, ..options() })
}

/// [`load`] with options of its own.
pub(super) fn load_with(models: &Path, name: &str, options: EngineOptions) -> Result<Engine> {
    Engine::load(ModelFiles::Dir(models.join(name)), options).with_context(|| format!("model {name}"))
}

/// The options of [`load`], but for what is kept between requests: packed as the embedded models are.
pub(super) fn options() -> EngineOptions {
    let defaults = DiffusionOptions { decoder: Some(DecoderKind::Threshold), ..DiffusionOptions::default() };
    EngineOptions { defaults, max_tokens_default: 160, recipe: Recipe::Q8, ..EngineOptions::default() }
}

/// A request from the OpenAI shape of `messages` and `tools`.
pub(super) fn request(body: &Value) -> Result<ChatRequest> {
    let messages = body["messages"].as_array().context("messages")?;
    let messages = messages.iter().map(|message| {
        let role = match message["role"].as_str() {
            Some("system") => Role::System,
            Some("assistant") => Role::Assistant,
            _ => Role::User,
        };
        Message::text(role, message["content"].as_str().unwrap_or_default())
    });
    let tools = body["tools"].as_array().into_iter().flatten().map(|tool| Tool {
        name: tool["function"]["name"].as_str().unwrap_or_default().to_owned(),
        description: tool["function"]["description"].as_str().map(str::to_owned),
        parameters: tool["function"]["parameters"].clone(),
        ..Tool::default()
    });
    Ok(ChatRequest { messages: messages.collect(), tools: tools.collect(), ..ChatRequest::default() })
}

/// Answers it, alone.
pub(super) fn answer(engine: &Engine, request: &ChatRequest) -> Result<Answered> {
    let begun = Instant::now();
    let mut generation = engine.generate(request)?;
    let prepared = begun.elapsed();
    let mut text = String::new();
    while let Some(event) = generation.next_blocking() {
        match event {
            GenerationEvent::Text(more) => text.push_str(&more),
            GenerationEvent::Draft { .. }
            | GenerationEvent::Step(_)
            | GenerationEvent::Logprobs(_)
            | GenerationEvent::StoppedAt(_) => {}
            GenerationEvent::Done { reason, usage } => {
                return Ok(Answered { text, reason, usage, took: begun.elapsed(), prepared });
            }
            GenerationEvent::Failed(error) => return Err(error.into()),
        }
    }
    bail!("the engine's answer ended without an end")
}

/// The middle one; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Milliseconds.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
