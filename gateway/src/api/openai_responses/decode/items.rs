//! The conversation as items: messages, calls, their results, reasoning. Items of one assistant turn become one message.

use serde_json::{Value, json};
use weir_protocol::{EngineError, Message, Part, Role, Tool, ToolCall};

use super::note_input;
use crate::api::reading::fields::{self, Members, Path};
use crate::api::reading::file;

const ROLES: &[(&str, Role)] =
    &[("user", Role::User), ("assistant", Role::Assistant), ("system", Role::System), ("developer", Role::System)];

pub(super) fn input(
    path: &Path<'_>,
    value: &Value,
    unsupported: &mut Vec<&'static str>,
) -> Result<Vec<Message>, EngineError> {
    let items = match value {
        Value::String(text) => return Ok(vec![Message::text(Role::User, text.as_str())]),
        Value::Array(items) => items,
        _ => return Err(path.wrong("must be a string or an array of items")),
    };
    if items.is_empty() {
        return Err(path.wrong("must hold at least one item"));
    }
    let mut turns = Turns::default();
    for (at, value) in items.iter().enumerate() {
        let path = path.index(at);
        let members = Members::of(&path, value)?;
        match members.read("type", fields::string)?.unwrap_or("message") {
            "message" => turns.message(message(&members)?),
            "function_call" => {
                let call = ToolCall {
                    id: members.need("call_id", fields::string)?.to_owned(),
                    name: called(&members)?,
                    arguments: members.need("arguments", fields::string)?.to_owned(),
                };
                turns.assistant().tool_calls.push(call);
            }
            "custom_tool_call" => {
                let input = members.need("input", fields::string)?;
                let call = ToolCall {
                    id: members.need("call_id", fields::string)?.to_owned(),
                    name: called(&members)?,
                    arguments: json!({Tool::INPUT: input}).to_string(),
                };
                turns.assistant().tool_calls.push(call);
            }
            "function_call_output" | "custom_tool_call_output" => turns.0.push(Message {
                tool_call_id: Some(members.need("call_id", fields::string)?.to_owned()),
                content: members.need("output", content)?,
                ..Message::empty(Role::Tool)
            }),
            "reasoning" => turns.reasoning(&members)?,
            "item_reference" => {
                return Err(path.key("type").wrong("no response is stored, so items cannot be referred to; send them"));
            }
            // Steps of tools an upstream runs by itself.
            _ => note_input(unsupported),
        }
    }
    match turns.0.is_empty() {
        // Only such steps: whoever can read them has the body.
        true => Ok(vec![Message::empty(Role::User)]),
        false => Ok(turns.0),
    }
}

/// The name of what a call is for, as other dialects have it.
fn called(members: &Members<'_, '_>) -> Result<String, EngineError> {
    let name = members.need("name", fields::string)?;
    Ok(Tool::called(members.read("namespace", fields::string)?, name))
}

/// Messages so far.
#[derive(Default)]
struct Turns(Vec<Message>);

impl Turns {
    /// What an assistant said joins the turn it belongs to, if that has not spoken yet, or has calls whose results are
    /// still to come: no other dialect knows a word between a call and its result.
    fn message(&mut self, message: Message) {
        match self.0.last_mut().filter(|last| last.role == Role::Assistant) {
            Some(last)
                if message.role == Role::Assistant && (last.content.is_empty() || !last.tool_calls.is_empty()) =>
            {
                last.content.extend(message.content);
            }
            _ => self.0.push(message),
        }
    }

    /// The assistant's turn that is under way.
    fn assistant(&mut self) -> &mut Message {
        if self.0.last().is_none_or(|last| last.role != Role::Assistant) {
            self.0.push(Message::empty(Role::Assistant));
        }
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Reasoning begins a turn, or stands between its calls; its text is what is shown of it, else its summary.
    fn reasoning(&mut self, members: &Members<'_, '_>) -> Result<(), EngineError> {
        let summary = members.read("summary", |path, value| texts(path, value, "\n\n"))?.unwrap_or_default();
        let shown = members.read("content", |path, value| texts(path, value, ""))?.unwrap_or_default();
        let text = if shown.is_empty() { summary } else { shown };
        let seal = members.read("encrypted_content", fields::string)?;
        if self.0.last().is_none_or(|last| last.role != Role::Assistant || last.tool_calls.is_empty()) {
            self.0.push(Message::empty(Role::Assistant));
        }
        let turn = self.assistant();
        turn.reasoning_signature = seal.map(str::to_owned);
        match &mut turn.reasoning {
            Some(before) if !text.is_empty() => before.extend(["\n\n", text.as_str()]),
            Some(_) => {}
            none => *none = Some(text).filter(|text| !text.is_empty()),
        }
        Ok(())
    }
}

fn message(members: &Members<'_, '_>) -> Result<Message, EngineError> {
    let role = members.need("role", |path, value| fields::word(path, value, ROLES))?;
    Ok(Message { content: members.need("content", content)?, ..Message::empty(role) })
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
        "input_text" | "output_text" | "text" => {
            members.need("text", fields::string).map(|text| Part::Text(text.to_owned()))
        }
        "refusal" => members.need("refusal", fields::string).map(|text| Part::Text(text.to_owned())),
        "input_image" => match members.read("image_url", fields::string)? {
            Some(url) => {
                let detail = members.read("detail", fields::string)?.map(str::to_owned);
                Ok(Part::Image { url: url.to_owned(), detail })
            }
            // A file that lies with one provider.
            None => Ok(Part::Other { kind: "input_image.file_id".into() }),
        },
        "input_file" => file::part(&members, "input_file"),
        kind => Ok(Part::Other { kind: fields::shown(kind) }),
    }
}

/// The texts of an array of parts, with this between them.
fn texts(path: &Path<'_>, value: &Value, between: &str) -> Result<String, EngineError> {
    let mut all = Vec::new();
    for (at, value) in fields::array(path, value)?.iter().enumerate() {
        let path = path.index(at);
        all.push(Members::of(&path, value)?.need("text", fields::string)?);
    }
    Ok(all.join(between))
}
