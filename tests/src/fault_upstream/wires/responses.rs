//! OpenAI responses.

use serde_json::{Value, json};

use super::{Calls, Event, Saying, Told};
use crate::fault_upstream::{ANSWERING_MODEL, TOOL_ARGUMENTS};

fn event(data: Value) -> Event {
    let name = data["type"].as_str().unwrap_or_default().to_owned();
    Event { name: Some(name), data: data.to_string() }
}

/// Numbers count up in a stream.
fn number(events: &mut [&mut [Event]]) {
    for (number, event) in events.iter_mut().flat_map(|events| events.iter_mut()).enumerate() {
        let mut data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        data["sequence_number"] = number.into();
        event.data = data.to_string();
    }
}

fn response(status: &str, output: &Value) -> Value {
    json!({"id": "resp_up1", "object": "response", "created_at": 1, "model": ANSWERING_MODEL, "status": status, "output": output})
}

pub(super) fn tell(saying: &Saying) -> Told {
    let begun = response("in_progress", &json!([]));
    let mut opening = vec![
        event(json!({"type": "response.created", "response": begun})),
        event(json!({"type": "response.in_progress", "response": begun})),
    ];
    let mut finish = Vec::new();
    let mut content: Vec<Event> = match saying {
        Saying::Text(text) => {
            let item = json!({"id": "msg_up1", "type": "message", "role": "assistant", "status": "in_progress", "content": []});
            let part = json!({"type": "output_text", "text": "", "annotations": []});
            opening.push(event(json!({"type": "response.output_item.added", "output_index": 0, "item": item})));
            opening.push(event(json!({"type": "response.content_part.added", "item_id": "msg_up1", "output_index": 0, "content_index": 0, "part": part})));
            finish.push(event(json!({"type": "response.output_text.done", "item_id": "msg_up1", "output_index": 0, "content_index": 0, "text": text})));
            let delta = |word: &str| {
                event(
                    json!({"type": "response.output_text.delta", "item_id": "msg_up1", "output_index": 0, "content_index": 0, "delta": word}),
                )
            };
            text.split_inclusive(' ').map(delta).collect()
        }
        Saying::Calls(calls) => {
            finish.extend((0..calls.count()).filter(|_| calls.index(0).is_some()).map(|at| {
                placed(
                    *calls,
                    at,
                    json!({"type": "response.function_call_arguments.done", "arguments": TOOL_ARGUMENTS}),
                )
            }));
            self::calls(*calls)
        }
    };
    let mut done = response("completed", &output(saying));
    done["usage"] = usage();
    finish.push(event(json!({"type": "response.completed", "response": done})));
    number(&mut [&mut opening, &mut content, &mut finish]);
    Told { opening, content, finish, last: Vec::new() }
}

/// An event of a call: items are told apart by id, and by place.
fn placed(calls: Calls, at: usize, mut data: Value) -> Event {
    if let Some(index) = calls.index(at) {
        data["output_index"] = index.into();
        data["item_id"] = format!("fc_up{}", at + 1).into();
    }
    event(data)
}

fn calls(calls: Calls) -> Vec<Event> {
    let open = |at: usize| {
        let item = json!({"id": format!("fc_up{}", at + 1), "type": "function_call", "status": "in_progress",
            "call_id": format!("call_up{}", at + 1), "name": "set_light", "arguments": ""});
        placed(calls, at, json!({"type": "response.output_item.added", "item": item}))
    };
    super::pieces(calls, TOOL_ARGUMENTS, open, |at, text| {
        placed(calls, at, json!({"type": "response.function_call_arguments.delta", "delta": text}))
    })
}

fn output(saying: &Saying) -> Value {
    match saying {
        Saying::Text(text) => json!([{"id": "msg_up1", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}]}]),
        Saying::Calls(calls) => {
            let item = |at| {
                json!({"id": format!("fc_up{}", at + 1), "type": "function_call", "status": "completed",
                "call_id": format!("call_up{}", at + 1), "name": "set_light", "arguments": TOOL_ARGUMENTS})
            };
            (0..calls.count()).map(item).collect()
        }
    }
}

pub(super) fn whole(saying: &Saying) -> Value {
    let mut response = response("completed", &output(saying));
    response["error"] = Value::Null;
    response["usage"] = usage();
    response
}

fn usage() -> Value {
    json!({"input_tokens": 11, "output_tokens": 7, "total_tokens": 18})
}

pub(super) fn error(message: &str) -> Event {
    event(json!({"type": "error", "code": "broken_on_command", "message": message, "param": null}))
}
