//! The conversation: turns of blocks. A user's turn may hold results of tools: each becomes a turn of its own.

use serde::Deserialize;
use serde_json::{Map, Value};
use weir_protocol::{EngineError, Message, Part, Role, ToolCall};

use crate::api::anthropic_messages::encode::UNSEALED;
use crate::api::reading::fields::{self, Members, Path};
use crate::api::reading::written::{self, Turn};

const ROLES: &[(&str, Role)] = &[("user", Role::User), ("assistant", Role::Assistant), ("system", Role::System)];

pub(super) fn turns(
    path: &Path<'_>,
    value: &Value,
    unsupported: &mut Vec<&'static str>,
) -> Result<Vec<Message>, EngineError> {
    let turns = fields::array(path, value)?;
    if turns.is_empty() {
        return Err(path.wrong("must hold at least one message"));
    }
    let mut messages = Vec::with_capacity(turns.len());
    for (at, value) in turns.iter().enumerate() {
        let path = path.index(at);
        let members = Members::of(&path, value)?;
        let role = members.need("role", |path, value| fields::word(path, value, ROLES))?;
        members.need("content", |path, value| match value {
            Value::String(text) => {
                messages.push(Message::text(role, text.as_str()));
                Ok(())
            }
            Value::Array(blocks) => turn(path, blocks, role, &mut messages, unsupported),
            _ => Err(path.wrong("must be a string or an array of blocks")),
        })?;
    }
    Ok(messages)
}

/// Gives calls their arguments as they stand in the body, where a number may have been changed by being read.
pub(super) fn arguments_as_written(text: &str, raw: &Map<String, Value>, messages: &mut [Message]) {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        messages: Vec<Turn<'a>>,
    }
    let turns = raw.get("messages").and_then(Value::as_array).into_iter().flatten();
    let mut blocks = turns.filter_map(|turn| turn["content"].as_array()).flatten();
    if !blocks.any(|block| block["type"] == "tool_use" && written::may_differ(&block["input"])) {
        return;
    }
    let Ok(Body { messages: turns }) = serde_json::from_str(text) else { return };
    let arguments: Vec<&str> = turns.iter().flat_map(Turn::arguments).collect();
    let calls: Vec<&mut ToolCall> = messages.iter_mut().flat_map(|message| &mut message.tool_calls).collect();
    if calls.len() == arguments.len() {
        calls.into_iter().zip(arguments).for_each(|(call, arguments)| arguments.clone_into(&mut call.arguments));
    }
}

/// One turn of blocks. Results come before what else is said in the turn, as conversations have it.
fn turn(
    path: &Path<'_>,
    blocks: &[Value],
    role: Role,
    messages: &mut Vec<Message>,
    unsupported: &mut Vec<&'static str>,
) -> Result<(), EngineError> {
    let mut said = Message::empty(role);
    for (at, value) in blocks.iter().enumerate() {
        let path = path.index(at);
        let members = Members::of(&path, value)?;
        match (members.need("type", fields::string)?, role) {
            ("tool_use", Role::Assistant) => said.tool_calls.push(tool_use(&members)?),
            ("tool_result", Role::User) => messages.push(tool_result(&members)?),
            ("thinking", Role::Assistant) => {
                let text = members.need("thinking", fields::string)?;
                said.reasoning.get_or_insert_default().push_str(text);
                let seal = members.read("signature", fields::string)?;
                said.reasoning_signature = seal.filter(|seal| !seal.is_empty() && *seal != UNSEALED).map(str::to_owned);
            }
            // Readable to nobody but the backend that sealed it.
            ("redacted_thinking", Role::Assistant) => {}
            // Steps of tools the API ran by itself: part of the turn's meaning, and nobody else can read them.
            ("server_tool_use" | "mcp_tool_use", Role::Assistant) => {
                crate::api::reading::note(unsupported, "server_tool_use");
            }
            (kind @ ("tool_use" | "tool_result" | "thinking" | "redacted_thinking"), _) => {
                let word = fields::shown(kind);
                return Err(path.key("type").wrong(format!("`{word}` blocks have no place in a turn of this role")));
            }
            (kind, _) => said.content.push(part(&members, kind)?),
        }
    }
    let silent = said.content.is_empty() && said.tool_calls.is_empty();
    // An empty turn is kept where it stands for something: an assistant that was cut before its first word.
    if !silent || role == Role::Assistant {
        messages.push(said);
    }
    Ok(())
}

