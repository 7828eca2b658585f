//! What servers call the end of an answer, and the piece that tells it when they call it otherwise than clients know it.
//! Must never make up an end.

use serde_json::Value;
use weir_protocol::{EngineError, FinishReason};

use crate::api::reading;
use crate::backends::upstream::answer::cut;
use crate::backends::upstream::refusal;

/// What a `finish_reason` means.
///
/// # Errors
/// It is no end that can be vouched for.
pub(super) fn meaning(word: &str) -> Result<FinishReason, EngineError> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "stop" | "eos" | "end_turn" | "stop_sequence" => FinishReason::Stop,
        "length" | "max_tokens" | "model_length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        // Gemini says behind it what was filtered.
        filtered if filtered.starts_with("content_filter") => FinishReason::ContentFilter,
        // `error`, `abort` and the like.
        other if refusal::is_word(other) => return Err(cut(&format!("the upstream ended with `{other}`"))),
        _ => return Err(cut("the upstream ended with an unknown reason")),
    })
}

/// The chunk, or the document, with this reason; `None`: it tells none, or this one.
pub(super) fn with_reason(written: &str, reason: FinishReason) -> Option<String> {
    let mut chunk = reading::parse(written.as_bytes()).ok()?;
    let choices = chunk.get_mut("choices")?.as_array_mut()?.iter_mut().filter_map(Value::as_object_mut);
    let own = choices.filter(|choice| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0);
    let ends = |told: &&mut Value| told.as_str().is_some_and(|word| !word.is_empty());
    let mut differs = false;
    for told in own.filter_map(|choice| choice.get_mut("finish_reason")).filter(ends) {
        differs |= told != reason.as_str();
        *told = reason.as_str().into();
    }
    differs.then(|| Value::Object(chunk).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reason_is_said_otherwise() {
        let told = r#"{"x":1,"choices":[{"index":0,"delta":{"y":2},"finish_reason":"stop"},{"index":1,"finish_reason":"stop"}]}"#;
        let meant = told.replacen("\"stop\"", "\"tool_calls\"", 1);
        assert_eq!(with_reason(told, FinishReason::ToolCalls), Some(meant));
        assert_eq!(with_reason(told, FinishReason::Stop), None);
        for silent in [
            r#"{"choices":[{"finish_reason":null}]}"#,
            r#"{"choices":[{"finish_reason":""}]}"#,
            r#"{"choices":[],"usage":{}}"#,
            "[DONE]",
        ] {
            assert_eq!(with_reason(silent, FinishReason::Stop), None);
        }
    }
}
