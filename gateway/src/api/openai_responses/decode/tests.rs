//! What is taken, what is refused, and with which words.

use serde_json::{Value, json};
use weir_protocol::{Part, Tool, ToolChoice};

use super::*;
use crate::api::reading::tests as shared;

/// A good request with more fields.
fn with(more: Value) -> Value {
    shared::with(json!({"model": "auto", "input": "hi"}), more)
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
fn an_agents_turn_keeps_its_meaning() {
    let request = taken(json!({
        "model": "gpt-x", "instructions": "be brief", "max_output_tokens": 7, "stream": true, "store": true,
        "input": [
            {"role": "developer", "content": "more rules"},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                {"type": "input_image", "file_id": "f"},
                {"type": "input_file", "file_id": "f"},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "seal"},
            {"type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": "ok", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{\"a\":1}"},
            {"type": "function_call_output", "call_id": "c1", "output": "done"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "too"}]},
            {"role": "user", "content": "go on"},
        ],
        "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}],
        "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": false,
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}, "verbosity": "low"},
        "reasoning": {"effort": "low"}, "include": ["message.output_text.logprobs"], "diffusion": {"mode": "speed"},
    }));
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    let wanted = [Role::System, Role::System, Role::User, Role::Assistant, Role::Tool, Role::Tool, Role::User];
    assert_eq!(roles, wanted);
    assert_eq!(
        request.messages[2].content[1..],
        [
            Part::Image { url: "https://x/y.png".into(), detail: Some("low".into()) },
            Part::Other { kind: "input_image.file_id".into() },
            Part::Other { kind: "input_file".into() },
        ]
    );
    let said = &request.messages[3];
    assert_eq!((said.reasoning.as_deref(), said.reasoning_signature.as_deref()), (Some("hm"), Some("seal")));
    assert_eq!((said.joined_text(), said.tool_calls.len()), ("ok".to_owned(), 2));
    assert_eq!((said.tool_calls[1].id.as_str(), said.tool_calls[1].arguments.as_str()), ("c2", "{\"a\":1}"));
    assert_eq!(request.messages[5].tool_call_id.as_deref(), Some("c2"));
    assert_eq!(request.messages[5].joined_text(), "too");
    assert_eq!((&request.tool_choice, request.parallel_tool_calls), (&ToolChoice::Function("f".into()), Some(false)));
    assert_eq!(request.response_format, ResponseFormat::JsonSchema(json!({"type": "object"})));
    assert_eq!((request.max_tokens, request.stream, request.sampling.logprobs), (Some(7), true, Some(0)));
    assert_eq!(request.diffusion.mode, Some(weir_protocol::DecodeMode::Speed));
    assert_eq!((request.dialect, request.effort), (Dialect::OpenAiResponses, Some(Effort::Low)));
    assert!(request.unsupported.is_empty(), "{:?}", request.unsupported);
}

