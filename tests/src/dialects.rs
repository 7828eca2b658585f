//! The dialects callers speak, and how a strict client of each reads an answer: what was said, which calls were made, and
//! whether the answer claims to be whole. Must never be kinder than a real client.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::asking::Reply;
use crate::frames::Frames;
use crate::named_frames::NamedFrames;

/// A dialect callers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI chat completions.
    Chat,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
    /// OpenAI completions: text only.
    Completions,
}

/// How an answer ended, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model was done.
    Whole,
    /// The model wants tools run.
    Calls,
    /// The token limit was reached.
    Limit,
    /// An error, and nothing after it.
    Broken,
    /// Anything else: no client could tell.
    Untold,
}

/// What a client heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The text.
    pub text: String,
    /// Calls: id, name, arguments.
    pub calls: Vec<(String, String, String)>,
    /// Prompt and answer tokens, if told.
    pub tokens: Option<(u64, u64)>,
    /// How it ended.
    pub end: End,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Dialect; 4] = [Dialect::Chat, Dialect::Responses, Dialect::Messages, Dialect::Completions];

    /// Where it is asked.
    pub fn path(self) -> &'static str {
        match self {
            Dialect::Chat => "/v1/chat/completions",
            Dialect::Responses => "/v1/responses",
            Dialect::Messages => "/v1/messages",
            Dialect::Completions => "/v1/completions",
        }
    }

    /// A question of one turn.
    pub fn question(self, model: &str, text: &str, stream: bool) -> Value {
        let turns = json!([{"role": "user", "content": text}]);
        match self {
            Dialect::Chat if stream => {
                json!({"model": model, "messages": turns, "stream": true, "stream_options": {"include_usage": true}})
            }
            Dialect::Chat => json!({"model": model, "messages": turns}),
            Dialect::Responses => json!({"model": model, "input": turns, "stream": stream}),
            Dialect::Messages => json!({"model": model, "messages": turns, "stream": stream, "max_tokens": 64}),
            Dialect::Completions if stream => {
                json!({"model": model, "prompt": text, "stream": true, "stream_options": {"include_usage": true}})
            }
            Dialect::Completions => json!({"model": model, "prompt": text}),
        }
    }

    /// What a whole answer says.
    pub fn whole(self, reply: &Reply) -> Heard {
        let body = reply.json();
        match self {
            Dialect::Chat => chat_whole(&body),
            Dialect::Completions => Heard { text: text_at(&body["choices"][0], "text"), ..chat_whole(&body) },
            Dialect::Responses => response(&body),
            Dialect::Messages => message(&body),
        }
    }

    /// What a streamed answer says.
    pub fn streamed(self, reply: &Reply) -> Heard {
        match self {
            Dialect::Chat => chat_streamed(&reply.frames()),
            Dialect::Responses => responses_streamed(&reply.named_frames()),
            Dialect::Messages => messages_streamed(&reply.named_frames()),
            Dialect::Completions => {
                let frames = reply.frames();
                let texts = frames.chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str());
                Heard { text: texts.collect(), ..chat_streamed(&frames) }
            }
        }
    }
}

