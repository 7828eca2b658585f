//! A responses body from a request of another dialect. Must never leave out a demand: what has no field here is refused.

use serde_json::{Value, json};
use weir_protocol::{ChatRequest, Dialect, EngineError, Message, Part, ResponseFormat, Role, Tool, ToolChoice};

use crate::backends::upstream::body::{self, Fields};
use crate::backends::upstream::demands::{self, Demand};
use crate::config::wire::WireSettings;

const TAKES: &[Demand] = &[Demand::Files, Demand::JsonObject, Demand::JsonSchema, Demand::Logprobs, Demand::SomeCall];

/// OpenAI refuses a lower limit, and longer ids of calls.
const LEAST_TOKENS: u32 = 16;
const CALL_ID_MAX: usize = 64;

/// What a caller of chat completions says in the same words.
const SHARED: &[&str] =
    &["metadata", "service_tier", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"];

/// The bytes to send.
///
/// # Errors
/// The request demands what cannot be said here.
pub(super) fn body(request: &ChatRequest, model: &str, wire: &WireSettings) -> Result<Vec<u8>, EngineError> {
    demands::refuse_untold(request, wire)?;
    demands::refuse_others(request, TAKES, "openai-responses")?;
    let mut fields = Fields::default();
    fields.set("model", model);
    fields.set("input", request.messages.iter().flat_map(items).collect::<Vec<_>>());
    fields.set_some("max_output_tokens", request.max_tokens.map(|most| most.max(LEAST_TOKENS)));
    if let Some(effort) = request.effort.filter(|_| wire.takes_effort) {
        fields.set("reasoning", json!({"effort": effort.word()}));
    }
    tools(request, &mut fields);
    form(request, &mut fields);
    fields.set_number("temperature", request.sampling.temperature);
    fields.set_number("top_p", request.sampling.top_p);
    if let Some(count) = request.sampling.logprobs {
        fields.set("top_logprobs", count);
        fields.set("include", json!(["message.output_text.logprobs"]));
    }
    if request.dialect == Dialect::OpenAiChat {
        fields.set_shared(&request.raw, SHARED);
    }
    fields.set("stream", true);
    // What callers get has an id of ours, so nothing kept there could be found again.
    fields.set("store", false);
    body::bytes(&fields.0)
}

/// A turn is a message, and a call or a result an item of its own.
fn items(message: &Message) -> Vec<Value> {
    let spoken = |role: &str, kind: &str| {
        let parts: Vec<Value> = message.content.iter().filter_map(|part| self::part(part, kind)).collect();
        (!parts.is_empty()).then(|| json!({"type": "message", "role": role, "content": parts}))
    };
    match message.role {
        Role::System => spoken("system", "input_text").into_iter().collect(),
        Role::User => spoken("user", "input_text").into_iter().collect(),
        Role::Assistant => {
            let calls = message.tool_calls.iter().map(|call| {
                let id = body::call_id(&call.id, CALL_ID_MAX);
                json!({"type": "function_call", "call_id": id, "name": call.name, "arguments": call.arguments})
            });
            spoken("assistant", "output_text").into_iter().chain(calls).collect()
        }
        Role::Tool => {
            let output: Value = if body::is_text(message) {
                body::result_text(message).into()
            } else {
                let mark = Part::Text(body::failure_mark(message).into());
                [&mark].into_iter().chain(&message.content).filter_map(|part| self::part(part, "input_text")).collect()
            };
            let id = message.tool_call_id.as_deref().map(|id| body::call_id(id, CALL_ID_MAX));
            vec![json!({"type": "function_call_output", "call_id": id, "output": output})]
        }
    }
}

/// `None` for what says nothing, or was refused before.
fn part(part: &Part, kind: &str) -> Option<Value> {
    match part {
        Part::Text(text) => (!text.is_empty()).then(|| json!({"type": kind, "text": text})),
        Part::Image { url, detail } => {
            let mut fields = Fields::default();
            fields.set("type", "input_image");
            fields.set("image_url", url.as_str());
            fields.set_some("detail", detail.as_deref());
            Some(fields.0.into())
        }
        Part::File { url, name } => {
            let mut fields = Fields::default();
            fields.set("type", "input_file");
            if body::data_url(url).is_some() {
                fields.set("filename", name.as_deref().unwrap_or(body::FILE_NAME));
                fields.set("file_data", url.as_str());
            } else {
                fields.set("file_url", url.as_str());
            }
            Some(fields.0.into())
        }
        Part::Other { .. } => None,
    }
}

fn tools(request: &ChatRequest, fields: &mut Fields) {
    if request.tools.is_empty() {
        return;
    }
    let tool = |tool: &Tool| {
        let mut fields = Fields::default();
        fields.set("type", "function");
        fields.set("name", tool.name.as_str());
        fields.set_some("description", tool.description.as_deref());
        let schema = Some(&tool.parameters).filter(|schema| !schema.is_null()).cloned();
        fields.set("parameters", schema.unwrap_or_else(|| json!({"type": "object", "properties": {}})));
        // Strict by default there, which refuses most schemas; not so in other dialects.
        fields.set("strict", tool.strict);
        Value::from(fields.0)
    };
    fields.set("tools", request.tools.iter().map(tool).collect::<Vec<_>>());
    fields.set_some("parallel_tool_calls", request.parallel_tool_calls);
    match &request.tool_choice {
        ToolChoice::Auto => {}
        ToolChoice::None => fields.set("tool_choice", "none"),
        ToolChoice::Required => fields.set("tool_choice", "required"),
        ToolChoice::Function(name) => fields.set("tool_choice", json!({"type": "function", "name": name})),
    }
}

fn form(request: &ChatRequest, fields: &mut Fields) {
    let mut text = Fields::default();
    if request.dialect == Dialect::OpenAiChat {
        text.set_shared(&request.raw, &["verbosity"]);
    }
    match &request.response_format {
        ResponseFormat::JsonObject => text.set("format", json!({"type": "json_object"})),
        ResponseFormat::JsonSchema(schema) => {
            let mut format = body::named_schema(schema, &request.schema_terms);
            format.set("type", "json_schema");
            text.set("format", format.0);
        }
        // The last two were refused before.
        ResponseFormat::Text | ResponseFormat::Regex(_) | ResponseFormat::Grammar(_) => {}
    }
    if !text.0.is_empty() {
        fields.set("text", text.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::upstream::tests::script::{sent, unsendable};
    use crate::config::wire::BackendKind;

    fn compose(request: &ChatRequest) -> Result<Vec<u8>, EngineError> {
        super::body(
            request,
            "gpt",
            &WireSettings { takes_effort: true, ..WireSettings::plain(BackendKind::OpenAiResponses) },
        )
    }

    #[test]
    fn a_chat_becomes_items() {
        let chat = json!({
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}]},
                {"role": "assistant", "content": "I look.", "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"x\":1}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "a cat"}],
            "tools": [{"type": "function", "function": {"name": "look", "description": "d", "strict": true, "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "look"}}, "parallel_tool_calls": false,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
            "service_tier": "flex", "metadata": {"k": "v"}, "user": null, "verbosity": "low",
            "reasoning_effort": "low", "max_tokens": 9, "temperature": 0.7, "top_p": 0.9, "logprobs": true, "top_logprobs": 2,
        });
        let expect = json!({
            "model": "gpt",
            "input": [
                {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "be brief"}]},
                {"type": "message", "role": "user", "content": [
                    {"type": "input_text", "text": "what is this?"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
                {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{\"x\":1}"},
                {"type": "function_call_output", "call_id": "c1", "output": "a cat"}],
            "max_output_tokens": 16, "reasoning": {"effort": "low"},
            "tools": [{"type": "function", "name": "look", "description": "d", "parameters": {"type": "object"}, "strict": true}],
            "parallel_tool_calls": false,
            "tool_choice": {"type": "function", "name": "look"},
            "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": false}},
            "service_tier": "flex", "metadata": {"k": "v"},
            "temperature": 0.7, "top_p": 0.9, "top_logprobs": 2, "include": ["message.output_text.logprobs"],
            "stream": true, "store": false,
        });
        assert_eq!(sent(compose, &chat).expect("sent"), expect);
    }

    #[test]
    fn files_and_long_ids_are_said_as_openai_takes_them() {
        let id = "x".repeat(65);
        let of = |file: Value| json!({"type": "file", "file": file});
        let data = "data:application/pdf;base64,AA";
        let chat = json!({"max_tokens": 17, "messages": [
            {"role": "user", "content": [of(json!({"file_data": data})), of(json!({"filename": "a.pdf", "file_data": "AA"}))]},
            {"role": "assistant", "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": id, "content": [of(json!({"file_url": "https://x.test/a"}))]}]});
        let sent = sent(compose, &chat).expect("sent");
        let file = |name: &str| json!({"type": "input_file", "filename": name, "file_data": data});
        assert_eq!(sent["input"][0]["content"], json!([file("document.pdf"), file("a.pdf")]));
        let output = json!([{"type": "input_file", "file_url": "https://x.test/a"}]);
        assert_eq!((&sent["input"][2]["output"], &sent["max_output_tokens"]), (&output, &json!(17)));
        let ids = [1, 2].map(|at| sent["input"][at]["call_id"].as_str().unwrap_or_default());
        assert!(ids[0] == ids[1] && ids[0].len() == 37, "{ids:?}");
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let refused = |more: (&str, Value)| {
            let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
            body[more.0] = more.1;
            unsendable(compose, &body)
        };
        for (field, value) in [("stop", json!("x")), ("seed", json!(7)), ("top_k", json!(3)), ("n", json!(2))] {
            assert_eq!(refused((field, value)), field);
        }
    }
}
