//! A whole answer from the pieces of an upstream's stream, put together as this dialect's own clients do it, so that fields
//! nobody here knows are in it. Must never be used for an answer that is not complete.

use serde_json::{Map, Value, json};

use crate::api::reading;
use crate::backends::{Alike, CALLS_MAX};

/// Texts that say the same in every piece; all others grow.
const SAME: [&str; 8] = ["role", "id", "type", "name", "object", "format", "model", "finish_reason"];

/// The answer; `None`: the pieces make none.
pub(super) fn joined(pieces: &[String]) -> Option<Value> {
    let (mut whole, mut choice) = grown(pieces)?;
    let mut message = match choice.remove("delta") {
        Some(Value::Object(message)) => message,
        _ => Map::new(),
    };
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(call) = call.as_object_mut() {
            call.remove("index");
        }
    }
    let silent = message.get("content").is_none_or(|content| content.is_null() || content == "");
    if silent && message.contains_key("tool_calls") {
        message.insert("content".into(), Value::Null);
    }
    for (key, default) in [("role", json!("assistant")), ("content", json!("")), ("refusal", Value::Null)] {
        message.entry(key).or_insert(default);
    }
    let mut told = Map::from_iter([("index".to_owned(), json!(0)), ("message".to_owned(), message.into())]);
    told.extend(choice);
    told.entry("logprobs").or_insert(Value::Null);
    whole.insert("object".into(), "chat.completion".into());
    whole.insert("choices".into(), json!([told]));
    Some(whole.into())
}

/// What all pieces say together: the answer without its choices, and its first choice.
pub(crate) fn grown(pieces: &[String]) -> Option<(Map<String, Value>, Map<String, Value>)> {
    let (mut whole, mut first) = (Map::new(), Map::new());
    let mut alike: Option<Alike> = None;
    for piece in pieces {
        // Nearly all are: nothing else of them needs to be read.
        if let Some(more) = alike.as_ref().and_then(|alike| alike.text(piece))
            && let Some(Value::String(text)) = first.get_mut("delta").and_then(|delta| delta.get_mut("content"))
        {
            text.push_str(&more);
            continue;
        }
        let written = piece.as_str();
        let mut piece = reading::parse(piece.as_bytes()).ok()?;
        alike = Alike::of(written, &piece);
        let choices = piece.remove("choices");
        for (key, value) in piece {
            // The last word holds.
            if !(value.is_null() || value == "") || !whole.contains_key(&key) {
                whole.insert(key, value);
            }
        }
        let Some(Value::Array(choices)) = choices else { continue };
        for choice in choices {
            if let Value::Object(choice) = choice
                && choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0
            {
                grow(&mut first, choice);
            }
        }
    }
    first.get("finish_reason").is_some_and(Value::is_string).then_some((whole, first))
}

