//! From a body's bytes to a [`ChatRequest`]. Refuses what has no clear meaning, names the field, and never shows the
//! caller's text in an error. Must never know which backends exist: what built-in engines cannot honour is only noted.

mod blocks;
mod tools;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;
use weir_protocol::{
    ChatRequest, Dialect, Effort, EngineError, Hints, Message, Part, ResponseFormat, Role, Sampling, SchemaTerms,
};

use crate::api::reading::fields::{self, Members, Path};
use crate::api::reading::{self, diffusion, note, sampling, schema};

/// Decodes the body of `POST /v1/messages` or of its `count_tokens`.
///
/// # Errors
/// [`EngineError::InvalidRequest`], with the path of the field at fault.
pub fn decode(body: &[u8]) -> Result<ChatRequest, EngineError> {
    let (raw, written) = reading::parse_and_keep(body)?;
    let members = Members::from_map(&Path::Body, &raw);
    let mut unsupported = Vec::new();
    let mut messages: Vec<Message> = members.read("system", system)?.into_iter().collect();
    messages.extend(members.need("messages", |path, value| blocks::turns(path, value, &mut unsupported))?);
    blocks::arguments_as_written(&written, &raw, &mut messages);
    let last = messages.last().filter(|last| last.role == Role::Assistant);
    let is_words =
        |last: &Message| last.tool_calls.is_empty() && last.content.iter().all(|part| part.as_text().is_some());
    let prefill = last.is_some_and(is_words);
    if last.is_some() && !prefill {
        // Nobody else goes on from a call.
        note(&mut unsupported, "prefill");
    }
    let tools = members.read("tools", |path, value| tools::tools(path, value, &mut unsupported))?.unwrap_or_default();
    let choice = members.read("tool_choice", |path, value| tools::choice(path, value, &tools, &unsupported))?;
    let choice = choice.unwrap_or_default();
    for demand in ["mcp_servers", "container"] {
        if members.get(demand).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
            note(&mut unsupported, demand);
        }
    }
    Ok(ChatRequest {
        model: reading::model(&members)?,
        messages,
        tools,
        tool_choice: choice.tool_choice,
        parallel_tool_calls: choice.parallel,
        bare_prompt: false,
        prefill,
        effort: effort(&members),
        response_format: form(&members)?,
        // The dialect knows no form that need not be kept.
        schema_terms: SchemaTerms { strict: true, ..SchemaTerms::default() },
        sampling: Sampling {
            stop: members.read("stop_sequences", stop_sequences)?.unwrap_or_default(),
            ..sampling::settings(&members)?
        },
        max_tokens: members.read("max_tokens", sampling::token_limit)?,
        stream: members.read("stream", fields::boolean)?.unwrap_or(false),
        // Streams of this dialect always end with usage.
        include_usage: true,
        diffusion: diffusion::options(&members)?,
        unsupported,
        // Known from headers and from the text; a body says neither.
        tenant: None,
        background: false,
        hints: Hints::default(),
        dialect: Dialect::AnthropicMessages,
        amended: false,
        written: Some(written),
        raw: Arc::new(raw),
    })
}

fn system(path: &Path<'_>, value: &Value) -> Result<Message, EngineError> {
    let content = match value {
        Value::String(text) => vec![Part::Text(text.clone())],
        Value::Array(blocks) => {
            let text = |(at, value): (usize, &Value)| {
                let path = path.index(at);
                let members = Members::of(&path, value)?;
                members.need("type", |path, value| fields::word(path, value, &[("text", ())]))?;
                members.need("text", fields::string).map(|text| Part::Text(text.to_owned()))
            };
            blocks.iter().enumerate().map(text).collect::<Result<_, _>>()?
        }
        _ => return Err(path.wrong("must be a string or an array of text blocks")),
    };
    Ok(Message { content, ..Message::empty(Role::System) })
}

/// `thinking`, or the word beside it where the model chooses itself.
fn effort(body: &Members<'_, '_>) -> Option<Effort> {
    let thinking = body.get("thinking");
    match thinking.and_then(|thinking| thinking.get("type")?.as_str()) {
        Some("disabled") => Some(Effort::Off),
        Some("enabled") => u32::try_from(thinking?.get("budget_tokens")?.as_u64()?).ok().map(Effort::Tokens),
        _ => Effort::of_word(body.get("output_config")?.get("effort")?.as_str()?),
    }
}

fn stop_sequences(path: &Path<'_>, value: &Value) -> Result<Vec<String>, EngineError> {
    fields::array(path, value)?;
    sampling::stop(path, value)
}

/// `output_config.format` (before: `output_format`), or one of the extensions.
fn form(body: &Members<'_, '_>) -> Result<ResponseFormat, EngineError> {
    let newer = body.read("output_config", |path, value| Members::of(path, value)?.read("format", format))?.flatten();
    let own = newer.or(body.read("output_format", format)?);
    sampling::form(body, "output_config.format", own)
}

fn format(path: &Path<'_>, value: &Value) -> Result<ResponseFormat, EngineError> {
    let members = Members::of(path, value)?;
    members.need("type", |path, value| fields::word(path, value, &[("json_schema", ())]))?;
    members.need("schema", schema).map(ResponseFormat::JsonSchema)
}
