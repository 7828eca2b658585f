//! What is taken, what is refused, and with which words.

use serde_json::{Value, json};
use weir_protocol::{Part, ResponseFormat, Role, ToolChoice};

use super::*;
use crate::api::reading::tests as shared;

/// A good request with more fields.
fn with(more: Value) -> Value {
    shared::with(json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]}), more)
}

#[track_caller]
fn taken(body: Value) -> ChatRequest {
    shared::taken(decode, body)
}

#[track_caller]
fn refused(body: impl AsRef<[u8]>, field: &str, says: &str) {
    shared::refused(decode, body, field, says);
}

#[track_caller]
fn refused_with(more: Value, field: &str, says: &str) {
    refused(with(more).to_string(), field, says);
}

#[test]
fn odd_but_legal_bodies_are_read() {
    let body = "\u{feff}{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":64.0,\"top_p\":0}";
    let request = decode(body.as_bytes()).expect("a good request");
    assert_eq!((request.max_tokens, request.sampling.top_p), (Some(64), Some(0.0)));
    // Local servers' word for no limit.
    assert_eq!(taken(with(json!({"max_tokens": -1}))).max_tokens, None);
    let half = r#"{"messages":[{"role":"user","content":"a\ud83d"}]}"#;
    assert_eq!(decode(half.as_bytes()).expect("a good request").messages[0].joined_text(), "a\u{fffd}");
}

#[test]
fn broken_bodies_say_where_and_never_what() {
    refused("{\"messages\": [\n  secret]}", "", "not valid JSON (line 2, column 3)");
    refused("{\"model\": \"sec", "", "ends too early");
    refused("", "", "ends too early");
    refused(b"{\"model\": \"\xff\"}", "", "not UTF-8 (at byte 11)");
    refused("[]", "", "must be a JSON object");
    refused("[".repeat(100_000), "", "nested too deeply");
    refused(format!("{{\"a\":{}", "{\"a\":".repeat(100_000)), "", "nested too deeply");
}

#[test]
fn messages_are_checked_one_by_one() {
    let messages = |messages: Value| json!({"messages": messages}).to_string();
    let user = json!({"role": "user", "content": "hi"});
    refused("{}", "messages", "is required");
    refused(messages(json!([])), "messages", "at least one");
    refused(messages(json!("hi")), "messages", "must be an array, not a string");
    refused(messages(json!([user, 7])), "messages[1]", "must be an object, not a number");
    refused(messages(json!([user, {"content": "x"}])), "messages[1].role", "is required");
    refused(
        messages(json!([user, user, {"role": "bot", "content": "x"}])),
        "messages[2].role",
        "unknown value `bot`; known are system, developer, user, assistant, tool, function",
    );
    refused(messages(json!([{"role": "user"}])), "messages[0].content", "is required");
    refused(messages(json!([{"role": "user", "content": null}])), "messages[0].content", "is required");
    refused(messages(json!([{"role": "user", "content": 7}])), "messages[0].content", "a string or an array");
    refused(messages(json!([{"role": "tool", "content": "x"}])), "messages[0].tool_call_id", "is required");
    let parts = |parts: Value| messages(json!([{"role": "user", "content": parts}]));
    refused(parts(json!(["x"])), "messages[0].content[0]", "must be an object");
    refused(parts(json!([{"type": "text"}])), "messages[0].content[0].text", "is required");
    refused(
        parts(json!([{"type": "image_url", "image_url": {}}])),
        "messages[0].content[0].image_url.url",
        "is required",
    );
    let calls = |calls: Value| messages(json!([{"role": "assistant", "tool_calls": calls}]));
    refused(calls(json!([{"id": "a", "function": {}}])), "messages[0].tool_calls[0].function.name", "is required");
    refused(
        calls(json!([{"id": "a", "function": {"name": "f", "arguments": {}}}])),
        "messages[0].tool_calls[0].function.arguments",
        "must be a string, not an object",
    );
}

