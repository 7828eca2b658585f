//! The conversation: roles, content as text or parts, calls and their results.

use serde_json::Value;
use weir_protocol::{EngineError, Message, Part, Role, ToolCall};

use crate::api::reading::fields::{self, Members, Path};
use crate::api::reading::{file, note};

/// `function` is the older word for a tool's result; such turns name the function instead of a call.
const ROLES: &[(&str, (Role, bool))] = &[
    ("system", (Role::System, false)),
    ("developer", (Role::System, false)),
    ("user", (Role::User, false)),
    ("assistant", (Role::Assistant, false)),
    ("tool", (Role::Tool, false)),
    ("function", (Role::Tool, true)),
];

pub(super) fn messages(
    path: &Path<'_>,
    value: &Value,
    unsupported: &mut Vec<&'static str>,
) -> Result<Vec<Message>, EngineError> {
    let turns = fields::array(path, value)?;
    if turns.is_empty() {
        return Err(path.wrong("must hold at least one message"));
    }
    turns.iter().enumerate().map(|(at, turn)| message(&path.index(at), turn, unsupported)).collect()
}

fn message(path: &Path<'_>, value: &Value, unsupported: &mut Vec<&'static str>) -> Result<Message, EngineError> {
    let members = Members::of(path, value)?;
    let (role, by_name) = members.need("role", |path, value| fields::word(path, value, ROLES))?;
    let mut message = Message::empty(role);
    match role {
        // An assistant turn may be empty: it only calls tools, or was cut before its first word.
        Role::Assistant => {
            message.content = members.read("content", content)?.unwrap_or_default();
            if let Some(refusal) = members.read("refusal", fields::string)? {
                message.content.push(Part::Text(refusal.to_owned()));
            }
            // DeepSeek's and vLLM's name, then OpenRouter's. No field of the dialect, so other types are let be.
            let reasoning = ["reasoning_content", "reasoning"].into_iter().find_map(|key| members.get(key)?.as_str());
            message.reasoning = reasoning.map(str::to_owned);
            message.tool_calls =
                members.read("tool_calls", |path, value| tool_calls(path, value, unsupported))?.unwrap_or_default();
            message.tool_calls.extend(members.read("function_call", old_call)?);
        }
        Role::Tool => {
            message.content = members.need("content", content)?;
            let key = if by_name { "name" } else { "tool_call_id" };
            message.tool_call_id = Some(members.need(key, fields::string)?.to_owned());
        }
        Role::System | Role::User => message.content = members.need("content", content)?,
    }
    Ok(message)
}

fn content(path: &Path<'_>, value: &Value) -> Result<Vec<Part>, EngineError> {
    match value {
        Value::String(text) => Ok(vec![Part::Text(text.clone())]),
        Value::Array(parts) => parts.iter().enumerate().map(|(at, value)| part(&path.index(at), value)).collect(),
        _ => Err(path.wrong("must be a string or an array of parts")),
    }
}

fn part(path: &Path<'_>, value: &Value) -> Result<Part, EngineError> {
    let members = Members::of(path, value)?;
    match members.need("type", fields::string)? {
        "text" => members.need("text", fields::string).map(|text| Part::Text(text.to_owned())),
        "refusal" => members.need("refusal", fields::string).map(|text| Part::Text(text.to_owned())),
        "image_url" => members.need("image_url", image),
        "file" => members.need("file", |path, value| file::part(&Members::of(path, value)?, "file")),
        kind => Ok(Part::Other { kind: fields::shown(kind) }),
    }
}

fn image(path: &Path<'_>, value: &Value) -> Result<Part, EngineError> {
    // Some clients leave out the object around the URL.
    if let Value::String(url) = value {
        return Ok(Part::image(url.as_str()));
    }
    let members = Members::of(path, value)?;
    let url = members.need("url", fields::string)?.to_owned();
    Ok(Part::Image { url, detail: members.read("detail", fields::string)?.map(str::to_owned) })
}

fn tool_calls(
    path: &Path<'_>,
    value: &Value,
    unsupported: &mut Vec<&'static str>,
) -> Result<Vec<ToolCall>, EngineError> {
    let mut calls = Vec::new();
    for (at, value) in fields::array(path, value)?.iter().enumerate() {
        let path = path.index(at);
        let members = Members::of(&path, value)?;
        if members.read("type", fields::string)?.is_some_and(|kind| kind != "function") {
            note(unsupported, "tool_calls");
            continue;
        }
        let id = members.need("id", fields::string)?.to_owned();
        let call = members.need("function", |path, value| function(path, value, id))?;
        calls.push(call);
    }
    Ok(calls)
}

/// The older form of a call has no id; its result refers to the function's name.
fn old_call(path: &Path<'_>, value: &Value) -> Result<ToolCall, EngineError> {
    let mut call = function(path, value, String::new())?;
    call.id.clone_from(&call.name);
    Ok(call)
}

fn function(path: &Path<'_>, value: &Value, id: String) -> Result<ToolCall, EngineError> {
    let members = Members::of(path, value)?;
    let name = members.need("name", fields::string)?.to_owned();
    let arguments = members.read("arguments", fields::string)?.unwrap_or("{}").to_owned();
    Ok(ToolCall { id, name, arguments })
}
