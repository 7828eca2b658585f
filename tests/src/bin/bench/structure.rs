//! Answers held to a form, in process: schema and prompt pairs by number, with random weights and with the embedded
//! models, every decoder. An answer counts as valid when an independent validator takes it; one that the token limit
//! cut counts apart. Then what forcing saves on held-out tool calls.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_diffusion_engine::Engine;
use weir_protocol::{ChatRequest, DecodeMode, DecoderKind, FinishReason, Message, ResponseFormat, Role, ToolChoice};
use weir_tests::{random_weights, schemas};

use super::figures::{Answered, answer, load, ms, request};

/// Pairs of schema and prompt, and how many a smoke run takes.
const PAIRS: u64 = 2000;
const SMOKE: u64 = 20;

/// Tokens an answer may have.
const LIMIT: u32 = 160;

/// Way of decoding: its name, the model, the preset, the decoder.
const WAYS: [(&str, &str, Option<DecodeMode>, Option<DecoderKind>); 7] = [
    ("ar greedy", "ar", None, None),
    ("threshold 0.95", "diffusion", None, None),
    ("joint speed", "diffusion", Some(DecodeMode::Speed), Some(DecoderKind::Joint)),
    ("joint quality", "diffusion", Some(DecodeMode::Quality), Some(DecoderKind::Joint)),
    ("multi-block", "diffusion", Some(DecodeMode::Quality), Some(DecoderKind::MultiBlock)),
    ("hierarchy", "diffusion", None, Some(DecoderKind::Hierarchy)),
    ("credit", "diffusion", None, Some(DecoderKind::Credit)),
];

#[derive(Default)]
struct Sum {
    asked: u64,
    valid: u64,
    /// Numbers of pairs whose answer the token limit cut.
    cut: Vec<u64>,
    /// Numbers of pairs whose answer is complete and wrong: none, if the engine keeps its word.
    broken: Vec<u64>,
    tokens: u64,
    forced: u64,
    steps: u64,
}

/// Measures, prints the tables, gives them as JSON.
pub(super) fn measure(models: &Path, smoke: bool) -> Result<Value> {
    let random = tempfile::tempdir().context("temporary folder")?;
    for name in ["diffusion", "ar"] {
        std::fs::create_dir(random.path().join(name))?;
        random_weights::write(&models.join(name), &random.path().join(name), 7)?;
    }
    println!(
        "{:<8} {:<16} {:>6} {:>6} {:>6} {:>7} {:>8} {:>6}",
        "weights", "decoding", "asked", "valid", "cut", "broken", "forced", "TPF"
    );
    let mut all = serde_json::Map::new();
    for (weights, folder) in [("random", random.path()), ("nano", models)] {
        for (name, model, mode, decoder) in WAYS {
            let engine = load(folder, model)?;
            let sum = pairs(&engine, (mode, decoder), if smoke { SMOKE } else { PAIRS })?;
            let per = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
            println!(
                "{weights:<8} {name:<16} {:>6} {:>6} {:>6} {:>7} {:>7.1}% {:>6.2}",
                sum.asked,
                sum.valid,
                sum.cut.len(),
                sum.broken.len(),
                100.0 * per(sum.forced, sum.tokens),
                if sum.steps > 0 { per(sum.tokens, sum.steps) } else { 1.0 }
            );
            for (what, numbers) in [("cut", &sum.cut), ("broken", &sum.broken)] {
                if !numbers.is_empty() {
                    println!("  {what}: pairs {:?}", numbers.iter().take(5).collect::<Vec<_>>());
                }
            }
            all.insert(
                format!("{weights} {name}"),
                json!({"asked": sum.asked, "valid": sum.valid, "cut": sum.cut, "broken": sum.broken,
                    "forced": per(sum.forced, sum.tokens), "tokens_per_forward": per(sum.tokens, sum.steps)}),
            );
        }
    }
    all.insert("tool calls".into(), forcing(models, smoke)?);
    Ok(Value::Object(all))
}

