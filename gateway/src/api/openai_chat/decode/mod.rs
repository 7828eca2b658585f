//! From a body's bytes to a [`ChatRequest`]. Refuses what has no clear meaning, names the field, and never shows the
//! caller's text in an error. Must never know which backends exist: what built-in engines cannot honour is only noted.

mod diffusion;
mod fields;
mod json;
mod messages;
mod settings;
mod tools;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::error::Category;
use serde_json::{Map, Value};
use weir_protocol::{ChatRequest, Dialect, EngineError};

use fields::{Members, Path};

/// Longest model id taken: ids go into headers, logs and metrics.
const MODEL_ID_MAX: usize = 256;

/// Decodes a request's body.
///
/// # Errors
/// [`EngineError::InvalidRequest`], with the path of the field at fault.
pub fn decode(body: &[u8]) -> Result<ChatRequest, EngineError> {
    let raw = parse(body)?;
    let members = Members::from_map(&Path::Body, &raw);
    // Answers to it come in a shape of their own, which nobody here speaks: silence would look like no call at all.
    for (old, new) in [("functions", "tools"), ("function_call", "tool_choice")] {
        if members.get(old).is_some() {
            return Err(EngineError::invalid(old, format!("is the old form; send `{new}`")));
        }
    }
    let mut unsupported = Vec::new();
    let messages = members.need("messages", |path, value| messages::messages(path, value, &mut unsupported))?;
    let tools = members.read("tools", |path, value| tools::tools(path, value, &mut unsupported))?.unwrap_or_default();
    let tool_choice = members
        .read("tool_choice", |path, value| tools::choice(path, value, &tools, &mut unsupported))?
        .unwrap_or_default();
    settings::note_unsupported(&members, &mut unsupported)?;
    Ok(ChatRequest {
        model: members.read("model", model)?.unwrap_or_else(|| "auto".to_owned()),
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: members.read("parallel_tool_calls", fields::boolean)?,
        bare_prompt: false,
        response_format: settings::form(&members)?,
        sampling: settings::sampling(&members)?,
        max_tokens: settings::max_tokens(&members)?,
        stream: members.read("stream", fields::boolean)?.unwrap_or(false),
        include_usage: members.read("stream_options", settings::include_usage)?.unwrap_or(false),
        diffusion: diffusion::options(&members)?,
        unsupported,
        // Known from headers and from the text; a body says neither.
        tenant: None,
        background: false,
        dialect: Dialect::OpenAiChat,
        raw: Arc::new(raw),
    })
}

fn parse(body: &[u8]) -> Result<Map<String, Value>, EngineError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        EngineError::invalid("", format!("the body is not UTF-8 (at byte {})", error.valid_up_to()))
    })?;
    let value = json::parse(text).map_err(|error| {
        let what = match error.classify() {
            Category::Eof => "the body's JSON ends too early",
            _ if error.to_string().starts_with("recursion limit") => "the body's JSON is nested too deeply",
            _ => "the body is not valid JSON",
        };
        EngineError::invalid("", format!("{what} (line {}, column {})", error.line(), error.column()))
    })?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(EngineError::invalid("", "the body must be a JSON object")),
    }
}

fn model(path: &Path<'_>, value: &Value) -> Result<String, EngineError> {
    let id = fields::string(path, value)?;
    if id.is_empty() || id.len() > MODEL_ID_MAX || id.chars().any(char::is_control) {
        return Err(path.wrong(format!("must be 1 to {MODEL_ID_MAX} visible characters")));
    }
    Ok(id.to_owned())
}