fn part(members: &Members<'_, '_>, kind: &str) -> Result<Part, EngineError> {
    match kind {
        "text" => members.need("text", fields::string).map(|text| Part::Text(text.to_owned())),
        "image" => members.need("source", image),
        kind => {
            let text = || wrapped(members, kind).map(Part::Text);
            Ok(document(members, kind).or_else(text).unwrap_or_else(|| Part::Other { kind: fields::shown(kind) }))
        }
    }
}

/// A document that other dialects can carry: not one with a context beside it, or that the answer has to cite.
fn document(members: &Members<'_, '_>, kind: &str) -> Option<Part> {
    if kind != "document" || members.get("context").is_some() || is_cited(members) {
        return None;
    }
    let source = members.get("source")?;
    let of = |key: &str| source[key].as_str();
    let url = match of("type")? {
        "base64" => format!("data:{};base64,{}", of("media_type")?, of("data")?),
        "url" => of("url")?.to_owned(),
        // A file that lies with one provider, or text.
        _ => return None,
    };
    Some(Part::File { url, name: members.get("title").and_then(Value::as_str).map(str::to_owned) })
}

fn is_cited(members: &Members<'_, '_>) -> bool {
    members.get("citations").is_some_and(|wish| wish["enabled"] == true)
}

/// Text in a wrapping of its own: a plain document, or what a search found. Not where the answer has to cite it.
fn wrapped(members: &Members<'_, '_>, kind: &str) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(blocks) => {
            let texts: Option<Vec<&str>> = blocks.iter().map(|block| block["text"].as_str()).collect();
            texts.map(|texts| texts.join("\n"))
        }
        _ => None,
    };
    let said = match kind {
        _ if is_cited(members) => None,
        "document" => {
            let source = members.get("source")?;
            match source["type"].as_str()? {
                "text" => text(&source["data"]),
                "content" => text(&source["content"]),
                _ => None,
            }
        }
        "search_result" => text(members.get("content")?),
        _ => None,
    }?;
    let heads = ["title", "source", "context"].into_iter().filter_map(|key| members.get(key)?.as_str());
    Some(heads.chain([said.as_str()]).collect::<Vec<_>>().join("\n"))
}

fn image(path: &Path<'_>, value: &Value) -> Result<Part, EngineError> {
    let members = Members::of(path, value)?;
    match members.need("type", fields::string)? {
        "base64" => {
            let media = members.need("media_type", fields::string)?;
            let data = members.need("data", fields::string)?;
            Ok(Part::image(format!("data:{media};base64,{data}")))
        }
        "url" => members.need("url", fields::string).map(Part::image),
        // A file that lies with one provider.
        kind => Ok(Part::Other { kind: format!("image.{}", fields::shown(kind)) }),
    }
}

fn tool_use(members: &Members<'_, '_>) -> Result<ToolCall, EngineError> {
    let id = members.need("id", fields::string)?.to_owned();
    let name = members.need("name", fields::string)?.to_owned();
    let arguments = members.need("input", |path, value| fields::object(path, value).map(|_| value.to_string()))?;
    Ok(ToolCall { id, name, arguments })
}

fn tool_result(members: &Members<'_, '_>) -> Result<Message, EngineError> {
    let id = members.need("tool_use_id", fields::string)?.to_owned();
    let content = members.read("content", |path, value| match value {
        Value::String(text) => Ok(vec![Part::Text(text.clone())]),
        Value::Array(blocks) => {
            let block = |(at, value): (usize, &Value)| {
                let path = path.index(at);
                let members = Members::of(&path, value)?;
                part(&members, members.need("type", fields::string)?)
            };
            blocks.iter().enumerate().map(block).collect()
        }
        _ => Err(path.wrong("must be a string or an array of blocks")),
    })?;
    Ok(Message {
        content: content.unwrap_or_default(),
        tool_call_id: Some(id),
        tool_failed: members.read("is_error", fields::boolean)?.unwrap_or(false),
        ..Message::empty(Role::Tool)
    })
}