#[test]
fn free_form_tools_take_an_object_elsewhere() {
    let format = json!({"type": "grammar", "syntax": "lark", "definition": "start: X"});
    let request = taken(json!({
        "input": [
            {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "a\"b"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "done"}],
        "tools": [{"type": "custom", "name": "patch", "description": "d", "format": format}],
        "tool_choice": {"type": "custom", "name": "patch"},
    }));
    let [tool] = request.tools.as_slice() else { panic!("{:?}", request.tools) };
    assert!(
        tool.freeform
            && tool.description.as_deref().is_some_and(|text| text.starts_with("d\n\n") && text.ends_with("start: X"))
    );
    assert_eq!(tool.parameters["required"], json!(["input"]));
    assert_eq!(request.messages[0].tool_calls[0].arguments, r#"{"input":"a\"b"}"#);
    assert_eq!((request.messages[1].role, request.messages[1].joined_text().as_str()), (Role::Tool, "done"));
    assert_eq!(request.tool_choice, ToolChoice::Function("patch".into()));
    assert!(request.unsupported.is_empty(), "{:?}", request.unsupported);
}

#[test]
fn functions_in_a_group_go_by_both_names_elsewhere() {
    let long = "x".repeat(60);
    let function =
        |name: &str| json!({"type": "function", "name": name, "description": "d", "parameters": {"type": "object"}});
    let group =
        |name: &str, tools: Value| json!({"type": "namespace", "name": name, "description": "about", "tools": tools});
    let request = taken(json!({
        "input": [{"type": "function_call", "call_id": "c", "namespace": "agents", "name": "close", "arguments": "{}"}],
        "tools": [
            group("agents", json!([function("close"), {"type": "custom", "name": "say"}])),
            group("mcp__files__", json!([function("read"), function(&long)])),
            group("odd", json!([{"type": "web_search"}])),
            function("close"),
        ],
    }));
    let names: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    let cut = Tool::joined("mcp__files__", &long);
    assert_eq!(names, ["agents__close", "agents__say", "mcp__files__read", &cut, "close"]);
    assert_eq!((cut.len(), cut == Tool::joined("mcp__files__", &"x".repeat(61))), (64, false));
    let first = &request.tools[0];
    assert_eq!((first.description.as_deref(), first.freeform), (Some("about\n\nd"), false));
    assert_eq!(first.grouped, Some(("agents".into(), "close".into())));
    assert!(request.tools[1].freeform && request.tools[4].grouped.is_none());
    assert_eq!(request.messages[0].tool_calls[0].name, "agents__close");
    assert_eq!(request.unsupported, ["tools"], "the odd one");
}

#[test]
fn tools_that_may_not_be_called_are_not_offered() {
    let taken = |mode: &str, allowed: Value| {
        let tool = |kind: &str, name: &str| json!({"type": kind, "name": name});
        let tools = json!([tool("function", "f"), tool("function", "g"), tool("custom", "h")]);
        let request = taken(with(
            json!({"tools": tools, "tool_choice": {"type": "allowed_tools", "mode": mode, "tools": allowed}}),
        ));
        let names: Vec<String> = request.tools.into_iter().map(|tool| tool.name).collect();
        (names.concat(), request.tool_choice, request.unsupported)
    };
    let some = json!([{"type": "custom", "name": "h"}, {"type": "function", "name": "f"}]);
    assert_eq!(taken("auto", some.clone()), ("fh".into(), ToolChoice::Auto, vec![]));
    assert_eq!(taken("required", some), ("fh".into(), ToolChoice::Required, vec![]));
    let theirs = json!([{"type": "function", "name": "f"}, {"type": "web_search"}]);
    assert_eq!(taken("auto", theirs), ("fgh".into(), ToolChoice::Auto, vec!["tool_choice"]));
}

#[test]
fn two_turns_stay_two() {
    let request = taken(json!({"input": [
        {"role": "assistant", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    ]}));
    let texts: Vec<String> = request.messages.iter().map(weir_protocol::Message::joined_text).collect();
    assert_eq!(texts, ["one", "two", ""]);
    assert_eq!(request.messages[2].tool_calls.len(), 1);
}

#[test]
fn calls_of_one_turn_stay_together_whatever_stands_between() {
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let result = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "r"});
    let thought = |text: &str| json!({"type": "reasoning", "summary": [{"text": text}, {"text": "more"}]});
    let said = json!({"role": "assistant", "content": "so"});
    let request = taken(
        json!({"input": [thought("a"), call("1"), thought("b"), said, call("2"), result("1"), result("2"), said]}),
    );
    let [turn, first, second, end] = request.messages.as_slice() else { panic!("{:?}", request.messages) };
    assert_eq!((turn.tool_calls.len(), turn.joined_text().as_str()), (2, "so"));
    assert_eq!(turn.reasoning.as_deref(), Some("a\n\nmore\n\nb\n\nmore"));
    assert_eq!((first.role, second.role, end.joined_text().as_str()), (Role::Tool, Role::Tool, "so"));
}

