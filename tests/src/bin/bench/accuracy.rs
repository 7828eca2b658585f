//! The held-out prompts through the engines in process: right answers, tokens per forward, tokens a second, per task
//! and way of decoding. An answer is right when it is the expected one; tool calls are compared as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_diffusion_engine::{Engine, EngineOptions, KvType};
use weir_protocol::{DecodeMode, DecoderKind, DiffusionOptions};

use super::figures::{answer, load, load_with, options, request};
use super::repair;

/// A smoke run takes every so many-th prompt.
const SMOKE_STRIDE: usize = 50;

#[derive(Default)]
struct Sum {
    asked: u64,
    right: u64,
    tokens: u64,
    forwards: u64,
    seconds: f64,
}

impl Sum {
    fn json(&self) -> Value {
        let per = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        json!({
            "asked": self.asked,
            "right": self.right,
            "accuracy": per(self.right as f64, self.asked as f64),
            "tokens_per_forward": per(self.tokens as f64, self.forwards as f64),
            "tokens_per_second": per(self.tokens as f64, self.seconds),
        })
    }
}

/// Measures, prints the table, gives it as JSON.
pub(super) fn measure(models: &Path, smoke: bool) -> Result<Value> {
    let file = models.join("heldout.jsonl");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let rows = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let rows: Vec<Value> = rows.into_iter().step_by(if smoke { SMOKE_STRIDE } else { 1 }).collect();
    let (diffusion, ar) = (load(models, "diffusion")?, load(models, "ar")?);
    let rounded = load_with(models, "diffusion", EngineOptions { kv_type: KvType::Int8, ..options() })?;
    let preset = |mode, decoder| DiffusionOptions { mode: Some(mode), decoder, ..DiffusionOptions::default() };
    let above = |decoder, threshold| DiffusionOptions {
        decoder: Some(decoder),
        threshold: Some(threshold),
        ..DiffusionOptions::default()
    };
    let (joint, many) = (Some(DecoderKind::Joint), Some(DecoderKind::MultiBlock));
    let seldom = |refresh_every, options| DiffusionOptions { refresh_every: Some(refresh_every), ..options };
    let ways: [(&str, &Engine, DiffusionOptions); 15] = [
        ("ar greedy", &ar, DiffusionOptions::default()),
        ("threshold 0.95", &diffusion, above(DecoderKind::Threshold, 0.95)),
        ("0.95, refresh 4", &diffusion, seldom(4, above(DecoderKind::Threshold, 0.95))),
        ("0.95, refresh 32", &diffusion, seldom(32, above(DecoderKind::Threshold, 0.95))),
        ("K/V in 8 bits, 0.95", &rounded, above(DecoderKind::Threshold, 0.95)),
        ("threshold 0.85", &diffusion, above(DecoderKind::Threshold, 0.85)),
        ("hierarchy 0.95", &diffusion, above(DecoderKind::Hierarchy, 0.95)),
        ("credit 0.95", &diffusion, above(DecoderKind::Credit, 0.95)),
        ("credit 0.70", &diffusion, above(DecoderKind::Credit, 0.7)),
        ("joint speed", &diffusion, preset(DecodeMode::Speed, joint)),
        ("joint quality", &diffusion, preset(DecodeMode::Quality, joint)),
        ("joint q., refresh 4", &diffusion, seldom(4, preset(DecodeMode::Quality, joint))),
        ("joint q., refresh 32", &diffusion, seldom(32, preset(DecodeMode::Quality, joint))),
        ("multi_block speed", &diffusion, preset(DecodeMode::Speed, many)),
        ("multi_block quality", &diffusion, preset(DecodeMode::Quality, many)),
    ];
    println!("{:<20} {:<12} {:>6} {:>9} {:>6} {:>9}", "decoding", "task", "asked", "right", "TPF", "tokens/s");
    let mut all = serde_json::Map::new();
    for (name, engine, options) in ways {
        let sums = one_way(engine, &options, &rows)?;
        for (task, sum) in &sums {
            let figures = sum.json();
            println!(
                "{name:<20} {task:<12} {:>6} {:>8.1}% {:>6.2} {:>9.0}",
                sum.asked,
                100.0 * figures["accuracy"].as_f64().unwrap_or_default(),
                figures["tokens_per_forward"].as_f64().unwrap_or_default(),
                figures["tokens_per_second"].as_f64().unwrap_or_default(),
            );
        }
        all.insert(name.to_owned(), sums.into_iter().map(|(task, sum)| (task, sum.json())).collect());
    }
    all.insert("repair".to_owned(), repair::measure(&diffusion, &rows)?);
    Ok(Value::Object(all))
}

fn one_way(engine: &Engine, options: &DiffusionOptions, rows: &[Value]) -> Result<BTreeMap<String, Sum>> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for row in rows {
        let mut asked = request(row)?;
        asked.diffusion = options.clone();
        let answered = answer(engine, &asked)?;
        let is_right = is_right(row["expected"].as_str().unwrap_or_default(), &answered.text);
        for task in [row["task"].as_str().unwrap_or("?"), "all"] {
            let sum = sums.entry(task.to_owned()).or_default();
            sum.asked += 1;
            sum.right += u64::from(is_right);
            sum.tokens += answered.usage.completion_tokens;
            // An AR model makes one forward for each token.
            let tokens = answered.usage.completion_tokens;
            sum.forwards += answered.usage.diffusion.as_ref().map_or(tokens, |stats| u64::from(stats.steps));
            sum.seconds += answered.took.as_secs_f64();
        }
    }
    Ok(sums)
}

pub(super) fn is_right(expected: &str, got: &str) -> bool {
    match call(expected) {
        Some(expected) => call(got) == Some(expected),
        None => got.trim() == expected.trim(),
    }
}

/// The one call in the model's notation.
fn call(text: &str) -> Option<Value> {
    let inside = text.trim().strip_prefix("<tool_call>")?.strip_suffix("</tool_call>")?;
    serde_json::from_str(inside).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_compared_as_json_and_text_as_text() {
        let expected = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1, \"b\": 2}}\n</tool_call>";
        assert!(is_right(expected, "<tool_call>{\"arguments\":{\"b\":2,\"a\":1},\"name\":\"f\"}</tool_call>"));
        assert!(!is_right(expected, "<tool_call>{\"arguments\":{\"b\":2,\"a\":3},\"name\":\"f\"}</tool_call>"));
        assert!(!is_right(expected, "f"));
        assert!(is_right("a, b", " a, b\n"));
        assert!(!is_right("a, b", "a, c"));
    }
}
