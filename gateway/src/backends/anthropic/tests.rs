//! Streams and documents of a messages server, as events.

use proptest::prelude::*;
use weir_protocol::Event;

use super::decode::EventDecoder;
use crate::backends::upstream::Decoder;
use crate::backends::upstream::tests::script::{check, check_promise, check_whole, show};

fn decoder() -> EventDecoder {
    EventDecoder::new("asked", 9, true)
}

const START: &str = r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}"#;
const TEXT: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
const A: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#;
const CLOSE: &str = r#"{"type":"content_block_stop","index":0}"#;
const END: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;
const CALL: &str =
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}"#;

fn input(index: Option<u64>, json: &str) -> String {
    let mut event =
        serde_json::json!({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": json}});
    if let Some(index) = index {
        event["index"] = index.into();
    }
    event.to_string()
}

#[test]
fn a_good_stream_ends_once() {
    check(decoder(), &[START, r#"{"type":"ping"}"#, TEXT, A, CLOSE, END, STOP, STOP, A], "<m>a#7+2/4!stop");
    check(decoder(), &[START, TEXT, A, END], "<m>a#7+2/4!stop");
    let seen = r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"x"}}"#;
    check(decoder(), &[START, TEXT, A, seen, STOP], "<m>a@x#7+1/4!stop");
}

#[test]
fn an_end_is_never_made_up() {
    check(decoder(), &[START, TEXT, A], "<m>a ERR stream_cut");
    check(decoder(), &[START, TEXT, A, CLOSE, STOP], "<m>a ERR stream_cut");
    check(decoder(), &[START, TEXT, A, "{\"type"], "<m>a ERR stream_cut");
    check(decoder(), &[START, TEXT, A, "7"], "<m>a ERR stream_cut");
    let paused = r#"{"type":"message_delta","delta":{"stop_reason":"pause_turn"}}"#;
    check(EventDecoder::new("asked", 9, false), &[START, TEXT, A, paused, STOP], "<m>a ERR stream_cut");
    check(decoder(), &[START, TEXT, A, paused, STOP], "<m>a ERR stream_cut");
    // A caller of this dialect is shown the word itself, unless it is shown only what was read.
    check(decoder(), &[START, TEXT, A, CLOSE, paused, STOP], "<m>a#7+1/4!stop");
    let busy = r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#;
    check(decoder(), &[START, TEXT, A, busy, STOP], "<m>a ERR upstream");
    check(decoder(), &[r#"{"type":"error","error":{"type":"rate_limit_error"}}"#], " ERR rate_limited");
}

#[test]
fn thinking_is_counted_and_its_seal_is_for_those_who_speak_this_dialect() {
    let seal = r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}"#;
    let end =
        END.replace("\"output_tokens\":2", "\"output_tokens\":2,\"output_tokens_details\":{\"thinking_tokens\":1}");
    for (alike, expect) in [(true, "<m>~s#7+2/4!stop"), (false, "<m>#7+2/4!stop")] {
        let mut decoder = EventDecoder::new("asked", 9, alike);
        let mut events = Vec::new();
        for piece in [START, &TEXT.replace("\"text\"", "\"thinking\""), seal, CLOSE, &end, STOP] {
            decoder.take(piece, &mut events).expect("a good stream");
        }
        assert_eq!(events.iter().map(show).collect::<String>(), expect);
        let counted = events.iter().find_map(|event| match event {
            Event::Usage(usage) => Some(usage.reasoning_tokens),
            _ => None,
        });
        assert_eq!(counted, Some(1));
    }
}

#[test]
fn calls_keep_their_arguments_apart() {
    let second = CALL.replace("\"index\":1", "\"index\":2").replace("t1", "t2").replace("\"f\"", "\"g\"");
    let (a, b, c) = (input(Some(1), "{\"x\""), input(Some(2), "{}"), input(Some(1), ":1}"));
    let end = END.replace("end_turn", "tool_use");
    let chunks = [START, CALL, second.as_str(), &a, &b, &c, &end, STOP];
    check(decoder(), &chunks, r#"<m>[0 f[1 g{0 {"x"}{1 {}}{0 :1}}#7+2/4!tool_calls"#);
}

#[test]
fn calls_without_index_or_with_a_reused_one_are_told_apart() {
    let bare = CALL.replace("\"index\":1,", "");
    let (a, b) = (input(None, "{}"), input(None, "[]"));
    check(decoder(), &[START, &bare, &a, &bare, &b, END, STOP], "<m>[0 f{0 {}}[1 f{1 []}#7+2/4!tool_calls");
    let (a, b) = (input(Some(1), "{}"), input(Some(1), "[]"));
    check(decoder(), &[START, CALL, &a, CALL, &b, END, STOP], "<m>[0 f{0 {}}[1 f{1 []}#7+2/4!tool_calls");
    check(decoder(), &[START, TEXT, &input(Some(0), "{}")], "<m> ERR stream_cut");
}

#[test]
fn a_call_without_arguments_has_none() {
    let empty = input(Some(1), "");
    check(decoder(), &[START, CALL, &empty, END, STOP], "<m>[0 f{0 {}}#7+2/4!tool_calls");
    let at_once = CALL.replace("\"input\":{}", "\"input\":{\"x\":1}");
    check(decoder(), &[START, &at_once, END, STOP], r#"<m>[0 f{0 {"x":1}}#7+2/4!tool_calls"#);
}

#[test]
fn what_only_this_dialect_has_a_word_for_is_content_to_those_who_speak_it() {
    let tool = CALL.replace("\"index\":1", "\"index\":0").replace("tool_use", "server_tool_use");
    let (query, paused) = (input(Some(0), "{\"q\":1}"), END.replace("end_turn", "pause_turn"));
    let told = [START, &tool, &query, CLOSE, &paused, STOP];
    check(decoder(), &told, "<m>**#7+2/4!stop");
    check(EventDecoder::new("asked", 9, false), &told, "<m> ERR stream_cut");
    let whole = r#"{"model":"m","content":[{"type":"server_tool_use","id":"s","name":"f","input":{}}],"stop_reason":"pause_turn"}"#;
    check_whole(decoder(), whole, "<m>*!stop");
}

#[test]
fn numbers_of_arguments_keep_their_digits() {
    let long = r#"{"n":12345678901234567890123}"#;
    let at_once = CALL.replace("\"input\":{}", &format!("\"input\":{long}"));
    check(decoder(), &[START, &at_once, END, STOP], &format!("<m>[0 f{{0 {long}}}#7+2/4!tool_calls"));
    let block = format!(r#"{{"type":"tool_use","id":"t","name":"f","input":{long}}}"#);
    let whole = format!(r#"{{"model":"m","content":[{{"type":"text","text":"a"}},{block}],"stop_reason":"tool_use"}}"#);
    check_whole(decoder(), &whole, &format!("<m>a[0 f{{0 {long}}}!tool_calls"));
}

#[test]
fn reasoning_keeps_its_seal() {
    let open = r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#;
    let think = r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#;
    let seal = r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}"#;
    check(decoder(), &[START, open, think, seal, CLOSE, TEXT, A, END, STOP], "<m>(hm)~sa#7+2/4!stop");
}

#[test]
fn a_whole_document_is_taken_too() {
    let whole = r#"{"type":"message","model":"m","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"a"},
        {"type":"tool_use","id":"t","name":"f","input":{"x":1}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":2}}"#;
    check_whole(decoder(), whole, r#"<m>(hm)~sa[0 f{0 {"x":1}}#1+2/0!tool_calls"#);
    let calls = r#"{"model":"m","content":[{"type":"tool_use","id":"t","name":"f","input":{}},{"type":"text","text":"a"}],"stop_reason":"tool_use"}"#;
    check_whole(decoder(), calls, "<m>[0 f{0 {}}a!tool_calls");
    check_whole(decoder(), r#"{"type":"error","error":{"type":"overloaded_error"}}"#, " ERR upstream");
    check_whole(decoder(), "{}", "<asked> ERR stream_cut");
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_promise(chunks in prop::collection::vec(
        prop::sample::select(vec![START, TEXT, A, CLOSE, END, STOP, CALL, "", "{}", "null", r#"{"type":"content_block_delta"}"#]), 0..9,
    )) {
        check_promise(decoder(), &chunks);
    }
}