#[test]
fn settings_are_checked_for_type_and_range() {
    for (field, value, says) in [
        ("max_tokens", json!(0), "a whole number from 1 to 1000000"),
        ("max_tokens", json!(-2), "a whole number from 1 to 1000000"),
        ("max_tokens", json!(1_000_001), "a whole number from 1 to 1000000"),
        ("max_tokens", json!(1e300), "a whole number"),
        ("max_tokens", json!(8.5), "a whole number from 1 to 1000000"),
        ("max_completion_tokens", json!("9"), "not a string"),
        ("temperature", json!(2.5), "from 0 to 2"),
        ("temperature", json!("hot"), "must be a number, not a string"),
        ("top_p", json!(-0.5), "from 0 to 1"),
        ("top_k", json!(-2), "a whole number from 0"),
        ("min_p", json!(1.5), "from 0 to 1"),
        ("repetition_penalty", json!(0), "above 0 and at most 2"),
        ("frequency_penalty", json!(3), "from -2 to 2"),
        ("presence_penalty", json!("much"), "must be a number"),
        ("logit_bias", json!({"fifty": 1}), "keys must be token ids"),
        ("logit_bias", json!({"5": 101}), "from -100 to 100"),
        ("logit_bias", json!([5]), "must be an object"),
        ("min_tokens", json!(-1), "a whole number from 0"),
        ("logprobs", json!(3), "must be a boolean"),
        ("top_logprobs", json!(21), "from 0 to 20"),
        ("top_logprobs", json!(2), "needs `logprobs` to be true"),
        ("n", json!(0), "from 1 to 128"),
        ("seed", json!(1.5), "whole number"),
        ("stop", json!(""), "1 to 1024"),
        ("stream", json!("yes"), "must be a boolean"),
        ("stream_options", json!(true), "must be an object"),
        ("response_format", json!("json"), "must be an object"),
        ("tools", json!({}), "must be an array"),
        ("tool_choice", json!("maybe"), "unknown value `maybe`; known are none, auto, required"),
        ("tool_choice", json!("required"), "needs at least one tool"),
        ("model", json!(""), "1 to 256"),
        ("model", json!(5), "must be a string"),
        ("functions", json!([]), "send `tools`"),
    ] {
        refused_with(json!({field: value}), field, says);
    }
    refused_with(json!({"stop": ["a", 1]}), "stop[1]", "must be a string");
    refused_with(json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage", "a boolean");
    refused_with(json!({"response_format": {"type": "xml"}}), "response_format.type", "json_schema");
    refused_with(json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema", "is required");
    refused_with(json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name", "is required");
    refused_with(
        json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        "tool_choice.function.name",
        "not among `tools`",
    );
}

#[test]
fn diffusion_settings_have_names_and_ranges() {
    let refused_diffusion = |value, field, says| refused_with(json!({"diffusion": value}), field, says);
    refused_diffusion(
        json!({"treshold": 0.5}),
        "diffusion",
        "unknown key `treshold` (did you mean `threshold`?); known are mode",
    );
    refused_diffusion(json!({"threshold": 1.5}), "diffusion.threshold", "from 0 to 1");
    refused_diffusion(json!({"max_post_steps": 65}), "diffusion.max_post_steps", "from 0 to 64");
    refused_diffusion(json!({"mode": "warp"}), "diffusion.mode", "known are speed, quality, custom");
    refused_diffusion(
        json!({"decoder": "magic"}),
        "diffusion.decoder",
        "known are threshold, joint, levenshtein, multi_block, hierarchy, credit",
    );
    refused_diffusion(json!({"block_length": 24}), "diffusion.block_length", "a power of two from 1 to 256");
    refused_diffusion(json!({"block_length": 0}), "diffusion.block_length", "a power of two");
    refused_diffusion(json!({"max_steps": 0}), "diffusion.max_steps", "from 1 to 256");
    refused_diffusion(json!({"max_steps": 9, "block_length": 8}), "diffusion.max_steps", "from 1 to 8");
    refused_diffusion(json!({"max_steps": -1}), "diffusion.max_steps", "a whole number");
    refused_diffusion(json!({"threshold": 1e300}), "diffusion.threshold", "from 0 to 1");
    refused_diffusion(json!({"multi_block_window": 1}), "diffusion.multi_block_window", "from 2 to 4");
    refused_diffusion(json!({"repeat_penalty": 11}), "diffusion.repeat_penalty", "from 0 to 10");
    refused_diffusion(json!({"refresh_every": 0}), "diffusion.refresh_every", "from 1 to 256");
    refused_diffusion(json!({"seed": 0.5}), "diffusion.seed", "a whole number");
    refused_diffusion(json!({"start_from": ["so"]}), "diffusion.start_from", "must be a string");
    refused_with(json!({"diffusing": 1}), "diffusing", "must be a boolean");
    refused_diffusion(json!(true), "diffusion", "must be an object");
    let asked = taken(with(json!({"diffusion": {"mode": "speed", "threshold": 0.25, "drafts": true}}))).diffusion;
    assert_eq!((asked.mode, asked.threshold, asked.drafts), (Some(weir_protocol::DecodeMode::Speed), Some(0.25), true));
    assert!(taken(with(json!({"diffusing": true}))).diffusion.drafts);
    let all = json!({
        "mode": "custom", "decoder": "multi_block", "threshold": 1, "editing_threshold": 0, "max_post_steps": 64,
        "block_length": 256, "max_steps": 256, "multi_block_window": 4, "repeat_penalty": 3, "refresh_every": 4,
        "seed": 7, "start_from": "so", "drafts": true,
    });
    let asked = taken(with(json!({"diffusion": all}))).diffusion;
    assert_eq!((asked.decoder, asked.seed), (Some(weir_protocol::DecoderKind::MultiBlock), Some(7)));
    assert_eq!((asked.start_from.as_deref(), asked.refresh_every), (Some("so"), Some(4)));
    assert_eq!((asked.block_length, asked.max_steps, asked.multi_block_window), (Some(256), Some(256), Some(4)));
}

#[test]
fn an_agents_turn_keeps_its_meaning() {
    let request = taken(json!({
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]},
            {"role": "assistant", "content": null,
             "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
            {"role": "assistant", "content": null, "function_call": {"name": "g", "arguments": "{}"}},
            {"role": "function", "name": "g", "content": "old"},
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "max_tokens": 5, "max_completion_tokens": 7,
        "stream": true, "stream_options": {"include_usage": true},
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        "stop": "END", "seed": -1, "temperature": null, "x_own": {"kept": 1},
    }));
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Assistant, Role::Tool, Role::User]);
    assert_eq!(request.model, "auto");
    assert_eq!(request.messages[1].content[1], Part::image("u"));
    assert_eq!(request.messages[2].tool_calls[0].id, "c1");
    assert_eq!(request.messages[3].tool_call_id.as_deref(), Some("c1"));
    assert_eq!(request.messages[5].tool_call_id.as_deref(), Some("g"));
    assert_eq!(request.messages[6].content[0], Part::Other { kind: "input_audio".into() });
    assert_eq!(request.tool_choice, ToolChoice::Function("f".into()));
    assert_eq!(request.response_format, ResponseFormat::JsonSchema(json!({"type": "object"})));
    assert_eq!((request.max_tokens, request.stream, request.include_usage), (Some(7), true, true));
    assert_eq!(request.sampling.stop, ["END"]);
    assert_eq!((request.sampling.seed, request.sampling.temperature), (Some(u64::MAX), None));
    assert_eq!(request.raw["x_own"], json!({"kept": 1}));
    assert!(request.unsupported.is_empty(), "{:?}", request.unsupported);
}

