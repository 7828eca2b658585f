//! What many requests at once are worth, and what a prompt beginning in the cache is worth: tokens a second with several
//! callers against one caller, and the time to the first block behind a long prefix that is cached against one that is
//! not. Both sides run in turns in the same process, so that a busy machine hurts both.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weir_diffusion_engine::{Engine, EngineOptions, GenerationEvent, ModelFiles, SharePrefixes};
use weir_protocol::{ChatRequest, Message, Role};

use super::figures::{answer, load_with, median, ms, options, request};

/// Callers at once.
const CALLERS: [usize; 4] = [1, 4, 16, 64];
/// Tokens of the prefix.
const PREFIX: u32 = 4096;
/// Positions the model is given for it; it was trained on fewer, which changes its words but not its work.
const POSITIONS: u32 = 8192;

/// Measures, prints, gives it as JSON.
pub(super) fn measure(models: &Path, smoke: bool) -> Result<Value> {
    Ok(json!({"callers": callers(models, smoke)?, "first_block": first_block(models, smoke)?}))
}

fn callers(models: &Path, smoke: bool) -> Result<Value> {
    let (rounds, most) = if smoke { (1, 16) } else { (3, 128) };
    let text = std::fs::read_to_string(models.join("heldout.jsonl")).context("heldout.jsonl")?;
    let rows = text.lines().map(|line| request(&serde_json::from_str(line)?)).collect::<Result<Vec<_>>>()?;
    let stride = (rows.len() / most).max(1);
    let asked: Vec<ChatRequest> =
        rows.into_iter().step_by(stride).take(most).map(|row| ChatRequest { max_tokens: Some(64), ..row }).collect();
    println!("{:<10} {:>8} {:>9} {:>10} {:>8}", "model", "callers", "requests", "tokens/s", "ratio");
    let mut all = Vec::new();
    for name in ["diffusion", "ar"] {
        let largest = CALLERS.into_iter().max().unwrap_or(1);
        let options = EngineOptions { max_running: largest, share_prefixes: SharePrefixes::Off, ..options() };
        let engine = load_with(models, name, options)?;
        let mut speeds = vec![Vec::new(); CALLERS.len()];
        for _ in 0..rounds {
            for (callers, speeds) in CALLERS.iter().zip(&mut speeds) {
                speeds.push(tokens_per_second(&engine, &asked, *callers)?);
            }
        }
        let speeds: Vec<f64> = speeds.into_iter().map(median).collect();
        let alone = speeds.first().copied().unwrap_or_default().max(f64::MIN_POSITIVE);
        for (callers, speed) in CALLERS.iter().zip(&speeds) {
            let ratio = speed / alone;
            println!("{name:<10} {callers:>8} {:>9} {speed:>10.0} {ratio:>8.2}", asked.len());
            all.push(json!({
                "model": name, "callers": callers, "requests": asked.len(), "tokens_per_second": speed,
                "ratio": ratio, "rounds": rounds,
            }));
        }
    }
    Ok(all.into())
}

/// All requests, by so many callers, each of which asks the next when its last one is answered.
fn tokens_per_second(engine: &Engine, asked: &[ChatRequest], callers: usize) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let ask = || -> Result<u64> {
        let mut tokens = 0;
        while let Some(request) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
            tokens += answer(engine, request)?.usage.completion_tokens;
        }
        Ok(tokens)
    };
    let tokens = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers).map(|_| scope.spawn(ask)).collect();
        let mut tokens = 0;
        for thread in threads {
            tokens += thread.join().unwrap_or_else(|_| bail!("a caller panicked"))?;
        }
        anyhow::Ok(tokens)
    })?;
    Ok(tokens as f64 / begun.elapsed().as_secs_f64().max(f64::MIN_POSITIVE))
}

fn first_block(models: &Path, smoke: bool) -> Result<Value> {
    let rounds = if smoke { 2 } else { 15 };
    println!("{:<10} {:>8} {:>12} {:>11} {:>8}", "model", "prefix", "not cached", "cached ms", "ratio");
    let mut all = Vec::new();
    for name in ["diffusion", "ar"] {
        let folder = stretched(&models.join(name))?;
        let engine = Engine::load(ModelFiles::Dir(folder.path().to_path_buf()), options())?;
        let prefix = prefix(&engine)?;
        // Fills the cache, and memory with it.
        time_to_first_text(&engine, &prefix, "warm", 0)?;
        let (mut without, mut with, mut cached) = (Vec::new(), Vec::new(), 0);
        for round in 0..rounds {
            // Another first word makes another prefix.
            without.push(time_to_first_text(&engine, &format!("{round} {prefix}"), "new", round)?.0);
            let (time, tokens) = time_to_first_text(&engine, &prefix, "known", round)?;
            with.push(time);
            cached = tokens;
        }
        let (without, with) = (median(without), median(with));
        let ratio = without / with.max(f64::MIN_POSITIVE);
        println!("{name:<10} {cached:>8} {without:>12.2} {with:>11.2} {ratio:>8.1}");
        all.push(json!({
            "model": name, "cached_tokens": cached, "not_cached_ms": without, "cached_ms": with, "ratio": ratio,
            "rounds": rounds,
        }));
    }
    Ok(all.into())
}

/// A copy of the model that takes longer prompts.
fn stretched(model: &Path) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for name in ["tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        std::fs::copy(model.join(name), folder.path().join(name)).with_context(|| name.to_owned())?;
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(model.join("config.json"))?)?;
    config["max_position_embeddings"] = POSITIONS.into();
    std::fs::write(folder.path().join("config.json"), config.to_string())?;
    Ok(folder)
}

/// A system text of at least [`PREFIX`] tokens.
fn prefix(engine: &Engine) -> Result<String> {
    let mut text = String::new();
    loop {
        text.push_str(&"You keep a house: lights, blinds, heating, doors and the garden. ".repeat(8));
        if engine.count_prompt_tokens(&about(&text, "x"))? >= PREFIX {
            return Ok(text);
        }
    }
}

fn about(system: &str, user: &str) -> ChatRequest {
    let messages = vec![Message::text(Role::System, system), Message::text(Role::User, user)];
    ChatRequest { messages, max_tokens: Some(32), ..ChatRequest::default() }
}

/// Milliseconds until the first text, or the end of an answer without any, and the tokens that came from the cache.
fn time_to_first_text(engine: &Engine, system: &str, kind: &str, round: usize) -> Result<(f64, u64)> {
    let request = about(system, &format!("Sort these words: {kind}, {round}, lemon, apple"));
    let begun = Instant::now();
    let mut generation = engine.generate(&request)?;
    let mut first = None;
    while let Some(event) = generation.next_blocking() {
        match event {
            GenerationEvent::Text(_) | GenerationEvent::Draft { .. } => {
                first.get_or_insert_with(|| ms(begun.elapsed()));
            }
            GenerationEvent::Step(_) | GenerationEvent::Logprobs(_) | GenerationEvent::StoppedAt(_) => {}
            GenerationEvent::Done { usage, .. } => {
                return Ok((first.unwrap_or_else(|| ms(begun.elapsed())), usage.cached_tokens));
            }
            GenerationEvent::Failed(error) => return Err(error.into()),
        }
    }
    bail!("the engine's answer ended without an end")
}
