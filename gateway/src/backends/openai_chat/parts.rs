//! What turns of a chat completions body are made of. Must never leave out a part that was not refused before.

use std::borrow::Cow;

use serde_json::{Value, json};
use weir_protocol::{ChatRequest, EngineError, Message, Part, ToolCall};

use crate::backends::upstream::body::{self, Fields};
use crate::backends::upstream::demands::unsupported;
use crate::backends::upstream::seal;

/// OpenAI's models refused longer ids of calls for years, and some that speak its dialect still do.
const CALL_ID_MAX: usize = 40;

/// The id of a call as it can be said here.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    body::call_id(id, CALL_ID_MAX)
}

/// The calls of a turn. The first one carries what this model gave with it.
pub(super) fn calls(message: &Message, model: &str) -> Vec<Value> {
    let call = |call: &ToolCall| {
        // Servers read it as JSON, for the template.
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let function = json!({"name": call.name, "arguments": arguments});
        json!({"id": call_id(&call.id), "type": "function", "function": function})
    };
    let mut calls: Vec<Value> = message.tool_calls.iter().map(call).collect();
    let seal = message.reasoning_signature.as_deref().and_then(|told| seal::own(told, model));
    if let Some((first, signature)) = calls.first_mut().zip(seal) {
        first["extra_content"] = json!({"google": {"thought_signature": signature}});
    }
    calls
}

/// Refuses files on the web: the dialect has no field for their address.
///
/// # Errors
/// There is one.
pub(super) fn refuse_linked_files(request: &ChatRequest) -> Result<(), EngineError> {
    let mut parts = request.messages.iter().flat_map(|message| &message.content);
    match parts.any(|part| matches!(part, Part::File { url, .. } if body::data_url(url).is_none())) {
        true => Err(unsupported("messages", "chat completions take files as base64 data URLs only")),
        false => Ok(()),
    }
}

/// `None` for what was refused before.
pub(super) fn part(part: &Part) -> Option<Value> {
    match part {
        Part::Text(text) => Some(json!({"type": "text", "text": text})),
        Part::Image { url, detail } => {
            let mut image = Fields::default();
            image.set("url", url.as_str());
            image.set_some("detail", detail.as_deref());
            Some(json!({"type": "image_url", "image_url": image.0}))
        }
        Part::File { url, name } => {
            let name = name.as_deref().unwrap_or(body::FILE_NAME);
            Some(json!({"type": "file", "file": {"filename": name, "file_data": url}}))
        }
        Part::Other { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::anthropic_messages::decode::decode;
    use crate::config::wire::{BackendKind, WireSettings};

    fn sent(body: &Value) -> Result<Value, EngineError> {
        let request = decode(body.to_string().as_bytes()).expect("a good request");
        let sent = super::super::compose::body(&request, "m", &WireSettings::plain(BackendKind::OpenAiChat))?;
        Ok(serde_json::from_slice(&sent).expect("JSON"))
    }

    #[test]
    fn documents_are_files() {
        let asked = |document: Value| json!({"max_tokens": 9, "messages": [{"role": "user", "content": [document]}]});
        let of = |source: Value| json!({"type": "document", "title": "T", "source": source});
        let pdf = of(json!({"type": "base64", "media_type": "application/pdf", "data": "AA"}));
        let file = json!({"filename": "T", "file_data": "data:application/pdf;base64,AA"});
        let told = sent(&asked(pdf.clone())).expect("sent")["messages"][0]["content"].clone();
        assert_eq!(told, json!([{"type": "file", "file": file}]));
        let mut cited = pdf;
        cited["citations"] = json!({"enabled": true});
        for refused in
            [of(json!({"type": "url", "url": "https://x.test/a"})), of(json!({"type": "file", "file_id": "f"})), cited]
        {
            let error = sent(&asked(refused)).err();
            assert!(matches!(&error, Some(EngineError::Unsupported { field, .. }) if field == "messages"), "{error:?}");
        }
    }

    #[test]
    fn a_signature_goes_back_to_the_model_it_is_from() {
        let sent = |model: &str| {
            let thought = json!({"type": "thinking", "thinking": "", "signature": seal::marked(model, "s")});
            let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
            let turn = json!({"role": "assistant", "content": [thought, call("a"), call("b")]});
            let user = json!({"role": "user", "content": "a"});
            let sent = sent(&json!({"max_tokens": 9, "messages": [user, turn, user]}));
            sent.expect("sent")["messages"][1]["tool_calls"].clone()
        };
        let calls = sent("m");
        assert_eq!(calls[0]["extra_content"], json!({"google": {"thought_signature": "s"}}));
        assert!(calls[1].get("extra_content").is_none());
        assert!(sent("other")[0].get("extra_content").is_none());
    }

    #[test]
    fn long_ids_are_the_same_in_call_and_result() {
        let id = "x".repeat(41);
        let sent = sent(&json!({"max_tokens": 9, "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "b"}]}]}));
        let messages = &sent.expect("sent")["messages"];
        let call = messages[1]["tool_calls"][0]["id"].as_str().unwrap_or_default();
        assert_eq!((call.len(), messages[2]["tool_call_id"].as_str()), (37, Some(call)));
    }
}