#[test]
fn tools_that_may_not_be_called_are_not_offered() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let allowed = json!({"mode": "required", "tools": [tool("g")]});
    let choice = json!({"type": "allowed_tools", "allowed_tools": allowed});
    let request = taken(with(json!({"tools": [tool("f"), tool("g")], "tool_choice": choice})));
    assert_eq!((request.tools.len(), request.tools[0].name.as_str()), (1, "g"));
    assert_eq!((&request.tool_choice, &request.unsupported), (&ToolChoice::Required, &vec![]));
    assert_eq!(request.raw["tools"], json!([tool("f"), tool("g")]), "an upstream of this dialect gets them all");
}

#[test]
fn sampling_settings_are_all_read() {
    let sampling = taken(with(json!({
        "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.5, "frequency_penalty": -2, "presence_penalty": 2,
        "logit_bias": {"7": -100, "5": 1.5}, "min_tokens": 3, "logprobs": true, "top_logprobs": 20,
    })))
    .sampling;
    assert_eq!(
        (sampling.top_k, sampling.min_p, sampling.min_tokens, sampling.logprobs),
        (Some(0), Some(0.1), Some(3), Some(20))
    );
    let penalties = (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty);
    assert_eq!(penalties, (Some(1.5), Some(-2.0), Some(2.0)));
    assert_eq!(sampling.logit_bias, [(5, 1.5), (7, -100.0)].into());
    assert_eq!(taken(with(json!({"logprobs": true}))).sampling.logprobs, Some(0));
    assert_eq!(taken(with(json!({"logprobs": false, "top_logprobs": 0}))).sampling.logprobs, None);
}

#[test]
fn demands_only_some_backends_can_honour_are_noted() {
    let noted = |more| taken(with(more)).unsupported;
    assert_eq!(noted(json!({"n": 2})), ["n"]);
    assert_eq!(noted(json!({"modalities": ["text", "audio"], "audio": {}})), ["modalities", "audio"]);
    assert_eq!(noted(json!({"tools": [{"type": "web_search"}], "tool_choice": "required"})), ["tools"]);
    let harmless = json!({
        "n": 1, "logprobs": true, "top_logprobs": 3, "logit_bias": {"5": 1}, "frequency_penalty": 1, "modalities": ["text"],
        "audio": null, "tools": [], "tool_choice": "auto", "user": "u", "store": false,
    });
    assert_eq!(noted(harmless), Vec::<&str>::new());
}

const WORDS: &[&str] =
    &["role", "content", "type", "function", "name", "user", "assistant", "tool_calls", "text", "image_url"];

const FIELDS: &[&str] = &[
    "messages",
    "tools",
    "tool_choice",
    "max_tokens",
    "temperature",
    "stop",
    "seed",
    "response_format",
    "diffusion",
    "stream",
    "stream_options",
    "n",
    "logit_bias",
    "modalities",
    "model",
];

#[test]
fn whatever_comes_is_taken_or_refused_by_name() {
    shared::check_any(decode, "messages", FIELDS, WORDS);
}