#[test]
fn nothing_is_remembered_and_that_is_said() {
    refused(
        json!({"previous_response_id": "resp_1"}),
        "previous_response_id",
        "send the whole conversation in `input`",
    );
    refused(json!({"conversation": {"id": "c"}}), "conversation", "no response is stored");
    refused(json!({"prompt": {"id": "p"}}), "prompt", "stored prompts");
    refused(json!({"background": true}), "background", "stream it instead");
    refused(json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0].type", "send them");
    let fine = json!({"previous_response_id": null, "background": false, "store": true, "truncation": "auto"});
    assert!(taken(with(fine)).unsupported.is_empty());
}

#[test]
fn fields_are_checked_one_by_one() {
    let input = |input: Value| json!({"input": input});
    refused(input(json!(null)), "input", "is required");
    refused(input(json!([])), "input", "at least one");
    refused(input(json!(7)), "input", "a string or an array of items");
    refused(input(json!([{"role": "bot", "content": "x"}])), "input[0].role", "known are user, assistant");
    refused(input(json!([{"role": "user"}])), "input[0].content", "is required");
    refused(
        input(json!([{"role": "user", "content": [{"type": "input_text"}]}])),
        "input[0].content[0].text",
        "is required",
    );
    refused(input(json!([{"type": "function_call", "name": "f"}])), "input[0].call_id", "is required");
    refused(input(json!([{"type": "function_call_output", "call_id": "c"}])), "input[0].output", "is required");
    refused(input(json!([{"type": "reasoning", "summary": [{}]}])), "input[0].summary[0].text", "is required");
    refused(json!({"max_output_tokens": 0}), "max_output_tokens", "from 1");
    refused(json!({"top_logprobs": 21}), "top_logprobs", "from 0 to 20");
    refused(json!({"tools": [{"type": "function"}]}), "tools[0].name", "is required");
    let none = json!({"type": "allowed_tools", "mode": "auto", "tools": []});
    refused(json!({"tool_choice": none}), "tool_choice.tools", "at least one");
    let stranger = json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]});
    refused(json!({"tool_choice": stranger}), "tool_choice.tools[0].name", "not among `tools`");
    refused(json!({"tool_choice": {"type": "allowed_tools", "mode": "any"}}), "tool_choice.mode", "auto, required");
    refused(json!({"tool_choice": "required"}), "tool_choice", "needs at least one tool");
    refused(json!({"tool_choice": {"type": "function", "name": "f"}}), "tool_choice.name", "not among `tools`");
    refused(json!({"text": {"format": {"type": "xml"}}}), "text.format.type", "json_schema");
    refused(json!({"text": {"format": {"type": "json_schema"}}}), "text.format.schema", "is required");
    refused(
        json!({"text": {"format": {"type": "json_object"}}, "regex": "x"}),
        "regex",
        "cannot be demanded beside `text.format`",
    );
}

#[test]
fn demands_only_some_backends_can_honour_are_noted() {
    let noted = |more| taken(with(more)).unsupported;
    assert_eq!(
        noted(json!({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}})),
        ["tools", "tool_choice"]
    );
    assert_eq!(noted(json!({"input": [{"type": "web_search_call", "id": "w"}]})), ["input"]);
}

const WORDS: &[&str] = &[
    "role",
    "content",
    "type",
    "input_text",
    "text",
    "user",
    "message",
    "reasoning",
    "summary",
    "function_call",
    "function_call_output",
    "call_id",
    "name",
    "arguments",
    "output",
];
const FIELDS: &[&str] =
    &["input", "instructions", "tools", "tool_choice", "max_output_tokens", "text", "include", "top_logprobs"];

#[test]
fn whatever_comes_is_taken_or_refused_by_name() {
    shared::check_any(decode, "input", FIELDS, WORDS);
}
