//! OpenAI completions: text only.

use serde_json::{Value, json};

use super::{Event, Saying, Told};
use crate::fault_upstream::ANSWERING_MODEL;

fn text(saying: &Saying) -> &str {
    match saying {
        Saying::Text(text) => text,
        // The protocol has no calls.
        Saying::Calls(_) => "",
    }
}

fn answer(text: &str, reason: Option<&str>) -> Value {
    let choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason});
    json!({"id": "cmpl-up1", "object": "text_completion", "created": 1, "model": ANSWERING_MODEL, "choices": [choice]})
}

fn usage() -> Value {
    json!({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18})
}

pub(super) fn tell(saying: &Saying, request: &Value) -> Told {
    let mut finish = vec![Event::plain(answer("", Some("stop")))];
    if request["stream_options"]["include_usage"] == true {
        let mut counts = answer("", None);
        (counts["choices"], counts["usage"]) = (json!([]), usage());
        finish.push(Event::plain(counts));
    }
    let words = text(saying).split_inclusive(' ').map(|word| Event::plain(answer(word, None)));
    Told { opening: Vec::new(), content: words.collect(), finish, last: vec![Event::plain("[DONE]")] }
}

pub(super) fn whole(saying: &Saying) -> Value {
    let mut whole = answer(text(saying), Some("stop"));
    whole["usage"] = usage();
    whole
}
