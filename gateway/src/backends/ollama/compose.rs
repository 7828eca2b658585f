//! An `/api/chat` body from a request of any dialect. Must never leave out a demand: what has no field here is refused.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use weir_protocol::{ChatRequest, Effort, EngineError, Message, ResponseFormat, Role, Tool, ToolCall, ToolChoice};

use crate::backends::upstream::body::{self, Conversation, Fields};
use crate::backends::upstream::demands::{self, Demand, unsupported};
use crate::config::wire::WireSettings;

const TAKES: &[Demand] = &[
    Demand::FrequencyPenalty,
    Demand::JsonObject,
    Demand::JsonSchema,
    Demand::Logprobs,
    Demand::MinP,
    Demand::Prefill,
    Demand::PresencePenalty,
    Demand::RepetitionPenalty,
    Demand::Seed,
    Demand::Stop,
    Demand::TopK,
];

#[derive(Serialize)]
struct Turn {
    #[serde(flatten)]
    fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
}

#[derive(Serialize)]
struct Call {
    id: String,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    name: String,
    arguments: Box<RawValue>,
}

/// The bytes to send.
///
/// # Errors
/// The request demands what cannot be said here.
pub(super) fn body(request: &ChatRequest, model: &str, wire: &WireSettings) -> Result<Vec<u8>, EngineError> {
    demands::refuse_untold(request, wire)?;
    demands::refuse_others(request, TAKES, "ollama")?;
    let mut fields = Fields::default();
    fields.set("model", model);
    if request.tool_choice != ToolChoice::None {
        fields.set_list("tools", request.tools.iter().map(tool).collect());
    }
    match &request.response_format {
        ResponseFormat::JsonObject => fields.set("format", "json"),
        ResponseFormat::JsonSchema(schema) => fields.set("format", schema.clone()),
        // The last two were refused before.
        ResponseFormat::Text | ResponseFormat::Regex(_) | ResponseFormat::Grammar(_) => {}
    }
    if let Some(count) = request.sampling.logprobs {
        fields.set("logprobs", true);
        fields.set("top_logprobs", count);
    }
    match request.effort.filter(|_| wire.takes_effort) {
        Some(Effort::Off) => fields.set("think", false),
        // It refuses words it does not know.
        Some(Effort::Minimal) => fields.set("think", Effort::Low.word()),
        Some(effort) => fields.set("think", effort.word()),
        None => {}
    }
    fields.set("options", options(request));
    // A prompt that does not fit is an error: cut in silence, it would be answered as if it were whole.
    fields.set("truncate", false);
    fields.set("shift", false);
    fields.set("stream", true);
    body::bytes(&Conversation { fields: fields.0, messages: conversation(&request.messages)? })
}

fn options(request: &ChatRequest) -> Value {
    let sampling = &request.sampling;
    let mut options = Fields::default();
    options.set_some("num_predict", request.max_tokens);
    options.set_number("temperature", sampling.temperature);
    options.set_number("top_p", sampling.top_p);
    options.set_some("top_k", sampling.top_k.filter(|most| *most > 0));
    options.set_number("min_p", sampling.min_p);
    options.set_some("seed", sampling.seed.map(u64::cast_signed));
    options.set_number("repeat_penalty", sampling.repetition_penalty);
    options.set_number("frequency_penalty", sampling.frequency_penalty);
    options.set_number("presence_penalty", sampling.presence_penalty);
    options.set_list("stop", sampling.stop.iter().map(|stop| stop.as_str().into()).collect());
    options.0.into()
}

fn conversation(messages: &[Message]) -> Result<Vec<Turn>, EngineError> {
    // Results are matched by the function's name there, and by the id only in newer versions.
    let calls = messages.iter().flat_map(|message| &message.tool_calls);
    let names: Vec<(&str, &str)> = calls.map(|call| (call.id.as_str(), call.name.as_str())).collect();
    messages.iter().map(|message| turn(message, &names)).collect()
}

fn turn(message: &Message, names: &[(&str, &str)]) -> Result<Turn, EngineError> {
    let mut fields = Fields::default();
    fields.set(
        "role",
        match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        },
    );
    let said = if message.role == Role::Tool { body::result_text(message) } else { message.joined_text() };
    fields.set("content", said);
    let image = |url| match body::data_url(url) {
        Some((_, data)) => Ok(Value::from(data)),
        None => Err(unsupported("messages", "an upstream of kind `ollama` takes images as base64 data URLs only")),
    };
    fields.set_list("images", body::images(message).map(image).collect::<Result<_, _>>()?);
    if message.role == Role::Assistant {
        fields.set_some("thinking", message.reasoning.as_deref());
    }
    if let Some(id) = &message.tool_call_id {
        let name = names.iter().rev().find(|(known, _)| known == id).map(|(_, name)| *name);
        fields.set_some("tool_name", name);
        fields.set("tool_call_id", id.as_str());
    }
    let calls = message.tool_calls.iter().filter(|_| message.role == Role::Assistant);
    Ok(Turn { fields: fields.0, tool_calls: calls.map(call).collect::<Result<_, _>>()? })
}

fn call(call: &ToolCall) -> Result<Call, EngineError> {
    let function = Function { name: call.name.clone(), arguments: body::arguments(call)? };
    Ok(Call { id: call.id.clone(), function })
}

fn tool(tool: &Tool) -> Value {
    let mut function = Fields::default();
    function.set("name", tool.name.as_str());
    function.set_some("description", tool.description.as_deref());
    let schema = Some(&tool.parameters).filter(|schema| !schema.is_null()).cloned();
    function.set("parameters", schema.unwrap_or_else(|| json!({"type": "object"})));
    json!({"type": "function", "function": function.0})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::upstream::tests::script::{sent, unsendable};
    use crate::config::wire::BackendKind;

    fn compose(request: &ChatRequest) -> Result<Vec<u8>, EngineError> {
        super::body(request, "qwen", &WireSettings { takes_effort: true, ..WireSettings::plain(BackendKind::Ollama) })
    }

    #[test]
    fn a_chat_becomes_ollamas() {
        let chat = json!({
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"x\":1}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "a cat"}],
            "tools": [{"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
            "reasoning_effort": "high", "max_tokens": 9, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 3, "stop": "x",
            "repetition_penalty": 1.1, "frequency_penalty": 0.5, "presence_penalty": 0.25, "logprobs": true, "top_logprobs": 2,
        });
        let expect = json!({
            "model": "qwen",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "what is this?", "images": ["AAAA"]},
                {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": {"name": "look", "arguments": {"x": 1}}}]},
                {"role": "tool", "content": "a cat", "tool_name": "look", "tool_call_id": "c1"}],
            "tools": [{"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}],
            "format": {"type": "object"}, "logprobs": true, "top_logprobs": 2,
            "options": {"num_predict": 9, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 3,
                "repeat_penalty": 1.1, "frequency_penalty": 0.5, "presence_penalty": 0.25, "stop": ["x"]},
            "think": "high", "truncate": false, "shift": false, "stream": true,
        });
        assert_eq!(sent(compose, &chat).expect("sent"), expect);
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let refused = |body: Value| unsendable(compose, &body);
        let user = json!([{"role": "user", "content": "hi"}]);
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        assert_eq!(refused(json!({"messages": user, "tools": tools, "tool_choice": "required"})), "tool_choice");
        assert_eq!(refused(json!({"messages": user, "logit_bias": {"1": 1}})), "logit_bias");
        let far =
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]}]);
        assert_eq!(refused(json!({"messages": far})), "messages");
        let file = json!([{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:,"}}]}]);
        assert_eq!(refused(json!({"messages": file})), "messages");
    }
}
