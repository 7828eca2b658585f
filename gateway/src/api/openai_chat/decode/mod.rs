//! From a body's bytes to a [`ChatRequest`]. Refuses what has no clear meaning, names the field, and never shows the
//! caller's text in an error. Must never know which backends exist: what built-in engines cannot honour is only noted.

mod messages;
mod settings;
mod tools;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;
use weir_protocol::{ChatRequest, Dialect, Effort, EngineError, Hints};

use crate::api::reading::fields::{self, Members, Path};
use crate::api::reading::{self, diffusion, sampling, tool_choice};

/// Decodes a request's body.
///
/// # Errors
/// [`EngineError::InvalidRequest`], with the path of the field at fault.
pub fn decode(body: &[u8]) -> Result<ChatRequest, EngineError> {
    let (raw, written) = reading::parse_and_keep(body)?;
    let members = Members::from_map(&Path::Body, &raw);
    // Answers to it come in a shape of their own, which nobody here speaks: silence would look like no call at all.
    for (old, new) in [("functions", "tools"), ("function_call", "tool_choice")] {
        if members.get(old).is_some() {
            return Err(EngineError::invalid(old, format!("is the old form; send `{new}`")));
        }
    }
    let mut unsupported = Vec::new();
    let messages = members.need("messages", |path, value| messages::messages(path, value, &mut unsupported))?;
    let mut tools =
        members.read("tools", |path, value| tools::tools(path, value, &mut unsupported))?.unwrap_or_default();
    let tool_choice = members
        .read("tool_choice", |path, value| {
            tool_choice::read(path, value, Some("function"), &mut tools, &mut unsupported)
        })?
        .unwrap_or_default();
    settings::note_unsupported(&members, &mut unsupported)?;
    Ok(ChatRequest {
        model: reading::model(&members)?,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: members.read("parallel_tool_calls", fields::boolean)?,
        bare_prompt: false,
        prefill: false,
        effort: members.get("reasoning_effort").and_then(Value::as_str).and_then(Effort::of_word),
        response_format: settings::form(&members)?,
        schema_terms: settings::schema_terms(&members)?,
        sampling: settings::sampling(&members)?,
        max_tokens: settings::max_tokens(&members)?,
        stream: members.read("stream", fields::boolean)?.unwrap_or(false),
        include_usage: members.read("stream_options", sampling::include_usage)?.unwrap_or(false),
        diffusion: diffusion::options(&members)?,
        unsupported,
        // Known from headers and from the text; a body says neither.
        tenant: None,
        background: false,
        hints: Hints::default(),
        dialect: Dialect::OpenAiChat,
        amended: false,
        written: Some(written),
        raw: Arc::new(raw),
    })
}