fn pairs(engine: &Engine, (mode, decoder): (Option<DecodeMode>, Option<DecoderKind>), count: u64) -> Result<Sum> {
    let mut sum = Sum::default();
    for number in 0..count {
        let schema = schemas::schema(number);
        let mut asked = ChatRequest {
            messages: vec![Message::text(Role::User, schemas::prompt(number))],
            response_format: ResponseFormat::JsonSchema(schema.clone()),
            max_tokens: Some(LIMIT),
            ..ChatRequest::default()
        };
        (asked.diffusion.mode, asked.diffusion.decoder) = (mode, decoder);
        // Half of them by partial forwards, which a form must survive.
        asked.diffusion.refresh_every = Some(if number % 2 == 0 { 1 } else { 32 });
        let Answered { text, reason, usage, .. } = answer(engine, &asked).with_context(|| format!("pair {number}"))?;
        sum.asked += 1;
        let validator = jsonschema::validator_for(&schema).with_context(|| format!("pair {number}"))?;
        let fits = serde_json::from_str::<Value>(&text).is_ok_and(|value| validator.is_valid(&value));
        match reason {
            // Closed by the limit, too.
            _ if fits => sum.valid += 1,
            FinishReason::Length => sum.cut.push(number),
            _ => sum.broken.push(number),
        }
        sum.tokens += usage.completion_tokens;
        if let Some(stats) = usage.diffusion {
            sum.forced += u64::from(stats.forced_tokens);
            sum.steps += u64::from(stats.steps);
        }
    }
    Ok(sum)
}

/// Held-out tool calls: as free text (tools unknown to the grammar), with `auto` and with `required`.
fn forcing(models: &Path, smoke: bool) -> Result<Value> {
    let file = models.join("heldout.jsonl");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let rows = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let rows: Vec<Value> = rows.into_iter().filter(|row| row["task"] == "tools").collect();
    let rows: Vec<Value> = rows.into_iter().step_by(if smoke { 25 } else { 1 }).collect();
    println!(
        "{:<16} {:<10} {:>6} {:>7} {:>8} {:>6} {:>8}",
        "decoding", "calls", "asked", "right", "forced", "TPF", "ms"
    );
    let mut all = serde_json::Map::new();
    for (name, model, mode, decoder) in WAYS {
        let engine = load(models, model)?;
        for (choice, words) in [(ToolChoice::Auto, "auto"), (ToolChoice::Required, "required")] {
            let (mut right, mut tokens, mut forced, mut steps, mut took) = (0u64, 0u64, 0u64, 0u64, Duration::ZERO);
            for row in &rows {
                let mut asked = request(row)?;
                asked.tool_choice = choice.clone();
                (asked.diffusion.mode, asked.diffusion.decoder) = (mode, decoder);
                let answered = answer(&engine, &asked)?;
                right +=
                    u64::from(super::accuracy::is_right(row["expected"].as_str().unwrap_or_default(), &answered.text));
                tokens += answered.usage.completion_tokens;
                let stats = answered.usage.diffusion.unwrap_or_default();
                forced += u64::from(stats.forced_tokens);
                steps += u64::from(stats.steps);
                took += answered.took;
            }
            let count = rows.len().max(1) as f64;
            let figures = json!({"asked": rows.len(), "right": right as f64 / count,
                "forced": forced as f64 / tokens.max(1) as f64, "tokens_per_forward": tokens as f64 / steps.max(1) as f64,
                "milliseconds": ms(took) / count});
            println!(
                "{name:<16} {words:<10} {:>6} {:>6.1}% {:>7.1}% {:>6.2} {:>8.2}",
                rows.len(),
                100.0 * right as f64 / count,
                100.0 * forced as f64 / tokens.max(1) as f64,
                tokens as f64 / steps.max(1) as f64,
                ms(took) / count
            );
            all.insert(format!("{name} {words}"), figures);
        }
    }
    Ok(Value::Object(all))
}
