//! The event grammar of `POST /v1/responses`, byte by byte.

mod odd_tools;

use proptest::prelude::*;
use serde_json::json;
use weir_protocol::{TokenChance, Tool};

use super::*;
use crate::api::answering::stream::tests::{self as shared, any_events, arguments, call, ends, started, stop, text};

fn write(events: Vec<Event>) -> Vec<String> {
    let identity = Identity { id: "resp_1".into(), created: 9 };
    let grouped = Some(("agents".into(), "close".into()));
    let tools = vec![
        Tool { name: "patch".into(), freeform: true, ..Tool::default() },
        Tool { name: "agents__close".into(), grouped, ..Tool::default() },
    ];
    shared::write(ResponsesGrammar::new(identity, &ChatRequest { tools, ..ChatRequest::default() }), true, events)
}

/// Each frame's data without the type (which must be the event's name) and the number (which must be its place), and
/// without what each whole response tells back.
#[track_caller]
fn check(events: Vec<Event>, expect: &[&str]) {
    let echo = serde_json::to_string(&Echo(&Arc::new(Map::new()))).expect("plain data");
    let echo = format!("{},", echo.trim_start_matches('{').trim_end_matches('}'));
    let short: Vec<String> = write(events)
        .iter()
        .enumerate()
        .map(|(at, frame)| {
            let (name, data) = frame.split_once('\n').expect("two lines");
            let name = name.strip_prefix("event: ").expect("a name");
            let data = data.strip_prefix("data: ").and_then(|data| data.strip_suffix("\n\n")).expect("one event");
            let begin = format!("{{\"type\":\"{name}\",\"sequence_number\":{at},");
            let rest = data.strip_prefix(&begin).expect("the type is the name, numbers count");
            let rest = rest.strip_suffix('}').expect("an object").replace(&echo, "");
            format!("{} {rest}", name.trim_start_matches("response."))
        })
        .collect();
    assert_eq!(short, expect);
}

fn whole(kind: &str, status: &str, error: &str, lacks: &str, output: &str, usage: &str) -> String {
    format!(
        r#"{kind} "response":{{"id":"resp_1","object":"response","created_at":9,"status":"{status}","error":{error},"incomplete_details":{lacks},"model":"m","output":[{output}],"usage":{usage}}}"#
    )
}

fn beginning() -> [String; 2] {
    ["created", "in_progress"].map(|kind| whole(kind, "in_progress", "null", "null", "", "null"))
}

/// The beginning, these and the end.
fn between(between: &[&str], end: String) -> Vec<String> {
    beginning().into_iter().chain(between.iter().map(|&frame| frame.to_owned())).chain([end]).collect()
}

#[track_caller]
fn check_all(events: Vec<Event>, expect: &[String]) {
    let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
    check(events, &expect);
}

const MESSAGE: &str = r#"{"type":"message","id":"msg_1_0","status":"completed","role":"assistant","content":[{"type":"output_text","text":"a\nb","annotations":[],"logprobs":[]}]}"#;
const MESSAGE_ADDED: &str = r#"output_item.added "output_index":0,"item":{"type":"message","id":"msg_1_0","status":"in_progress","role":"assistant","content":[]}"#;
const PART_ADDED: &str = r#"content_part.added "item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}"#;

