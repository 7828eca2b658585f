//! Streams and documents of a responses server, as events.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::decode::EventDecoder;
use crate::backends::upstream::tests::script::{check, check_promise, check_whole};

fn decoder() -> EventDecoder {
    EventDecoder::new("asked", 9, true)
}

const START: &str = r#"{"type":"response.created","response":{"model":"m","status":"in_progress"}}"#;
const A: &str = r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"a","logprobs":[]}"#;
const CALL: &str = r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","id":"fc1","call_id":"c1","name":"f","arguments":""}}"#;
const DONE: &str = r#"{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":5,"output_tokens":2,"input_tokens_details":{"cached_tokens":4}}}}"#;

fn arguments(kind: &str, place: &Value, text: &str) -> String {
    let key = if kind == "done" { "arguments" } else { "delta" };
    let mut event = place.clone();
    event["type"] = format!("response.function_call_arguments.{kind}").into();
    event[key] = text.into();
    event.to_string()
}

#[test]
fn a_good_stream_ends_once() {
    let part = r#"{"type":"response.content_part.added","output_index":0}"#;
    check(decoder(), &[START, part, A, DONE, DONE, "[DONE]", A], "<m>a#5+2/4!stop");
    let cut_short = r#"{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}}"#;
    check(decoder(), &[START, A, cut_short], "<m>a!length");
    let think = r#"{"type":"response.reasoning_summary_text.delta","delta":"hm"}"#;
    let sealed = r#"{"type":"response.output_item.done","item":{"type":"reasoning","encrypted_content":"s"}}"#;
    check(decoder(), &[START, think, sealed, A, DONE], "<m>(hm)~sa#5+2/4!stop");
    check(EventDecoder::new("asked", 9, false), &[START, think, sealed, A, DONE], "<m>(hm)a#5+2/4!stop");
}

#[test]
fn an_answer_told_at_the_end_only_is_heard() {
    let end = DONE.replace(
        "\"status\":\"completed\",",
        r#""status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"a"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}],"#,
    );
    check(decoder(), &[START, &end], "<m>a[0 f{0 {}}#5+2/4!tool_calls");
    check(decoder(), &[START, A, &end], "<m>a#5+2/4!stop");
}

