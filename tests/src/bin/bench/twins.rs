//! The diffusion model against its autoregressive twin on the held-out tool calls, short and dictated: one request at
//! a time, both engines in turns, so that a busy machine hurts both. Prompts are read anew each time, as a first
//! caller would feel it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_diffusion_engine::Engine;
use weir_protocol::ChatRequest;

use super::accuracy::is_right;
use super::figures::{answer, load, median, ms, request};

/// Calls with values that training knows, and calls with text of the user's own, which are longer.
const TASKS: [&str; 2] = ["tools", "dictation"];

/// What one engine did with all requests of a round.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    asked: u64,
    right: u64,
    tokens: u64,
    forwards: u64,
    prompt: u64,
    took: Duration,
    prepared: Duration,
}

impl Sum {
    fn speed(&self) -> f64 {
        self.tokens as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Measures, prints, gives it as JSON.
pub(super) fn measure(models: &Path, smoke: bool) -> Result<Value> {
    let file = models.join("heldout.jsonl");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let rows = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let engines = [load(models, "diffusion")?, load(models, "ar")?];
    let mut all = serde_json::Map::new();
    for task in TASKS {
        let own = rows.iter().filter(|row| row["task"] == task).step_by(if smoke { 5 } else { 1 });
        let asked = own.map(|row| Ok((request(row)?, row["expected"].as_str().unwrap_or_default())));
        let asked: Vec<(ChatRequest, &str)> = asked.collect::<Result<_>>()?;
        println!("{task}:");
        all.insert(task.to_owned(), compare(&engines, &asked, if smoke { 1 } else { 9 })?);
    }
    Ok(Value::Object(all))
}

fn compare(engines: &[Engine; 2], asked: &[(ChatRequest, &str)], rounds: usize) -> Result<Value> {
    let mut all = Vec::new(); // of each round, both engines'
    for round in 0..=rounds {
        let mut sums = [Sum::default(); 2];
        for (request, expected) in asked {
            for (engine, sum) in engines.iter().zip(&mut sums) {
                let answered = answer(engine, request)?;
                let usage = &answered.usage;
                sum.asked += 1;
                sum.right += u64::from(is_right(expected, &answered.text));
                sum.tokens += usage.completion_tokens;
                sum.forwards += usage.diffusion.as_ref().map_or(usage.completion_tokens, |it| u64::from(it.steps));
                sum.prompt += usage.prompt_tokens;
                sum.took += answered.took;
                sum.prepared += answered.prepared;
            }
        }
        // The first round fills caches.
        if round > 0 {
            all.push(sums);
        }
    }
    let speeds = |at: usize| median(all.iter().filter_map(|sums| sums.get(at)).map(Sum::speed).collect());
    let ratio = median(all.iter().map(|[diffusion, ar]| diffusion.speed() / ar.speed()).collect());
    let lists = engines.iter().zip(["diffusion", "ar"]).enumerate().map(|(at, (engine, name))| {
        let last = all.last().and_then(|sums| sums.get(at)).copied().unwrap_or_default();
        let each = |time: Duration| ms(time) / last.asked.max(1) as f64;
        let (answer_ms, prepared_ms) = (each(last.took), each(last.prepared));
        let (prompt, tokens) = (last.prompt / last.asked.max(1), last.tokens as f64 / last.asked.max(1) as f64);
        println!(
            "{name:<10} {:>5.0} tokens/s; an answer: {answer_ms:.2} ms, of which {prepared_ms:.2} before it is queued; {prompt} prompt tokens, {tokens:.1} tokens in {:.1} forwards; {} of {} right",
            speeds(at),
            last.forwards as f64 / last.asked.max(1) as f64,
            last.right,
            last.asked,
        );
        json!({
            "model": name, "tokens_per_second": speeds(at), "answer_ms": answer_ms, "prepared_ms": prepared_ms,
            "prompt_tokens": prompt, "tokens": tokens, "right": last.right, "asked": last.asked,
            "kernels": engine.info().kernels,
        })
    });
    let lists: Vec<Value> = lists.collect();
    println!("diffusion over AR, the same requests in turns: {ratio:.2} (median of {rounds} rounds)");
    Ok(json!({"ratio": ratio, "rounds": rounds, "models": lists}))
}
