//! What an answer cost, for people and for programs. Must never print a figure that was not measured.

use std::time::Duration;

use serde_json::{Value, json};
use weir_protocol::Usage;

use super::answering::{Answered, End};

/// One line.
pub(super) fn line(answered: &Answered) -> String {
    let Answered { end, usage, first_text, total, .. } = answered;
    let first = first_text.map_or("none".to_owned(), |first| format!("after {:.1} ms", ms(first)));
    if *end == End::Stopped {
        return format!("stopped after {:.1} ms, first text {first}", ms(*total));
    }
    let tokens = usage.completion_tokens;
    let made = usage.diffusion.as_ref().map_or(String::new(), |stats| {
        let (steps, forwards) = (stats.steps, stats.tokens_per_forward());
        let (steps, edits) = (counted(steps.into(), "step"), counted(stats.edits.into(), "edit"));
        format!(" in {steps} ({forwards:.1} TPF), {edits}, {} forced", stats.forced_tokens)
    });
    let speed = tokens as f64 / total.as_secs_f64().max(f64::EPSILON);
    let tokens = counted(tokens, "token");
    format!("{tokens}{made}; {speed:.0} tokens/s, first text {first}; ended by {}", end.as_str())
}

/// A number and its noun.
fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The whole answer as one object.
pub(super) fn json(model: &str, answered: &Answered) -> Value {
    json!({
        "model": model,
        "text": answered.text,
        "finish_reason": answered.end.as_str(),
        "usage": usage(&answered.usage),
        "timing": {"first_text_ms": answered.first_text.map(ms), "total_ms": ms(answered.total)},
    })
}

/// The counts, named as in the API's `usage`.
pub(super) fn usage(usage: &Usage) -> Value {
    let diffusion = usage.diffusion.as_ref().map(|stats| {
        json!({
            "steps": stats.steps,
            "blocks": stats.blocks,
            "edits": stats.edits,
            "forced_tokens": stats.forced_tokens,
            "tokens_per_forward": stats.tokens_per_forward(),
        })
    });
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "diffusion": diffusion,
    })
}

/// Milliseconds with three digits.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
