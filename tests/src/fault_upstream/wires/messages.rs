//! Anthropic messages.

use serde_json::{Value, json};

use super::{Calls, Event, Saying, Told};
use crate::fault_upstream::{ANSWERING_MODEL, TOOL_ARGUMENTS};

fn event(data: &Value) -> Event {
    Event { name: Some(data["type"].as_str().unwrap_or_default().to_owned()), data: data.to_string() }
}

pub(super) fn tell(saying: &Saying) -> Told {
    let message = json!({"id": "msg_up1", "type": "message", "role": "assistant", "model": ANSWERING_MODEL, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 11, "output_tokens": 1}});
    let mut opening = vec![event(&json!({"type": "message_start", "message": message}))];
    let (content, reason, open) = match saying {
        Saying::Text(text) => {
            let block = json!({"type": "text", "text": ""});
            opening.push(event(&json!({"type": "content_block_start", "index": 0, "content_block": block})));
            opening.push(event(&json!({"type": "ping"})));
            let delta = |word: &str| {
                event(
                    &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}),
                )
            };
            (text.split_inclusive(' ').map(delta).collect(), "end_turn", vec![Some(0)])
        }
        Saying::Calls(calls) => {
            (self::calls(*calls), "tool_use", (0..calls.count()).map(|at| calls.index(at)).collect())
        }
    };
    let mut finish: Vec<Event> =
        open.into_iter().flatten().map(|index| event(&json!({"type": "content_block_stop", "index": index}))).collect();
    finish.push(event(&json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 7}})));
    Told { opening, content, finish, last: vec![event(&json!({"type": "message_stop"}))] }
}

fn calls(calls: Calls) -> Vec<Event> {
    let placed = |at: usize, mut data: Value| {
        if let Some(index) = calls.index(at) {
            data["index"] = index.into();
        }
        event(&data)
    };
    let open = |at: usize| {
        let block = json!({"type": "tool_use", "id": format!("call_up{}", at + 1), "name": "set_light", "input": {}});
        placed(at, json!({"type": "content_block_start", "content_block": block}))
    };
    super::pieces(calls, TOOL_ARGUMENTS, open, |at, text| {
        placed(at, json!({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": text}}))
    })
}

pub(super) fn whole(saying: &Saying) -> Value {
    let (content, reason) = match saying {
        Saying::Text(text) => (json!([{"type": "text", "text": text}]), "end_turn"),
        Saying::Calls(calls) => {
            let input: Value = serde_json::from_str(TOOL_ARGUMENTS).unwrap_or_default();
            let block = |at| json!({"type": "tool_use", "id": format!("call_up{}", at + 1), "name": "set_light", "input": input});
            ((0..calls.count()).map(block).collect(), "tool_use")
        }
    };
    json!({"id": "msg_up1", "type": "message", "role": "assistant", "model": ANSWERING_MODEL, "content": content,
        "stop_reason": reason, "stop_sequence": null, "usage": {"input_tokens": 11, "output_tokens": 7}})
}

pub(super) fn refusal(message: &str, code: &str) -> Value {
    json!({"type": "error", "error": {"type": code, "message": message}})
}

pub(super) fn error(message: &str) -> Event {
    event(&refusal(message, "api_error"))
}
