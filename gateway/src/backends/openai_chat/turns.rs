//! The conversation as turns of a chat completions body. Many templates take rules in one turn only, and want the others'
//! turns to alternate: neighbours of one role are one turn. Must never leave out a part that was not refused before.

use std::borrow::Cow;

use serde_json::{Value, json};
use weir_protocol::{Message, Part, Role};

use super::parts::{self, part};
use crate::backends::upstream::body::{self, Fields};
use crate::config::wire::ReasoningField;

/// What stands between texts that were turns of their own.
const BETWEEN_TURNS: &str = "\n\n";

/// Results of tools are text there: their images are shown by the user, once all results are told.
pub(super) fn conversation(messages: &[Message], model: &str, reasoning: ReasoningField) -> Vec<Value> {
    let (mut turns, mut shown) = (Vec::with_capacity(messages.len()), Vec::new());
    for message in messages {
        if message.role != Role::Tool {
            show(&mut shown, &mut turns);
        }
        if message.role == Role::System && message.joined_text().is_empty() {
            continue;
        }
        join(&mut turns, Cow::Borrowed(message));
        if message.role == Role::Tool && !body::is_text(message) {
            let id = parts::call_id(message.tool_call_id.as_deref().unwrap_or_default());
            shown.push(Part::Text(format!("Shown by the tool call {id}:")));
            shown.extend(message.content.iter().filter(|part| part.as_text().is_none()).cloned());
        }
    }
    show(&mut shown, &mut turns);
    turns.iter().map(|turn| self::turn(turn, model, reasoning)).collect()
}

fn show(shown: &mut Vec<Part>, turns: &mut Vec<Cow<'_, Message>>) {
    if !shown.is_empty() {
        join(turns, Cow::Owned(Message { content: std::mem::take(shown), ..Message::empty(Role::User) }));
    }
}

/// Adds a turn, or makes it a part of the one before.
fn join<'a>(turns: &mut Vec<Cow<'a, Message>>, next: Cow<'a, Message>) {
    let alike = |last: &&mut Cow<'a, Message>| last.role == next.role && next.role != Role::Tool;
    let Some(last) = turns.last_mut().filter(alike) else {
        turns.push(next);
        return;
    };
    let (last, next) = (last.to_mut(), next.into_owned());
    if let (Some(Part::Text(before)), Some(Part::Text(_))) = (last.content.last_mut(), next.content.first())
        && !before.is_empty()
    {
        before.push_str(BETWEEN_TURNS);
    }
    last.content.extend(next.content);
    // The seal belongs to the first call.
    if last.tool_calls.is_empty() && next.reasoning_signature.is_some() {
        last.reasoning_signature = next.reasoning_signature;
    }
    last.tool_calls.extend(next.tool_calls);
    match &mut last.reasoning {
        Some(before) => before.extend(next.reasoning.iter().flat_map(|more| [BETWEEN_TURNS, more.as_str()])),
        none => *none = next.reasoning,
    }
}

fn turn(message: &Message, model: &str, reasoning: ReasoningField) -> Value {
    match message.role {
        Role::System => json!({"role": "system", "content": message.joined_text()}),
        Role::User if body::is_text(message) => json!({"role": "user", "content": message.joined_text()}),
        Role::User => json!({"role": "user", "content": message.content.iter().filter_map(part).collect::<Vec<_>>()}),
        Role::Assistant => assistant(message, model, reasoning),
        Role::Tool => {
            let id = message.tool_call_id.as_deref().map(parts::call_id);
            json!({"role": "tool", "tool_call_id": id, "content": body::result_text(message)})
        }
    }
}

fn assistant(message: &Message, model: &str, reasoning: ReasoningField) -> Value {
    let text = message.joined_text();
    let mut fields = Fields::default();
    fields.set("role", "assistant");
    // Only a turn that calls tools may say nothing.
    let silent = text.is_empty() && !message.tool_calls.is_empty();
    fields.set("content", if silent { Value::Null } else { text.into() });
    if let Some(field) = reasoning.as_str() {
        // Where nothing is known of what stood before a call, the field must still be there, and not empty.
        let unknown = (!message.tool_calls.is_empty()).then_some(" ");
        fields.set_some(field, message.reasoning.as_deref().filter(|text| !text.is_empty()).or(unknown));
    }
    fields.set_list("tool_calls", parts::calls(message, model));
    fields.0.into()
}