#[test]
fn what_only_this_dialect_has_a_word_for_is_content_to_those_who_speak_it() {
    let item = json!({"type": "custom_tool_call", "id": "i", "call_id": "c", "name": "f", "input": "x"});
    let told = [
        json!({"type": "response.created", "response": {"model": "m"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
        json!({"type": "response.custom_tool_call_input.delta", "output_index": 0, "delta": "x"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": {"status": "completed", "output": [item]}}),
    ];
    let numbered = told
        .iter()
        .enumerate()
        .map(|(at, event)| crate::api::reading::tests::with(event.clone(), json!({"sequence_number": at})).to_string());
    let pieces: Vec<String> = numbered.collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let call = r#"[0 f{0 {"input":"x"}}!tool_calls"#;
    check(decoder(), &pieces, &format!("<m>**{call}"));
    let whole = json!({"model": "m", "status": "completed", "output": [item]}).to_string();
    check_whole(decoder(), &whole, &format!("<m>{call}"));
    let picture = whole.replace("custom_tool_call", "image_generation_call");
    check_whole(decoder(), &picture, "<m>*!stop");
    check_whole(EventDecoder::new("asked", 9, false), &picture, "<m>!stop");
}

#[test]
fn a_call_in_a_group_goes_by_both_names() {
    let item = json!({"type": "function_call", "id": "i", "call_id": "c", "namespace": "agents", "name": "close", "arguments": "{}"});
    let whole = json!({"model": "m", "status": "completed", "output": [item]}).to_string();
    check_whole(decoder(), &whole, "<m>[0 agents__close{0 {}}!tool_calls");
}

#[test]
fn the_parts_of_a_summary_stand_apart() {
    let part = |at: u32, text: &str| {
        let place = json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": at});
        crate::api::reading::tests::with(place, json!({"delta": text})).to_string()
    };
    let pieces = [START, &part(0, "o"), &part(0, "ne"), &part(1, "two"), A, DONE];
    check(decoder(), &pieces, "<m>(o)(ne)(\n\n)(two)a#5+2/4!stop");
    let whole = r#"{"model":"m","status":"completed","output":[{"type":"reasoning","summary":[{"text":"one"},{"text":"two"}]}]}"#;
    check_whole(decoder(), whole, "<m>(one\n\ntwo)!stop");
}

#[test]
fn thoughts_stand_apart() {
    let thought = |text: &str| json!({"type": "reasoning", "content": [{"type": "reasoning_text", "text": text}]});
    let said = json!({"type": "message", "content": [{"type": "output_text", "text": "a"}]});
    let whole = json!({"model": "m", "status": "completed", "output": [thought("one"), thought("two"), said, thought("three")]});
    check_whole(decoder(), &whole.to_string(), "<m>(one)(\n\n)(two)a(three)!stop");
    let piece = |at: u32, text: &str| {
        json!({"type": "response.reasoning_text.delta", "output_index": at, "delta": text}).to_string()
    };
    let pieces = [START, &piece(0, "o"), &piece(0, "ne"), &piece(1, "two"), A, &piece(3, "three"), DONE];
    check(decoder(), &pieces, "<m>(o)(ne)(\n\n)(two)a(three)#5+2/4!stop");
}

#[test]
fn an_end_is_never_made_up() {
    check(decoder(), &[START, A], "<m>a ERR stream_cut");
    check(decoder(), &[START, A, "[DONE]"], "<m>a ERR stream_cut");
    check(decoder(), &[START, A, "{\"type"], "<m>a ERR stream_cut");
    check(decoder(), &[START, A, "7"], "<m>a ERR stream_cut");
    let failed =
        r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"}}}"#;
    check(decoder(), &[START, A, failed, DONE], "<m>a ERR upstream");
    check(decoder(), &[START, A, &DONE.replace("\"completed\"", "\"cancelled\"")], "<m>a ERR stream_cut");
    check(decoder(), &[r#"{"type":"error","code":"rate_limit_exceeded","message":"x"}"#], " ERR rate_limited");
    check(decoder(), &[r#"{"type":"error","error":{"code":"context_length_exceeded"}}"#], " ERR context_too_long");
}

#[test]
fn parallel_calls_keep_their_arguments_apart() {
    let second =
        CALL.replace("\"output_index\":1", "\"output_index\":2").replace("fc1", "fc2").replace("\"f\"", "\"g\"");
    let (one, two) = (json!({"item_id": "fc1", "output_index": 1}), json!({"item_id": "fc2", "output_index": 2}));
    let pieces = [
        arguments("delta", &one, "{\"x\""),
        arguments("delta", &two, "{}"),
        arguments("delta", &one, ":1}"),
        arguments("done", &one, "{\"x\":1}"),
        arguments("done", &two, "{}"),
    ];
    let mut chunks = vec![START, CALL, second.as_str()];
    chunks.extend(pieces.iter().map(String::as_str));
    chunks.push(DONE);
    check(decoder(), &chunks, r#"<m>[0 f[1 g{0 {"x"}{1 {}}{0 :1}}#5+2/4!tool_calls"#);
}

#[test]
fn arguments_come_once_however_they_come() {
    let place = json!({"item_id": "fc1", "output_index": 1});
    let done = arguments("done", &place, "{\"x\":1}");
    let item = r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","id":"fc1","call_id":"c1","name":"f","arguments":"{\"x\":1}"}}"#;
    let whole = r#"<m>[0 f{0 {"x":1}}#5+2/4!tool_calls"#;
    check(decoder(), &[START, CALL, &done, item, DONE], whole);
    check(decoder(), &[START, CALL, item, DONE], whole);
    check(decoder(), &[START, item, DONE], whole);
    check(decoder(), &[START, CALL, DONE], "<m>[0 f{0 {}}#5+2/4!tool_calls");
    let nowhere = arguments("delta", &json!({}), "{\"x\":1}");
    check(decoder(), &[START, CALL, &nowhere, DONE], whole);
    check(decoder(), &[START, &nowhere], "<m> ERR stream_cut");
}

#[test]
fn a_reused_place_is_another_call() {
    let second = CALL.replace("fc1", "fc2").replace("\"f\"", "\"g\"");
    let place = json!({"output_index": 1});
    let (a, b) = (arguments("delta", &place, "{}"), arguments("delta", &place, "[]"));
    check(decoder(), &[START, CALL, &a, &second, &b, DONE], "<m>[0 f{0 {}}[1 g{1 []}#5+2/4!tool_calls");
}

#[test]
fn a_whole_document_is_taken_too() {
    let whole = json!({"model": "m", "status": "completed", "error": null, "output": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "s"},
        {"type": "message", "content": [{"type": "output_text", "text": "a"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}],
        "usage": {"input_tokens": 1, "output_tokens": 2}});
    check_whole(decoder(), &whole.to_string(), "<m>(hm)~sa[0 f{0 {}}#1+2/0!tool_calls");
    check_whole(decoder(), r#"{"error":{"code":"server_error"}}"#, " ERR upstream");
    check_whole(decoder(), "{}", "<asked> ERR stream_cut");
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_promise(chunks in prop::collection::vec(
        prop::sample::select(vec![START, A, CALL, DONE, "[DONE]", "", "{}", "null", r#"{"type":"response.function_call_arguments.done"}"#]), 0..9,
    )) {
        check_promise(decoder(), &chunks);
    }
}
