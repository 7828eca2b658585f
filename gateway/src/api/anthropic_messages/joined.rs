//! A whole answer from the events of an upstream's stream, put together as this dialect's own clients do it, so that blocks
//! and fields nobody here knows are in it. Must never be used for an answer that is not complete.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::api::reading::{self, written};

#[derive(Serialize)]
struct Message {
    #[serde(flatten)]
    fields: Map<String, Value>,
    content: Vec<Block>,
}

#[derive(Serialize)]
struct Block {
    #[serde(flatten)]
    fields: Map<String, Value>,
    /// Numbers may be longer than a [`Value`] holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Box<RawValue>>,
}

/// A block as far as it has come, and the text of its input.
type Growing = (Map<String, Value>, String);

/// The answer; `None`: the events make none.
pub(super) fn joined(pieces: &[String]) -> Option<String> {
    let mut message: Option<Map<String, Value>> = None;
    let mut blocks: Vec<Growing> = Vec::new();
    for piece in pieces {
        let mut event = reading::parse(piece.as_bytes()).ok()?;
        match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            "message_start" => message = object(event.remove("message")),
            "content_block_start" => blocks.push((object(event.remove("content_block"))?, String::new())),
            "content_block_delta" => {
                let index = usize::try_from(event.get("index")?.as_u64()?).ok()?;
                grow(blocks.get_mut(index)?, object(event.remove("delta"))?);
            }
            "message_delta" => {
                let message = message.as_mut()?;
                message.extend(object(event.remove("delta")).unwrap_or_default());
                // Counts come in parts; the last word on each holds.
                if let Some(counts) = object(event.remove("usage")) {
                    let told = message.entry("usage").or_insert_with(|| json!({}));
                    told.as_object_mut()?.extend(counts.into_iter().filter(|(_, count)| !count.is_null()));
                }
                event.remove("type");
                message.extend(event);
            }
            _ => {}
        }
    }
    let mut message = message.filter(|message| message.get("stop_reason").is_some_and(Value::is_string))?;
    let cut = message.get("stop_reason").is_some_and(|reason| reason == "max_tokens");
    let mut content = Vec::with_capacity(blocks.len());
    for (mut block, input) in blocks {
        if input.is_empty() {
            content.push(Block { fields: block, input: None });
            continue;
        }
        block.remove("input");
        match written::object(&input) {
            Some(input) => content.push(Block { fields: block, input: Some(input) }),
            // Half a call, and the reason says so.
            None if cut => {}
            None => return None,
        }
    }
    message.remove("content");
    serde_json::to_string(&Message { fields: message, content }).ok()
}

fn object(value: Option<Value>) -> Option<Map<String, Value>> {
    match value {
        Some(Value::Object(members)) => Some(members),
        _ => None,
    }
}

fn grow((block, input): &mut Growing, mut delta: Map<String, Value>) {
    let kind = delta.remove("type");
    match kind.as_ref().and_then(Value::as_str).unwrap_or_default() {
        "input_json_delta" => {
            input.push_str(delta.get("partial_json").and_then(Value::as_str).unwrap_or_default());
        }
        "citations_delta" => {
            let citation = delta.remove("citation").unwrap_or_default();
            match block.get_mut("citations") {
                Some(Value::Array(citations)) => citations.push(citation),
                _ => {
                    block.insert("citations".into(), json!([citation]));
                }
            }
        }
        // `text_delta`, `thinking_delta`, `signature_delta`, and what is new: a text grows, all else is replaced.
        _ => {
            for (key, more) in delta {
                match (block.get_mut(&key), more) {
                    (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
                    (_, more) => {
                        block.insert(key, more);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(pieces: &[String]) -> Option<Value> {
        joined(pieces).map(|text| serde_json::from_str(&text).expect("JSON"))
    }

    fn event(event: &Value) -> String {
        event.to_string()
    }

    fn start(index: u32, block: Value) -> String {
        event(&json!({"type": "content_block_start", "index": index, "content_block": block}))
    }

    fn delta(index: u32, delta: Value) -> String {
        event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
    }

    fn told(stop: &str, input: &str) -> Vec<String> {
        vec![
            event(
                &json!({"type": "message_start", "message": {"id": "m1", "type": "message", "role": "assistant", "model": "m",
                "content": [], "stop_reason": null, "usage": {"input_tokens": 3, "output_tokens": 1, "service_tier": "s"}}}),
            ),
            start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
            delta(0, json!({"type": "signature_delta", "signature": "seal"})),
            start(1, json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}})),
            delta(1, json!({"type": "input_json_delta", "partial_json": "{\"q\":1}"})),
            start(2, json!({"type": "web_search_tool_result", "content": [{"url": "u"}]})),
            start(3, json!({"type": "text", "text": "", "citations": null})),
            delta(3, json!({"type": "text_delta", "text": "a"})),
            delta(3, json!({"type": "citations_delta", "citation": {"url": "u"}})),
            delta(3, json!({"type": "text_delta", "text": "b"})),
            start(4, json!({"type": "tool_use", "id": "t", "name": "f", "input": {}})),
            delta(4, json!({"type": "input_json_delta", "partial_json": input})),
            event(&json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
                "usage": {"output_tokens": 7}, "context_management": {"x": 1}})),
            event(&json!({"type": "message_stop"})),
        ]
    }

    #[test]
    fn blocks_nobody_knows_are_in_it() {
        let expect = json!({"id": "m1", "type": "message", "role": "assistant", "model": "m",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "seal"},
                {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"q": 1}},
                {"type": "web_search_tool_result", "content": [{"url": "u"}]},
                {"type": "text", "text": "ab", "citations": [{"url": "u"}]},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 2}}],
            "stop_reason": "tool_use", "stop_sequence": null, "context_management": {"x": 1},
            "usage": {"input_tokens": 3, "output_tokens": 7, "service_tier": "s"}});
        assert_eq!(value(&told("tool_use", "{\"a\":2}")), Some(expect));
        let long = "{\"a\": 2.00000000000000000001}";
        assert!(joined(&told("tool_use", long)).is_some_and(|whole| whole.contains(long)));
    }

    #[test]
    fn half_a_call_is_left_out_only_where_the_limit_says_so() {
        let cut = value(&told("max_tokens", "{\"a")).expect("an answer");
        assert_eq!(cut["content"].as_array().map(Vec::len), Some(4));
        assert_eq!(joined(&told("tool_use", "{\"a")), None);
        assert_eq!(joined(&told("end_turn", "{}")[..13]), None, "no stop reason");
    }
}
