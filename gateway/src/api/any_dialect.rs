//! A body whose dialect is said beside it, or told from its shape: for questions about requests that nobody makes. Must
//! never answer anything.

use serde_json::{Map, Value};
use weir_protocol::{ChatRequest, Dialect, EngineError};

use super::{anthropic_messages, openai_chat, openai_completions, openai_responses, reading};

/// A request, and how it was read.
pub struct Decoded {
    /// The request.
    pub request: ChatRequest,
    /// The dialect it was read as.
    pub dialect: Dialect,
    /// Whether that was told from the body's shape.
    pub guessed: bool,
}

/// The dialect of this word: as in metrics, or the path's last part.
pub fn named(word: &str) -> Option<Dialect> {
    Some(match word {
        "openai_chat" | "chat" | "chat/completions" => Dialect::OpenAiChat,
        "openai_responses" | "responses" => Dialect::OpenAiResponses,
        "anthropic_messages" | "messages" | "anthropic" => Dialect::AnthropicMessages,
        "openai_completions" | "completions" => Dialect::OpenAiCompletions,
        _ => return None,
    })
}

/// Reads a body; `None`: its shape tells the dialect.
///
/// # Errors
/// As the dialect's own decoder.
pub fn decode(body: &[u8], dialect: Option<Dialect>) -> Result<Decoded, EngineError> {
    let (dialect, guessed) = match dialect {
        Some(dialect) => (dialect, false),
        None => (of_shape(&reading::parse(body)?), true),
    };
    let request = match dialect {
        Dialect::OpenAiChat => openai_chat::decode::decode(body),
        Dialect::OpenAiResponses => openai_responses::decode::decode(body),
        Dialect::AnthropicMessages => anthropic_messages::decode::decode(body),
        Dialect::OpenAiCompletions => openai_completions::decode::decode(body),
    };
    Ok(Decoded { request: request?, dialect, guessed })
}

/// What only one dialect has; chat completions where nothing tells.
fn of_shape(body: &Map<String, Value>) -> Dialect {
    let has = |field: &str| body.contains_key(field);
    if has("input") || has("previous_response_id") || has("instructions") {
        return Dialect::OpenAiResponses;
    }
    if has("prompt") {
        return Dialect::OpenAiCompletions;
    }
    let tools = body.get("tools").and_then(Value::as_array);
    let anthropic_tools = tools.is_some_and(|tools| tools.iter().any(|tool| tool.get("input_schema").is_some()));
    let blocks = body.get("messages").and_then(Value::as_array).into_iter().flatten();
    let mut blocks = blocks.filter_map(|message| message.get("content")?.as_array()).flatten();
    let anthropic_block =
        |block: &Value| matches!(block.get("type").and_then(Value::as_str), Some("tool_use" | "tool_result" | "image"));
    let choice = body.get("tool_choice").is_some_and(|choice| {
        matches!(choice.get("type").and_then(Value::as_str), Some("auto" | "any" | "tool" | "none"))
    });
    match has("system") || has("stop_sequences") || anthropic_tools || choice || blocks.any(anthropic_block) {
        true => Dialect::AnthropicMessages,
        false => Dialect::OpenAiChat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_tell_dialects_apart() {
        for (body, dialect) in [
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#, Dialect::OpenAiChat),
            (r#"{"model":"m","input":"x"}"#, Dialect::OpenAiResponses),
            (r#"{"model":"m","prompt":"x"}"#, Dialect::OpenAiCompletions),
            (
                r#"{"model":"m","max_tokens":9,"system":"s","messages":[{"role":"user","content":"x"}]}"#,
                Dialect::AnthropicMessages,
            ),
            (
                r#"{"model":"m","max_tokens":9,"tools":[{"name":"t","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":"x"}]}"#,
                Dialect::AnthropicMessages,
            ),
        ] {
            let decoded = decode(body.as_bytes(), None).unwrap_or_else(|error| panic!("{body}: {error}"));
            assert_eq!((decoded.dialect, decoded.guessed, decoded.request.dialect), (dialect, true, dialect), "{body}");
            assert_eq!(named(dialect.as_str()), Some(dialect));
        }
        assert!(decode(b"[]", None).is_err());
        // At the command line and in a policy's tests nothing but this text names the field.
        let missing = decode(br#"{"model":"auto"}"#, None).map(|_| ()).unwrap_err();
        assert_eq!(missing.to_string(), "messages: is required");
    }
}
