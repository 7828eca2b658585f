//! The event grammar of `POST /v1/messages`, byte by byte.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::answering::stream::tests::{self as shared, any_events, arguments, call, ends, started, stop, text};

fn write(events: Vec<Event>) -> Vec<String> {
    shared::write(MessagesGrammar::new(Identity { id: "msg_1".into(), created: 9 }, &["END".to_owned()]), true, events)
}

/// Each frame's data without the type, which must be the event's name.
#[track_caller]
fn check(events: Vec<Event>, expect: &[&str]) {
    let short: Vec<String> = write(events)
        .iter()
        .map(|frame| {
            let (name, data) = frame.split_once('\n').expect("two lines");
            let name = name.strip_prefix("event: ").expect("a name");
            let data = data.strip_prefix("data: ").and_then(|data| data.strip_suffix("\n\n")).expect("one event");
            let rest = data.strip_prefix(&format!("{{\"type\":\"{name}\"")).expect("the type is the name");
            format!("{name} {}", rest.trim_start_matches(',').trim_end_matches('}'))
        })
        .collect();
    assert_eq!(short, expect);
}

const START: &str = r#"message_start "message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0"#;
const NO_USAGE: &str =
    r#""usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0"#;

fn end(reason: &str) -> String {
    format!(r#"message_delta "delta":{{"stop_reason":"{reason}","stop_sequence":null}},{NO_USAGE}"#)
}

#[test]
fn frames_are_named_events() {
    let frames = write(vec![started(), text("a\nb"), stop()]);
    assert_eq!(
        frames[1],
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
    );
    assert_eq!(
        frames[2],
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\\nb\"}}\n\n"
    );
    assert_eq!(frames.last().map(String::as_str), Some("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
}

#[test]
fn text_is_one_block() {
    check(
        vec![started(), text("a"), text(""), text("b"), stop()],
        &[
            START,
            r#"content_block_start "index":0,"content_block":{"type":"text","text":"""#,
            r#"content_block_delta "index":0,"delta":{"type":"text_delta","text":"a""#,
            r#"content_block_delta "index":0,"delta":{"type":"text_delta","text":"b""#,
            r#"content_block_stop "index":0"#,
            &end("end_turn"),
            "message_stop ",
        ],
    );
}

#[test]
fn thinking_is_sealed_before_text_and_usage_comes_with_the_end() {
    let usage = Usage { prompt_tokens: 9, completion_tokens: 4, cached_tokens: 3, ..Usage::default() };
    check(
        vec![
            started(),
            Event::ReasoningDelta("hm".into()),
            Event::ReasoningSignature("seal".into()),
            text("a"),
            Event::StoppedAt("END".into()),
            Event::Usage(usage),
            stop(),
        ],
        &[
            START,
            r#"content_block_start "index":0,"content_block":{"type":"thinking","thinking":"","signature":"""#,
            r#"content_block_delta "index":0,"delta":{"type":"thinking_delta","thinking":"hm""#,
            r#"content_block_delta "index":0,"delta":{"type":"signature_delta","signature":"seal""#,
            r#"content_block_stop "index":0"#,
            r#"content_block_start "index":1,"content_block":{"type":"text","text":"""#,
            r#"content_block_delta "index":1,"delta":{"type":"text_delta","text":"a""#,
            r#"content_block_stop "index":1"#,
            r#"message_delta "delta":{"stop_reason":"stop_sequence","stop_sequence":"END"},"usage":{"input_tokens":6,"cache_creation_input_tokens":0,"cache_read_input_tokens":3,"output_tokens":4"#,
            "message_stop ",
        ],
    );
}

/// What a client sees of two calls, however their pieces were mixed.
fn two_calls() -> Vec<String> {
    let part = |at: usize, id: &str, name: &str, pieces: &[&str]| {
        let mut frames = vec![format!(
            r#"content_block_start "index":{at},"content_block":{{"type":"tool_use","id":"{id}","name":"{name}","input":{{"#
        )];
        frames.extend(pieces.iter().map(|piece| {
            format!(r#"content_block_delta "index":{at},"delta":{{"type":"input_json_delta","partial_json":"{piece}""#)
        }));
        frames.push(format!(r#"content_block_stop "index":{at}"#));
        frames
    };
    let mut frames = vec![START.to_owned()];
    frames.extend(part(0, "c1", "f", &[r#"{\"a\":"#, r#"1}"#]));
    frames.extend(part(1, "c2", "g", &[r#"{\"b\":2}"#]));
    frames.extend([end("tool_use"), "message_stop ".to_owned()]);
    frames
}

#[test]
fn parallel_calls_come_one_after_another() {
    let expect = two_calls();
    let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
    let done = || ends(FinishReason::ToolCalls);
    let first = [call(0, "c1", "f"), arguments(0, "{\"a\":"), arguments(0, "1}")];
    let second = [call(1, "c2", "g"), arguments(1, "{\"b\":2}")];
    let in_order = [vec![started()], first.to_vec(), second.to_vec(), vec![done()]].concat();
    check(in_order, &expect);
    let [one, begin, rest] = first;
    let [two, whole] = second;
    check(vec![started(), one.clone(), begin.clone(), two.clone(), whole.clone(), rest.clone(), done()], &expect);
    check(vec![started(), one, two, begin, whole, rest, done()], &expect);
}

#[test]
fn white_space_is_no_arguments() {
    let told = |pieces: &[&str]| -> Vec<Value> {
        let mut events = vec![started(), call(0, "c0", "f")];
        events.extend(pieces.iter().map(|piece| arguments(0, piece)));
        events.push(ends(FinishReason::ToolCalls));
        let frames = write(events);
        let deltas = frames.iter().filter_map(|frame| frame.strip_prefix("event: content_block_delta\ndata: "));
        deltas.map(|data| serde_json::from_str::<Value>(data).expect("JSON")["delta"]["partial_json"].clone()).collect()
    };
    assert_eq!(told(&[" ", "\n"]), Vec::<Value>::new());
    assert_eq!(told(&[" ", "{\"a\":", " ", "1}", "\n"]), ["{\"a\":", " ", "1}"]);
}

#[test]
fn what_is_said_within_a_call_waits_for_its_end() {
    let [begin, rest] = [arguments(0, "{\"a\":"), arguments(0, "1}")];
    let frames = |events: Vec<Event>| {
        let all = [vec![started(), call(0, "c1", "f")], events, vec![ends(FinishReason::ToolCalls)]].concat();
        write(all).concat()
    };
    let mixed = frames(vec![begin.clone(), text("\n"), rest.clone(), text("so")]);
    assert_eq!(mixed, frames(vec![begin.clone(), rest, text("\nso")]));
}

#[test]
fn an_error_ends_the_stream_and_nothing_looks_complete() {
    let cut = r#"error "error":{"type":"api_error","message":"the answer was cut before its end: the backend's stream ended without a finish","code":"stream_cut""#;
    check(
        vec![started(), text("a")],
        &[
            START,
            r#"content_block_start "index":0,"content_block":{"type":"text","text":"""#,
            r#"content_block_delta "index":0,"delta":{"type":"text_delta","text":"a""#,
            cut,
        ],
    );
    check(vec![], &[cut]);
}

#[test]
fn drafts_are_events_that_clients_skip() {
    check(
        vec![started(), Event::Draft { snapshot: "a░".into(), step: 1, masked: 1 }, stop()],
        &[START, r#"weir.draft "draft":{"snapshot":"a░","step":1,"masked":1"#, &end("end_turn"), "message_stop "],
    );
}

#[test]
fn a_block_that_an_upstream_only_began_ends_before_the_next() {
    let block = |kind: &str| json!({"type": "content_block_start", "index": 1, "content_block": {"type": kind}});
    let said = |last: Value| {
        [
            json!({"type": "message_start", "message": {"id": "msg_up"}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}}),
            json!({"type": "content_block_stop", "index": 0}),
            last,
        ]
    };
    let meaning = |event: &Value| event["delta"]["text"].as_str().map(text).into_iter().collect();
    for (kind, expect) in
        [("text", "0start 0stop 1start 1stop"), ("thinking", "0start 0stop 1start 1stop 2start 2stop")]
    {
        let grammar = MessagesGrammar::new(Identity { id: "msg_1".into(), created: 9 }, &[]);
        let told = shared::gone_on(grammar, &said(block(kind)), meaning, vec![text("two"), stop()]);
        let bounds: Vec<String> = told
            .iter()
            .filter_map(|event| {
                let bound = event["type"].as_str()?.strip_prefix("content_block_").filter(|word| *word != "delta")?;
                Some(format!("{}{bound}", event["index"]))
            })
            .collect();
        assert_eq!(bounds.join(" "), expect, "{told:#?}");
    }
}

#[test]
fn an_upstreams_own_call_without_arguments_is_passed_on() {
    let theirs = [
        json!({"type": "message_start", "message": {"id": "msg_up"}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "c1", "name": "f", "input": {}}}),
        json!({"type": "content_block_stop", "index": 0}),
    ];
    // As the decoder tells it: that there are none is known at the end.
    let meaning = |event: &Value| match event["type"].as_str() {
        Some("content_block_start") => vec![call(0, "c1", "f")],
        Some("content_block_stop") => vec![arguments(0, "{}")],
        _ => Vec::new(),
    };
    let grammar = MessagesGrammar::new(Identity { id: "msg_1".into(), created: 9 }, &[]);
    let told = shared::gone_on(grammar, &theirs, meaning, vec![ends(FinishReason::ToolCalls)]);
    assert_eq!(told[..3], theirs);
    assert_eq!((&told[3]["delta"]["stop_reason"], told.len()), (&json!("tool_use"), 5), "{told:#?}");
}

proptest! {
    #[test]
    fn any_stream_ends_once_and_its_blocks_are_well_formed(events in any_events()) {
        let frames = write(events);
        let names: Vec<&str> = frames.iter().map(|frame| &frame["event: ".len()..frame.find('\n').expect("lines")]).collect();
        let count = |name: &str| names.iter().filter(|one| **one == name).count();
        prop_assert_eq!(count("message_stop") + count("error"), 1);
        prop_assert_eq!(count("message_stop"), count("message_delta"));
        let last = *names.last().expect("at least the end");
        prop_assert!(last == "message_stop" || last == "error");
        prop_assert!(frames.iter().all(|frame| frame.matches('\n').count() == 3));
        // Blocks: 0, 1, 2, …, one open at a time, deltas only inside.
        let (mut open, mut next) = (None, 0u64);
        for (name, frame) in names.iter().zip(&frames) {
            let data: serde_json::Value = serde_json::from_str(frame.split_once("data: ").expect("data").1).expect("JSON");
            let index = data["index"].as_u64();
            match *name {
                "message_start" => prop_assert_eq!(next, 0),
                "content_block_start" => {
                    prop_assert_eq!(open, None);
                    prop_assert_eq!(index, Some(next));
                    (open, next) = (index, next + 1);
                }
                "content_block_delta" => prop_assert_eq!(index, open),
                "content_block_stop" => {
                    prop_assert_eq!(index, open.take());
                }
                "message_delta" => prop_assert_eq!(open, None),
                _ => {}
            }
        }
    }
}