fn grow(into: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (into.get_mut(&key), value) {
            (Some(_), Value::Null) => {}
            // Some servers tell names and ids again, without a word in them.
            (Some(_), Value::String(more)) if more.is_empty() => {}
            (Some(Value::String(text)), Value::String(more)) if !SAME.contains(&key.as_str()) => text.push_str(&more),
            (Some(Value::Object(members)), Value::Object(more)) => grow(members, more),
            (Some(Value::Array(entries)), Value::Array(more)) => more.into_iter().for_each(|more| add(entries, more)),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// An entry with an index belongs to the one before that has it.
fn add(entries: &mut Vec<Value>, more: Value) {
    let index = more.get("index").and_then(Value::as_u64);
    // No answer has more.
    let mut before = entries.iter_mut().rev().take(CALLS_MAX as usize);
    let same = before.find(|entry| index.is_some() && entry.get("index").and_then(Value::as_u64) == index);
    match (same, more) {
        (Some(Value::Object(entry)), Value::Object(more)) => grow(entry, more),
        (_, more) => entries.push(more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(values: &[Value]) -> Vec<String> {
        values.iter().map(Value::to_string).collect()
    }

    fn piece(delta: Value, reason: Option<&str>) -> Value {
        json!({"id": "up", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": "fp",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": null})
    }

    #[test]
    fn fields_nobody_knows_are_in_it() {
        let mut last = piece(json!({"content": "", "x_mark": 2}), Some("stop"));
        last["choices"][0]["stop_reason"] = json!("END");
        let counts = json!({"id": "up", "choices": [], "usage": {"prompt_tokens": 1, "cost": 0.5}});
        let told = [
            piece(json!({"role": "assistant", "content": "a", "reasoning": "h", "x_mark": 1}), None),
            piece(json!({"role": "assistant", "content": "b", "reasoning": "m", "annotations": [{"url": "u"}]}), None),
            last,
            counts,
        ];
        let expect = json!({"id": "up", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "fp",
            "usage": {"prompt_tokens": 1, "cost": 0.5},
            "choices": [{"index": 0, "finish_reason": "stop", "stop_reason": "END", "logprobs": null, "message": {
                "role": "assistant", "content": "ab", "reasoning": "hm", "annotations": [{"url": "u"}], "x_mark": 2,
                "refusal": null}}]});
        assert_eq!(joined(&pieces(&told)), Some(expect));
    }

    #[test]
    fn pieces_that_are_alike_are_read_as_all_others_are() {
        let text = |text: &str| piece(json!({"content": text}), None).to_string();
        let other = |change: &str, to: &str| text("c").replace(change, to);
        let content = |told: &[String]| {
            let end = piece(json!({}), Some("stop")).to_string();
            let whole = joined(&[told, &[end]].concat()).expect("an answer");
            (whole["choices"][0]["message"]["content"].clone(), whole)
        };
        let told =
            [text("a"), text("b\"\\ \n\u{e9}"), text(""), text("\",\"x\":\""), other("\"m\"", "\"n\""), text("d")];
        let (said, whole) = content(&told);
        assert_eq!((&said, &whole["model"]), (&json!("ab\"\\ \n\u{e9}\",\"x\":\"cd"), &json!("m")));
        // What else a piece says is not lost by being said again and again.
        let grows = other("\"content\":\"c\"", "\"content\":\"c\",\"x\":\"y\"");
        assert_eq!(content(&[grows.clone(), grows]).1["choices"][0]["message"]["x"], json!("yy"));
        let stops = other("\"index\":0", "\"index\":0,\"x\":\"y\"");
        assert_eq!(content(&[stops.clone(), stops]).1["choices"][0]["x"], json!("yy"));
        let another = other("\"index\":0", "\"index\":1");
        assert_eq!(content(&[text("a"), another.clone(), another]).0, json!("a"));
    }

    #[test]
    fn calls_grow_by_their_index() {
        let call = |index: u32, more: Value| {
            let mut call = json!({"index": index});
            call.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            piece(json!({"tool_calls": [call]}), None)
        };
        let begins = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": ""}, "x": {"seal": id}});
        let told = [
            call(0, begins("c1")),
            call(1, begins("c2")),
            call(0, json!({"function": {"arguments": "{}"}})),
            call(1, json!({"function": {"arguments": "{\"a\":"}})),
            call(1, json!({"id": "", "function": {"name": "", "arguments": "1}"}})),
            piece(json!({}), Some("tool_calls")),
        ];
        let whole = joined(&pieces(&told)).expect("an answer");
        let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}, "x": {"seal": id}});
        let message = &whole["choices"][0]["message"];
        assert_eq!(message["tool_calls"], json!([call("c1", "{}"), call("c2", "{\"a\":1}")]));
        assert_eq!(message["content"], Value::Null);
    }

    #[test]
    fn pieces_without_an_end_make_no_answer() {
        assert_eq!(joined(&pieces(&[piece(json!({"content": "a"}), None)])), None);
        assert_eq!(joined(&["{".to_owned()]), None);
        assert_eq!(joined(&[]), None);
    }
}
