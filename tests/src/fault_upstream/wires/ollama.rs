//! Ollama's own: a line of JSON for each piece, calls always whole.

use serde_json::{Value, json};

use super::{Event, Saying, Told};
use crate::fault_upstream::{ANSWERING_MODEL, TOOL_ARGUMENTS};

fn line(message: &Value) -> Value {
    json!({"model": ANSWERING_MODEL, "created_at": "2026-11-24T18:00:00Z", "message": message, "done": false})
}

pub(super) fn tell(saying: &Saying) -> Told {
    let said = |text: &str| json!({"role": "assistant", "content": text});
    let content = match saying {
        Saying::Text(text) => text.split_inclusive(' ').map(|word| Event::plain(line(&said(word)))).collect(),
        Saying::Calls(calls) => (0..calls.count()).map(|_| Event::plain(line(&calling(1)))).collect(),
    };
    let opening = vec![Event::plain(line(&said("")))];
    Told { opening, content, finish: vec![Event::plain(done(line(&said(""))))], last: Vec::new() }
}

fn calling(count: usize) -> Value {
    let arguments: Value = serde_json::from_str(TOOL_ARGUMENTS).unwrap_or_default();
    let call = json!({"function": {"name": "set_light", "arguments": arguments}});
    json!({"role": "assistant", "content": "", "tool_calls": vec![call; count]})
}

fn done(mut line: Value) -> Value {
    line["done"] = true.into();
    line["done_reason"] = "stop".into();
    line["prompt_eval_count"] = 11.into();
    line["eval_count"] = 7.into();
    line
}

pub(super) fn whole(saying: &Saying) -> Value {
    done(line(&match saying {
        Saying::Text(text) => json!({"role": "assistant", "content": text}),
        Saying::Calls(calls) => calling(calls.count()),
    }))
}

pub(super) fn refusal(message: &str) -> Value {
    json!({"error": message})
}
