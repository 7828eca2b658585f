//! OpenAI chat completions.

use serde_json::{Value, json};

use super::{Calls, Event, Saying, Told};
use crate::fault_upstream::{ANSWERING_MODEL, TOOL_ARGUMENTS};

fn chunk(delta: &Value, reason: Option<&str>) -> Event {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
    Event::plain(
        json!({"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": ANSWERING_MODEL, "choices": [choice]}),
    )
}

pub(super) fn tell(saying: &Saying, request: &Value) -> Told {
    let (content, reason) = match saying {
        Saying::Text(text) => {
            (text.split_inclusive(' ').map(|word| chunk(&json!({"content": word}), None)).collect(), "stop")
        }
        Saying::Calls(calls) => (self::calls(*calls), "tool_calls"),
    };
    let mut finish = vec![chunk(&json!({}), Some(reason))];
    if request["stream_options"]["include_usage"] == true {
        finish.push(Event::plain(json!({"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": ANSWERING_MODEL, "choices": [], "usage": usage()})));
    }
    Told {
        opening: vec![chunk(&json!({"role": "assistant", "content": ""}), None)],
        content,
        finish,
        last: vec![Event::plain("[DONE]")],
    }
}

fn calls(calls: Calls) -> Vec<Event> {
    let piece = |at: usize, mut entry: Value| {
        if let Some(index) = calls.index(at) {
            entry["index"] = index.into();
        }
        chunk(&json!({"tool_calls": [entry]}), None)
    };
    let open = |at: usize| {
        let function = json!({"name": "set_light", "arguments": ""});
        piece(at, json!({"id": format!("call_up{}", at + 1), "type": "function", "function": function}))
    };
    super::pieces(calls, TOOL_ARGUMENTS, open, |at, text| piece(at, json!({"function": {"arguments": text}})))
}

pub(super) fn whole(saying: &Saying) -> Value {
    let (message, reason) = match saying {
        Saying::Text(text) => (json!({"role": "assistant", "content": text}), "stop"),
        Saying::Calls(calls) => {
            let call = |at| json!({"id": format!("call_up{}", at + 1), "type": "function", "function": {"name": "set_light", "arguments": TOOL_ARGUMENTS}});
            let calls: Vec<Value> = (0..calls.count()).map(call).collect();
            (json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
        }
    };
    let choice = json!({"index": 0, "message": message, "finish_reason": reason});
    json!({"id": "up-1", "object": "chat.completion", "created": 1, "model": ANSWERING_MODEL, "choices": [choice], "usage": usage()})
}

fn usage() -> Value {
    json!({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18})
}

pub(super) fn refusal(message: &str, code: &str) -> Value {
    json!({"error": {"message": message, "type": "upstream_says", "param": null, "code": code}})
}
