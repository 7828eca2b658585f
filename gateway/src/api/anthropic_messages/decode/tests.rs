//! What is taken, what is refused, and with which words.

use serde_json::json;
use weir_protocol::ToolChoice;

use super::*;
use crate::api::reading::tests as shared;

/// A good request with more fields.
fn with(more: Value) -> Value {
    shared::with(json!({"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}), more)
}

#[track_caller]
fn taken(body: Value) -> ChatRequest {
    shared::taken(decode, body)
}

#[track_caller]
fn refused(more: Value, field: &str, says: &str) {
    shared::refused(decode, with(more).to_string(), field, says);
}

#[test]
fn numbers_of_arguments_keep_their_digits() {
    let call = |id: &str, input: &str| format!(r#"{{"type":"tool_use","id":"{id}","name":"f","input":{input}}}"#);
    let long = r#"{"n": 12345678901234567890123, "x":[0.12345678901234567890]}"#;
    let blocks = [call("c1", "{}"), r#"{"type":"text","text":"a"}"#.into(), call("c2", long)].join(",");
    let result = |id: &str| format!(r#"{{"type":"tool_result","tool_use_id":"{id}"}}"#);
    let results = [result("c1"), result("c2")].join(",");
    let body = format!(
        r#"{{"max_tokens":9,"messages":[{{"role":"user","content":"hi"}},{{"role":"assistant","content":[{blocks}]}},{{"role":"user","content":[{results}]}}]}}"#
    );
    let request = decode(body.as_bytes()).expect("a good request");
    let arguments: Vec<&str> = request.messages[1].tool_calls.iter().map(|call| call.arguments.as_str()).collect();
    assert_eq!(arguments, ["{}", long]);
}

#[test]
fn plain_documents_and_what_a_search_found_are_text() {
    let document = |more: Value| {
        shared::with(json!({"type": "document", "title": "T", "source": {"type": "text", "data": "d"}}), more)
    };
    let found =
        json!({"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "f"}]});
    let cited = document(json!({"citations": {"enabled": true}}));
    let pdf = json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}});
    let request =
        taken(with(json!({"messages": [{"role": "user", "content": [document(json!({})), found, cited, pdf]}]})));
    let others = [
        Part::Other { kind: "document".into() },
        Part::File { url: "data:application/pdf;base64,AA".into(), name: None },
    ];
    let texts = ["T\nd", "t\ns\nf"].map(|text| Part::Text(text.into()));
    assert_eq!(request.messages[0].content, [texts.as_slice(), &others].concat());
}

#[test]
fn an_agents_turn_keeps_its_meaning() {
    let request = taken(json!({
        "model": "claude-x", "max_tokens": 7, "stream": true, "temperature": 0.5, "top_k": 40,
        "system": [{"type": "text", "text": "be ", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "brief"}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                {"type": "document", "source": {}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "seal"},
                {"type": "redacted_thinking", "data": "…"},
                {"type": "text", "text": "ok"},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"b": 1, "a": 2}},
                {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "done"},
                {"type": "tool_result", "tool_use_id": "c2", "is_error": true, "content": [{"type": "text", "text": "no"}]},
                {"type": "text", "text": "go on"},
            ]},
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}, {"type": "custom", "name": "g"}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
        "stop_sequences": ["END"], "thinking": {"type": "enabled", "budget_tokens": 1024}, "metadata": {"user_id": "u"},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "diffusion": {"mode": "speed"}, "x_own": {"kept": 1},
    }));
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Tool, Role::User]);
    assert_eq!(request.messages[0].joined_text(), "be brief");
    assert_eq!(
        request.messages[1].content[1..],
        [
            Part::image("data:image/png;base64,AAAA"),
            Part::image("https://x/y.png"),
            Part::Other { kind: "document".into() },
        ]
    );
    let said = &request.messages[2];
    assert_eq!((said.reasoning.as_deref(), said.reasoning_signature.as_deref()), (Some("hm"), Some("seal")));
    assert_eq!(said.tool_calls[0].arguments, r#"{"b":1,"a":2}"#);
    assert_eq!(said.tool_calls[1].id, "c2");
    assert_eq!(request.messages[3].tool_call_id.as_deref(), Some("c1"));
    assert_eq!((request.messages[3].tool_failed, request.messages[4].tool_failed), (false, true));
    assert_eq!(request.messages[4].joined_text(), "no");
    assert_eq!(request.messages[5].joined_text(), "go on");
    assert_eq!((request.tools.len(), request.tools[0].parameters.clone()), (2, json!({"type": "object"})));
    assert_eq!((&request.tool_choice, request.parallel_tool_calls), (&ToolChoice::Function("f".into()), Some(false)));
    assert_eq!(request.response_format, ResponseFormat::JsonSchema(json!({"type": "object"})));
    assert_eq!((request.max_tokens, request.stream, request.sampling.top_k), (Some(7), true, Some(40)));
    assert_eq!(request.sampling.stop, ["END"]);
    assert_eq!(request.diffusion.mode, Some(weir_protocol::DecodeMode::Speed));
    assert_eq!((request.dialect, &request.raw["x_own"]), (Dialect::AnthropicMessages, &json!({"kept": 1})));
    assert_eq!((request.effort, request.prefill), (Some(Effort::Tokens(1024)), false));
    let effort = |more: Value| taken(with(more)).effort;
    assert_eq!(effort(json!({"output_config": {"effort": "low"}})), Some(Effort::Low));
    assert_eq!(
        effort(json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}})),
        Some(Effort::Off)
    );
    assert!(request.unsupported.is_empty(), "{:?}", request.unsupported);
}

