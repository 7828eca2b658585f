//! How long a denoise step and an AR token take in process, short prompt and long: the answer's time divided by its
//! forwards, so that reading the prompt is in it as a caller would feel it.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::figures::{answer, load, median, ms, request};

/// Measures, prints, gives it as JSON.
pub(super) fn measure(models: &Path, smoke: bool) -> Result<Value> {
    let rounds = if smoke { 3 } else { 30 };
    let short = "Sort these words: lemon, apple, mirror, chair, honey".to_owned();
    let long = format!("{}\n{short}", "One, two, three and so on. ".repeat(40));
    let mut all = Vec::new();
    println!(
        "{:<10} {:>7} {:>9} {:>12} {:>11} {:>9}",
        "model", "prompt", "forwards", "ms/forward", "ms/answer", "tokens/s"
    );
    for name in ["diffusion", "ar"] {
        let engine = load(models, name)?;
        for prompt in [&short, &long] {
            let mut asked = request(&json!({"messages": [{"role": "user", "content": prompt}]}))?;
            asked.max_tokens = Some(64);
            // The first answer fills caches.
            let first = answer(&engine, &asked)?;
            let forwards =
                first.usage.diffusion.as_ref().map_or(first.usage.completion_tokens, |stats| u64::from(stats.steps));
            let tokens = first.usage.completion_tokens;
            let mut times = Vec::new();
            for _ in 0..rounds {
                times.push(ms(answer(&engine, &asked)?.took));
            }
            let whole = median(times);
            let each = whole / forwards.max(1) as f64;
            let speed = 1e3 * tokens as f64 / whole.max(f64::MIN_POSITIVE);
            println!(
                "{name:<10} {:>7} {forwards:>9} {each:>12.3} {whole:>11.2} {speed:>9.0}",
                first.usage.prompt_tokens
            );
            all.push(json!({
                "model": name, "prompt_tokens": first.usage.prompt_tokens, "forwards": forwards, "tokens": tokens,
                "forward_ms": each, "answer_ms": whole, "kernels": engine.info().kernels, "rounds": rounds,
            }));
        }
    }
    Ok(all.into())
}