fn text_at(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn tokens(usage: &Value, keys: [&str; 2]) -> Option<(u64, u64)> {
    Some((usage[keys[0]].as_u64()?, usage[keys[1]].as_u64()?))
}

fn chat_whole(body: &Value) -> Heard {
    let choice = &body["choices"][0];
    let call = |call: &Value| {
        (text_at(call, "id"), text_at(&call["function"], "name"), text_at(&call["function"], "arguments"))
    };
    let end = match choice["finish_reason"].as_str() {
        Some("stop") => End::Whole,
        Some("tool_calls") => End::Calls,
        Some("length") => End::Limit,
        _ if body["error"].is_object() => End::Broken,
        _ => End::Untold,
    };
    Heard {
        text: text_at(&choice["message"], "content"),
        calls: choice["message"]["tool_calls"].as_array().into_iter().flatten().map(call).collect(),
        tokens: tokens(&body["usage"], ["prompt_tokens", "completion_tokens"]),
        end,
    }
}

fn chat_streamed(frames: &Frames) -> Heard {
    let end = match frames.finish_reasons().as_slice() {
        ["stop"] if frames.is_complete() => End::Whole,
        ["tool_calls"] if frames.is_complete() => End::Calls,
        ["length"] if frames.is_complete() => End::Limit,
        _ if frames.is_broken_off() => End::Broken,
        _ => End::Untold,
    };
    let usage = frames.usages().last().and_then(|usage| tokens(usage, ["prompt_tokens", "completion_tokens"]));
    Heard { text: frames.text(), calls: frames.calls(), tokens: usage, end }
}

/// A response object.
fn response(body: &Value) -> Heard {
    let items = || body["output"].as_array().into_iter().flatten();
    let parts =
        items().filter(|item| item["type"] == "message").filter_map(|item| item["content"].as_array()).flatten();
    let calls: Vec<_> = items()
        .filter(|item| item["type"] == "function_call")
        .map(|item| (text_at(item, "call_id"), text_at(item, "name"), text_at(item, "arguments")))
        .collect();
    let end = match body["status"].as_str() {
        Some("completed") if calls.is_empty() => End::Whole,
        Some("completed") => End::Calls,
        Some("incomplete") => End::Limit,
        Some("failed") => End::Broken,
        _ if body["error"].is_object() => End::Broken,
        _ => End::Untold,
    };
    let text = parts.filter_map(|part| part["text"].as_str()).collect();
    Heard { text, calls, tokens: tokens(&body["usage"], ["input_tokens", "output_tokens"]), end }
}

/// Deltas and the response at the end must say the same, and the end must be the last event.
fn responses_streamed(frames: &NamedFrames) -> Heard {
    let mut text = String::new();
    let mut calls: BTreeMap<u64, (String, String, String)> = BTreeMap::new();
    let mut ends = 0;
    for (_, event) in &frames.events {
        let at = event["output_index"].as_u64().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "response.output_text.delta" => text.push_str(event["delta"].as_str().unwrap_or_default()),
            "response.output_item.added" if event["item"]["type"] == "function_call" => {
                calls.insert(at, (text_at(&event["item"], "call_id"), text_at(&event["item"], "name"), String::new()));
            }
            "response.function_call_arguments.delta" => {
                if let Some(call) = calls.get_mut(&at) {
                    call.2.push_str(event["delta"].as_str().unwrap_or_default());
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => ends += 1,
            _ => {}
        }
    }
    let numbered = frames.events.iter().enumerate().all(|(at, (_, event))| event["sequence_number"] == at);
    let calls: Vec<_> = calls.into_values().collect();
    let told = response(&frames.last().1["response"]);
    let agrees = told.end == End::Broken || (told.text == text && told.calls == calls);
    let sound = numbered && keeps_ids(frames) && frames.strange.is_empty();
    let end = if ends == 1 && sound && agrees { told.end } else { End::Untold };
    // A client that only looks for `error` must see the break too.
    let has_error = frames.names().contains(&"error");
    let end = if (end == End::Broken) == has_error { end } else { End::Untold };
    Heard { text, calls, tokens: told.tokens, end }
}

/// OpenAI's SDKs hold the answer and its items to the ids and the places they began with.
fn keeps_ids(frames: &NamedFrames) -> bool {
    let (mut answer, mut items) = (None, BTreeMap::new());
    frames.events.iter().all(|(name, event)| {
        let id = &event["response"]["id"];
        if !id.is_null() && *answer.get_or_insert(id) != id {
            return false;
        }
        let Some(at) = event["output_index"].as_u64() else { return true };
        let id = if event["item_id"].is_null() { &event["item"]["id"] } else { &event["item_id"] };
        match name.as_str() {
            "response.output_item.added" => items.insert(at, id).is_none(),
            _ => items.get(&at).is_some_and(|own| id.is_null() || *own == id),
        }
    })
}

/// A message object.
fn message(body: &Value) -> Heard {
    let blocks = || body["content"].as_array().into_iter().flatten();
    let end = match body["stop_reason"].as_str() {
        Some("end_turn") => End::Whole,
        Some("tool_use") => End::Calls,
        Some("max_tokens") => End::Limit,
        _ if body["type"] == "error" => End::Broken,
        _ => End::Untold,
    };
    Heard {
        text: blocks().filter(|block| block["type"] == "text").filter_map(|block| block["text"].as_str()).collect(),
        calls: blocks()
            .filter(|block| block["type"] == "tool_use")
            .map(|block| (text_at(block, "id"), text_at(block, "name"), block["input"].to_string()))
            .collect(),
        tokens: tokens(&body["usage"], ["input_tokens", "output_tokens"]),
        end,
    }
}

/// Blocks open and close in order; the reason comes before the stop, and the stop last. Or an error is last.
fn messages_streamed(frames: &NamedFrames) -> Heard {
    let mut heard = Heard { text: String::new(), calls: Vec::new(), tokens: None, end: End::Untold };
    let (mut reason, mut open, mut sound) = (None, None, frames.strange.is_empty());
    // Counts come in parts: the prompt's with the beginning, unless the end tells them again.
    let mut input = None;
    for (name, event) in &frames.events {
        match name.as_str() {
            "content_block_start" => {
                sound &= open.replace(event["index"].clone()).is_none();
                if event["content_block"]["type"] == "tool_use" {
                    let block = &event["content_block"];
                    heard.calls.push((text_at(block, "id"), text_at(block, "name"), String::new()));
                }
            }
            "content_block_delta" => {
                sound &= open.as_ref() == Some(&event["index"]);
                heard.text.push_str(event["delta"]["text"].as_str().unwrap_or_default());
                if let Some(call) = heard.calls.last_mut() {
                    call.2.push_str(event["delta"]["partial_json"].as_str().unwrap_or_default());
                }
            }
            "content_block_stop" => sound &= open.take().as_ref() == Some(&event["index"]),
            "message_delta" => {
                reason = event["delta"]["stop_reason"].as_str().map(str::to_owned);
                let told = |key: &str| event["usage"][key].as_u64();
                heard.tokens = told("input_tokens").or(input).zip(told("output_tokens"));
            }
            "message_start" => input = event["message"]["usage"]["input_tokens"].as_u64(),
            "message_stop" | "error" => {}
            _ => sound = false,
        }
    }
    heard.end = match (frames.last().0, reason.as_deref()) {
        ("message_stop", Some("end_turn")) if sound && open.is_none() => End::Whole,
        ("message_stop", Some("tool_use")) if sound && open.is_none() => End::Calls,
        ("message_stop", Some("max_tokens")) if sound && open.is_none() => End::Limit,
        ("error", None) if sound => End::Broken,
        _ => End::Untold,
    };
    heard
}