#[test]
fn fields_are_checked_one_by_one() {
    let messages = |messages: Value| json!({"messages": messages});
    let blocks = |role: &str, blocks: Value| messages(json!([{"role": role, "content": blocks}]));
    refused(messages(json!(null)), "messages", "is required");
    refused(messages(json!([])), "messages", "at least one");
    refused(messages(json!([{"role": "tool", "content": "x"}])), "messages[0].role", "known are user, assistant");
    refused(messages(json!([{"role": "user"}])), "messages[0].content", "is required");
    refused(blocks("user", json!(7)), "messages[0].content", "a string or an array of blocks");
    refused(blocks("user", json!([{"type": "text"}])), "messages[0].content[0].text", "is required");
    refused(blocks("user", json!([{"type": "image"}])), "messages[0].content[0].source", "is required");
    refused(blocks("user", json!([{"type": "tool_use"}])), "messages[0].content[0].type", "no place");
    refused(blocks("assistant", json!([{"type": "tool_result"}])), "messages[0].content[0].type", "no place");
    refused(
        blocks("assistant", json!([{"type": "tool_use", "id": "a", "name": "f", "input": "x"}])),
        "messages[0].content[0].input",
        "must be an object",
    );
    refused(blocks("user", json!([{"type": "tool_result"}])), "messages[0].content[0].tool_use_id", "is required");
    refused(json!({"system": 7}), "system", "a string or an array");
    refused(json!({"system": [{"type": "image"}]}), "system[0].type", "known are text");
    refused(json!({"max_tokens": 0}), "max_tokens", "from 1");
    refused(json!({"stop_sequences": "x"}), "stop_sequences", "must be an array");
    refused(json!({"stop_sequences": [""]}), "stop_sequences[0]", "1 to 1024");
    refused(json!({"tools": [{}]}), "tools[0].name", "is required");
    refused(json!({"tool_choice": {"type": "any"}}), "tool_choice.type", "needs at least one tool");
    refused(json!({"tool_choice": {"type": "x"}}), "tool_choice.type", "known are auto, any, none, tool");
    refused(json!({"tool_choice": {"type": "tool", "name": "f"}}), "tool_choice.name", "not among `tools`");
    refused(json!({"output_config": {"format": {"type": "xml"}}}), "output_config.format.type", "json_schema");
    refused(
        json!({"output_config": {"format": {"type": "json_schema"}}}),
        "output_config.format.schema",
        "is required",
    );
    refused(json!({"diffusion": {"mode": "warp"}}), "diffusion.mode", "known are speed");
}

#[test]
fn demands_only_some_backends_can_honour_are_noted() {
    let noted = |more| taken(with(more)).unsupported;
    assert_eq!(noted(json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]})), ["tools"]);
    assert_eq!(noted(json!({"mcp_servers": [{}], "container": "c"})), ["mcp_servers", "container"]);
    assert_eq!(noted(json!({"mcp_servers": []})), Vec::<&str>::new());
    let prefill = json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "I"}]});
    let asked = taken(with(prefill));
    assert!(asked.unsupported.is_empty() && asked.prefill);
    let call = json!([{"type": "tool_use", "id": "a", "name": "f", "input": {}}]);
    let called = json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": call}]});
    assert_eq!(noted(called), ["prefill"]);
}

const WORDS: &[&str] = &[
    "role",
    "content",
    "type",
    "text",
    "user",
    "assistant",
    "tool_use",
    "tool_result",
    "thinking",
    "image",
    "source",
    "id",
    "name",
    "input",
];
const FIELDS: &[&str] =
    &["messages", "system", "tools", "tool_choice", "max_tokens", "stop_sequences", "output_config", "diffusion"];

#[test]
fn whatever_comes_is_taken_or_refused_by_name() {
    shared::check_any(decode, "messages", FIELDS, WORDS);
}
