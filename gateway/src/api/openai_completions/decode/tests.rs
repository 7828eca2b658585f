//! What is taken, what is refused, and with which words.

use serde_json::json;

use super::*;
use crate::api::reading::tests as shared;

#[track_caller]
fn taken(body: Value) -> ChatRequest {
    shared::taken(decode, body)
}

#[track_caller]
fn refused(body: Value, field: &str, says: &str) {
    shared::refused(decode, body.to_string(), field, says);
}

#[test]
fn a_prompt_is_gone_on_with_as_it_stands() {
    let request = taken(json!({"model": "m", "prompt": ["def f(x):"], "stop": ["\n"], "logprobs": 2, "seed": 7}));
    assert_eq!((request.messages.len(), request.messages[0].joined_text().as_str()), (1, "def f(x):"));
    assert!(request.bare_prompt && request.tools.is_empty());
    assert_eq!((request.max_tokens, request.sampling.logprobs), (Some(16), Some(2)));
    assert_eq!((request.sampling.stop, request.sampling.seed), (vec!["\n".to_owned()], Some(7)));
    assert_eq!(request.dialect, Dialect::OpenAiCompletions);
}

#[test]
fn a_gap_is_asked_for() {
    let request = taken(json!({"prompt": "one ", "suffix": " three", "max_tokens": 4}));
    let turn = request.messages[0].joined_text();
    assert!(turn.contains("<before>one </before>") && turn.contains("<after> three</after>"), "{turn}");
    assert_eq!((request.bare_prompt, request.max_tokens), (false, Some(4)));
    assert!(taken(json!({"prompt": "", "suffix": "x"})).messages[0].joined_text().contains("<before></before>"));
    assert!(taken(json!({"prompt": "x", "suffix": ""})).bare_prompt);
}

#[test]
fn fields_are_checked_one_by_one() {
    refused(json!({}), "prompt", "is required");
    refused(json!({"prompt": ""}), "prompt", "must not be empty");
    refused(json!({"prompt": 7}), "prompt", "must be a string");
    refused(json!({"prompt": ["a", "b"]}), "prompt", "one prompt");
    refused(json!({"prompt": [1, 2]}), "prompt", "token ids");
    refused(json!({"prompt": []}), "prompt", "must have one prompt in its list");
    refused(json!({"prompt": "x", "logprobs": 6}), "logprobs", "from 0 to 5");
    refused(json!({"prompt": "x", "logprobs": 1, "echo": true}), "echo", "beside `logprobs`");
    refused(json!({"prompt": "x", "suffix": "y", "echo": true}), "echo", "`suffix`");
    refused(json!({"prompt": "x", "max_tokens": 0}), "max_tokens", "from 1");
    assert_eq!(taken(json!({"prompt": "x", "n": 2, "best_of": 3})).unsupported, ["n", "best_of"]);
}

const WORDS: &[&str] = &["text", "a", "b"];
const FIELDS: &[&str] = &["prompt", "suffix", "echo", "logprobs", "n", "stop", "stream_options", "max_tokens"];

#[test]
fn whatever_comes_is_taken_or_refused_by_name() {
    shared::check_any(decode, "prompt", FIELDS, WORDS);
}