#[test]
fn text_is_one_message() {
    let usage = Usage { prompt_tokens: 5, completion_tokens: 2, ..Usage::default() };
    let counted = r#"{"input_tokens":5,"input_tokens_details":{"cached_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":7}"#;
    check_all(
        vec![started(), text("a"), text(""), text("\nb"), Event::Usage(usage), stop()],
        &between(
            &[
                MESSAGE_ADDED,
                PART_ADDED,
                r#"output_text.delta "item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"a","logprobs":[]"#,
                r#"output_text.delta "item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"\nb","logprobs":[]"#,
                r#"output_text.done "item_id":"msg_1_0","output_index":0,"content_index":0,"text":"a\nb","logprobs":[]"#,
                r#"content_part.done "item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"a\nb","annotations":[],"logprobs":[]}"#,
                &format!(r#"output_item.done "output_index":0,"item":{MESSAGE}"#),
            ],
            whole("completed", "completed", "null", "null", MESSAGE, counted),
        ),
    );
}

#[test]
fn a_refusal_is_a_part_of_its_own_kind() {
    let item = r#"{"type":"message","id":"msg_1_0","status":"completed","role":"assistant","content":[{"type":"refusal","refusal":"no"}]}"#;
    check_all(
        vec![started(), Event::RefusalDelta("no".into()), stop()],
        &between(
            &[
                MESSAGE_ADDED,
                r#"content_part.added "item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"refusal","refusal":""}"#,
                r#"refusal.delta "item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"no""#,
                r#"refusal.done "item_id":"msg_1_0","output_index":0,"content_index":0,"refusal":"no""#,
                r#"content_part.done "item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"refusal","refusal":"no"}"#,
                &format!(r#"output_item.done "output_index":0,"item":{item}"#),
            ],
            whole("completed", "completed", "null", "null", item, "null"),
        ),
    );
}

#[test]
fn log_probabilities_come_with_their_text_or_with_its_end() {
    let about = |token: &str| {
        let chosen = TokenChance { token: token.into(), logprob: -0.5, bytes: None };
        Event::Logprobs(vec![TokenLogprob { chosen, top: Vec::new() }])
    };
    let body = |token: &str| format!(r#"{{"token":"{token}","logprob":-0.5,"bytes":null,"top_logprobs":[]}}"#);
    let frames = write(vec![started(), about("a"), text("a"), about("b"), stop()]);
    assert!(frames[4].contains(&format!(r#""delta":"a","logprobs":[{}]"#, body("a"))), "{}", frames[4]);
    assert!(frames[5].contains(&format!(r#""text":"a","logprobs":[{},{}]"#, body("a"), body("b"))), "{}", frames[5]);
}

#[test]
fn reasoning_is_an_item_with_its_seal() {
    let item = r#"{"type":"reasoning","id":"rs_1_0","summary":[],"content":[{"type":"reasoning_text","text":"hm"}],"encrypted_content":"seal","status":"completed"}"#;
    check_all(
        vec![started(), Event::ReasoningDelta("hm".into()), Event::ReasoningSignature("seal".into()), stop()],
        &between(
            &[
                r#"output_item.added "output_index":0,"item":{"type":"reasoning","id":"rs_1_0","summary":[],"content":[],"status":"in_progress"}"#,
                r#"content_part.added "item_id":"rs_1_0","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""}"#,
                r#"reasoning_text.delta "item_id":"rs_1_0","output_index":0,"content_index":0,"delta":"hm""#,
                r#"reasoning_text.done "item_id":"rs_1_0","output_index":0,"content_index":0,"text":"hm""#,
                r#"content_part.done "item_id":"rs_1_0","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"hm"}"#,
                &format!(r#"output_item.done "output_index":0,"item":{item}"#),
            ],
            whole("completed", "completed", "null", "null", item, "null"),
        ),
    );
}

#[test]
fn calls_are_items_and_may_be_mixed() {
    let call_item = |at: usize, status: &str, id: &str, name: &str, arguments: &str| {
        format!(
            r#"{{"type":"function_call","id":"fc_1_{at}","status":"{status}","call_id":"{id}","name":"{name}","arguments":"{arguments}"}}"#
        )
    };
    let first = call_item(0, "completed", "c1", "f", r#"{\"a\":1}"#);
    let second = call_item(1, "completed", "c2", "g", "{}");
    let events = vec![
        started(),
        call(0, "c1", "f"),
        arguments(0, "{\"a\":"),
        call(1, "c2", "g"),
        arguments(1, "{}"),
        arguments(0, "1}"),
        ends(FinishReason::ToolCalls),
    ];
    check_all(
        events,
        &between(
            &[
                &format!(r#"output_item.added "output_index":0,"item":{}"#, call_item(0, "in_progress", "c1", "f", "")),
                r#"function_call_arguments.delta "item_id":"fc_1_0","output_index":0,"delta":"{\"a\":""#,
                &format!(r#"output_item.added "output_index":1,"item":{}"#, call_item(1, "in_progress", "c2", "g", "")),
                r#"function_call_arguments.delta "item_id":"fc_1_1","output_index":1,"delta":"{}""#,
                r#"function_call_arguments.delta "item_id":"fc_1_0","output_index":0,"delta":"1}""#,
                r#"function_call_arguments.done "item_id":"fc_1_0","output_index":0,"name":"f","arguments":"{\"a\":1}""#,
                &format!(r#"output_item.done "output_index":0,"item":{first}"#),
                r#"function_call_arguments.done "item_id":"fc_1_1","output_index":1,"name":"g","arguments":"{}""#,
                &format!(r#"output_item.done "output_index":1,"item":{second}"#),
            ],
            whole("completed", "completed", "null", "null", &format!("{first},{second}"), "null"),
        ),
    );
}

#[test]
fn a_cut_answer_says_what_it_lacks() {
    let frames = write(vec![started(), text("a"), ends(FinishReason::Length)]);
    let last = frames.last().expect("the end");
    assert!(last.starts_with("event: response.incomplete\n"), "{last}");
    assert!(last.contains(r#""status":"incomplete","error":null,"incomplete_details":{"reason":"max_output_tokens"}"#));
    assert!(last.contains(r#""id":"msg_1_0","status":"incomplete""#), "{last}");
}

#[test]
fn an_error_ends_the_stream_and_nothing_looks_complete() {
    let message = "the answer was cut before its end: the backend's stream ended without a finish";
    let error = format!(r#"error "code":"stream_cut","message":"{message}","param":null"#);
    let failed = format!(r#"{{"code":"server_error","message":"{message}"}}"#);
    check_all(
        vec![started(), text("a")],
        &between(
            &[
                MESSAGE_ADDED,
                PART_ADDED,
                r#"output_text.delta "item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"a","logprobs":[]"#,
                &error,
            ],
            whole("failed", "failed", &failed, "null", "", "null"),
        ),
    );
}

#[test]
fn drafts_are_events_that_clients_skip() {
    let frames = write(vec![started(), Event::Draft { snapshot: "a░".into(), step: 1, masked: 1 }, stop()]);
    assert_eq!(
        frames[2],
        "event: weir.draft\ndata: {\"type\":\"weir.draft\",\"sequence_number\":2,\"draft\":{\"snapshot\":\"a░\",\"step\":1,\"masked\":1}}\n\n"
    );
}

proptest! {
    #[test]
    fn any_stream_ends_once_and_its_items_are_well_formed(events in any_events()) {
        let frames = write(events);
        let read: Vec<Value> = frames.iter().map(|frame| {
            let data = frame.split_once("data: ").expect("data").1;
            serde_json::from_str(data).expect("JSON")
        }).collect();
        prop_assert!(frames.iter().all(|frame| frame.matches('\n').count() == 3));
        let kinds: Vec<&str> = read.iter().map(|data| data["type"].as_str().unwrap_or_default()).collect();
        let count = |name: &str| kinds.iter().filter(|kind| **kind == name).count();
        let ends = count("response.completed") + count("response.incomplete") + count("response.failed");
        prop_assert_eq!(ends, 1);
        prop_assert_eq!(count("error"), count("response.failed"));
        let last = read.last().expect("at least the end");
        let end = last["type"].as_str().unwrap_or_default();
        prop_assert!(matches!(end, "response.completed" | "response.incomplete" | "response.failed"));
        for (at, data) in read.iter().enumerate() {
            prop_assert_eq!(data["sequence_number"].as_u64(), Some(at as u64));
        }
        // A complete answer: each item was added once and done once, and the whole holds what was done.
        if end != "response.failed" {
            prop_assert_eq!(count("response.output_item.added"), count("response.output_item.done"));
            let mut done: Vec<&Value> = read.iter().filter(|data| data["type"] == "response.output_item.done").collect();
            done.sort_by_key(|data| data["output_index"].as_u64());
            let items: Vec<&Value> = done.into_iter().map(|data| &data["item"]).collect();
            let whole: Vec<&Value> = last["response"]["output"].as_array().into_iter().flatten().collect();
            prop_assert_eq!(items, whole);
        }
    }
}

/// The data of frames that began in the upstream's own words and went on in ours.
fn after(theirs: &[Value], meaning: impl Fn(&Value) -> Vec<Event>, rest: Vec<Event>) -> Vec<Value> {
    let mut theirs = theirs.to_vec();
    theirs.iter_mut().enumerate().for_each(|(at, event)| event["sequence_number"] = at.into());
    let identity = Identity { id: "resp_1".into(), created: 9 };
    shared::gone_on(ResponsesGrammar::new(identity, &ChatRequest::default()), &theirs, meaning, rest)
}

/// What an upstream of OpenAI's own kind says: it thinks out of sight, and then speaks.
fn theirs(ends_message: bool) -> Vec<Value> {
    let reasoning = json!({"type": "reasoning", "id": "rs_up", "summary": []});
    let message = json!({"type": "message", "id": "msg_up", "role": "assistant", "content": []});
    let mut said = vec![
        json!({"type": "response.created", "response": {"id": "resp_up", "output": []}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": reasoning}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": message}),
        json!({"type": "response.content_part.added", "item_id": "msg_up", "output_index": 1, "content_index": 0}),
        json!({"type": "response.output_text.delta", "item_id": "msg_up", "output_index": 1, "delta": "one "}),
    ];
    if ends_message {
        said.push(json!({"type": "response.output_item.done", "output_index": 1, "item": message}));
    }
    said
}

fn meaning(event: &Value) -> Vec<Event> {
    event["delta"].as_str().map(text).into_iter().collect()
}

#[test]
fn what_began_in_an_upstreams_words_keeps_its_ids_when_it_goes_on() {
    for ends_message in [false, true] {
        let before = theirs(ends_message);
        let told = after(&before, meaning, vec![text("two"), stop()]);
        let numbers = told.iter().map(|event| event["sequence_number"].as_u64());
        assert!(numbers.eq((0..told.len() as u64).map(Some)), "{told:#?}");
        let (ours, last) = (&told[before.len()..], &told[told.len() - 1]);
        let place = |event: &Value| (event["output_index"].as_u64(), event["item_id"].as_str().map(str::to_owned));
        let delta = ours.iter().find(|event| event["type"] == "response.output_text.delta").expect("text");
        let ids: Vec<&str> = last["response"]["output"]
            .as_array()
            .expect("items")
            .iter()
            .filter_map(|item| item["id"].as_str())
            .collect();
        assert_eq!(last["response"]["id"], "resp_up", "{last:#}");
        if ends_message {
            assert_eq!(place(delta), (Some(2), Some("msg_1_2".into())));
            assert_eq!(ids, ["rs_up", "msg_up", "msg_1_2"]);
        } else {
            assert_eq!(place(delta), (Some(1), Some("msg_up".into())));
            assert_eq!(ids, ["rs_up", "msg_up"]);
            assert_eq!(last["response"]["output"][1]["content"][0]["text"], "one two");
        }
    }
}

#[test]
fn what_began_in_an_upstreams_words_keeps_its_ids_when_it_breaks_off() {
    let told = after(&theirs(false), meaning, Vec::new());
    let last = &told[told.len() - 1];
    assert_eq!((&last["type"], &last["response"]["id"]), (&json!("response.failed"), &json!("resp_up")), "{last:#}");
    assert_eq!(last["response"]["output"], json!([{"type": "reasoning", "id": "rs_up", "summary": []}]));
}

#[test]
fn calls_keep_their_places_too() {
    let call_item = json!({"type": "function_call", "id": "fc_up", "call_id": "c1", "name": "f", "arguments": ""});
    let said = [
        json!({"type": "response.created", "response": {"id": "resp_up"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_up"}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "reasoning", "id": "rs_up"}}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": call_item}),
    ];
    let meaning = |event: &Value| match event["item"]["call_id"].as_str() {
        Some(id) => vec![call(0, id, "f")],
        None => Vec::new(),
    };
    let rest = vec![arguments(0, "{}"), call(1, "c2", "g"), arguments(1, "{}"), ends(FinishReason::ToolCalls)];
    let told = after(&said, meaning, rest);
    let output = told[told.len() - 1]["response"]["output"].as_array().expect("items").clone();
    let ids: Vec<&str> = output.iter().filter_map(|item| item["id"].as_str()).collect();
    assert_eq!(ids, ["rs_up", "fc_up", "fc_1_2"], "{told:#?}");
}

#[test]
fn thoughts_that_began_in_an_upstreams_words_are_an_item_that_ends() {
    let said = [
        json!({"type": "response.created", "response": {"id": "resp_up"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_up"}}),
        json!({"type": "response.reasoning_summary_text.delta", "item_id": "rs_up", "output_index": 0, "summary_index": 0, "delta": "hm"}),
    ];
    let meaning =
        |event: &Value| event["delta"].as_str().map(|said| Event::ReasoningDelta(said.into())).into_iter().collect();
    let told = after(&said, meaning, vec![Event::ReasoningDelta("so".into()), text("one"), stop()]);
    let items = |kind: &str| -> Vec<String> {
        let of_kind = told.iter().filter(|event| event["type"] == kind);
        of_kind.map(|event| format!("{} {}", event["output_index"], event["item"]["id"])).collect()
    };
    let done = items("response.output_item.done");
    assert_eq!(items("response.output_item.added"), done);
    assert_eq!(done, [r#"0 "rs_up""#, r#"1 "rs_1_1""#, r#"2 "msg_1_2""#]);
    assert_eq!(told[told.len() - 1]["response"]["output"][0]["content"], json!([]), "nobody there could read it again");
}

#[test]
fn what_an_upstream_only_began_is_an_item_that_ends() {
    let mut said = theirs(true);
    let message = json!({"type": "message", "id": "msg_2", "status": "in_progress", "content": []});
    said.push(json!({"type": "response.output_item.added", "output_index": 2, "item": message}));
    let told = after(&said, meaning, vec![text("two"), stop()]);
    let done: Vec<&Value> = told.iter().filter(|event| event["type"] == "response.output_item.done").collect();
    let ids: Vec<&Value> = done.iter().map(|event| &event["item"]["id"]).collect();
    assert_eq!(ids, ["rs_up", "msg_up", "msg_2", "msg_1_3"]);
    assert_eq!(done[2]["item"]["status"], "incomplete");
    assert_eq!(told[told.len() - 1]["response"]["output"].as_array().map(Vec::len), Some(4));
}
