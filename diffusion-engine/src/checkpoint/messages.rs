//! A conversation in the shape chat templates expect (Hugging Face's `messages` and `tools`), with every text of the
//! caller escaped. Must never pass a text through unescaped.

use serde_json::{Map, Value, json};
use weir_protocol::{ChatRequest, EngineError, Message, Part, Role, ToolCall, ToolChoice};

use super::escape::Escaper;

/// The template's `messages`.
pub(crate) fn messages(messages: &[Message], escaper: &Escaper) -> Result<Value, EngineError> {
    if messages.is_empty() {
        return Err(EngineError::invalid("messages", "must not be empty"));
    }
    let messages = messages.iter().enumerate().map(|(index, each)| message(index, each, escaper));
    messages.collect::<Result<Vec<Value>, EngineError>>().map(Value::Array)
}

/// The template's `tools`, null when there are none to offer.
pub(crate) fn tools(request: &ChatRequest, escaper: &Escaper) -> Value {
    if request.tools.is_empty() || request.tool_choice == ToolChoice::None {
        return Value::Null;
    }
    let tools = request.tools.iter().map(|tool| {
        let mut function = Map::new();
        function.insert("name".into(), escaper.escape(&tool.name).into());
        if let Some(description) = &tool.description {
            function.insert("description".into(), escaper.escape(description).into());
        }
        if !tool.parameters.is_null() {
            function.insert("parameters".into(), escaped(&tool.parameters, escaper));
        }
        json!({"type": "function", "function": function})
    });
    Value::Array(tools.collect())
}

fn message(index: usize, message: &Message, escaper: &Escaper) -> Result<Value, EngineError> {
    for (part_index, part) in message.content.iter().enumerate() {
        let kind = match part {
            Part::Text(_) => continue,
            Part::Image { .. } => "image",
            Part::File { .. } => "file",
            Part::Other { kind } => kind.as_str(),
        };
        let field = format!("messages[{index}].content[{part_index}]");
        let message =
            format!("the built-in engines read text only, not `{}`", kind.chars().take(40).collect::<String>());
        return Err(EngineError::Unsupported { field, message });
    }
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut fields = Map::new();
    fields.insert("role".into(), role.into());
    fields.insert("content".into(), escaper.escape(&message.joined_text()).into());
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| tool_call(call, escaper));
        fields.insert("tool_calls".into(), calls.collect());
    }
    if let Some(id) = &message.tool_call_id {
        fields.insert("tool_call_id".into(), escaper.escape(id).into());
    }
    Ok(Value::Object(fields))
}

/// Arguments that are a JSON object go in as one, as Hugging Face's callers do; others as text.
fn tool_call(call: &ToolCall, escaper: &Escaper) -> Value {
    let arguments = match serde_json::from_str::<Value>(&call.arguments) {
        Ok(object @ Value::Object(_)) => escaped(&object, escaper),
        _ => escaper.escape(&call.arguments).into(),
    };
    let name = escaper.escape(&call.name);
    json!({"id": escaper.escape(&call.id), "type": "function", "function": {"name": name, "arguments": arguments}})
}

/// `value` with every text in it escaped, names of fields included.
fn escaped(value: &Value, escaper: &Escaper) -> Value {
    match value {
        Value::String(text) => escaper.escape(text).into(),
        Value::Array(items) => items.iter().map(|item| escaped(item, escaper)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| (escaper.escape(name), escaped(field, escaper)));
            Value::Object(fields.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}
