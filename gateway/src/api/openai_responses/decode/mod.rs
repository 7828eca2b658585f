//! From a body's bytes to a [`ChatRequest`]. Refuses what has no clear meaning, names the field, and never shows the
//! caller's text in an error. Must never know which backends exist: what built-in engines cannot honour is only noted.

mod items;
mod tools;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;
use weir_protocol::{
    ChatRequest, Dialect, Effort, EngineError, Hints, Message, ResponseFormat, Role, Sampling, SchemaTerms,
};

use crate::api::reading::fields::{self, Members, Path};
use crate::api::reading::{self, diffusion, note, sampling, schema, tool_choice};

/// OpenAI's limit.
const MAX_LOGPROBS: u32 = 20;

/// Decodes a request's body.
///
/// # Errors
/// [`EngineError::InvalidRequest`], with the path of the field at fault.
pub fn decode(body: &[u8]) -> Result<ChatRequest, EngineError> {
    let (raw, written) = reading::parse_and_keep(body)?;
    let members = Members::from_map(&Path::Body, &raw);
    stateless(&members)?;
    let mut unsupported = Vec::new();
    let instructions = members.read("instructions", fields::string)?;
    let mut messages: Vec<Message> = instructions.map(|text| Message::text(Role::System, text)).into_iter().collect();
    messages.extend(members.need("input", |path, value| items::input(path, value, &mut unsupported))?);
    let mut tools =
        members.read("tools", |path, value| tools::tools(path, value, &mut unsupported))?.unwrap_or_default();
    let tool_choice = members
        .read("tool_choice", |path, value| tool_choice::read(path, value, None, &mut tools, &mut unsupported))?
        .unwrap_or_default();
    Ok(ChatRequest {
        model: reading::model(&members)?,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: members.read("parallel_tool_calls", fields::boolean)?,
        bare_prompt: false,
        prefill: false,
        effort: members.get("reasoning").and_then(|wish| Effort::of_word(wish.get("effort")?.as_str()?)),
        response_format: form(&members)?,
        schema_terms: schema_terms(&members)?,
        sampling: Sampling {
            stop: members.read("stop", sampling::stop)?.unwrap_or_default(),
            logprobs: logprobs(&members)?,
            ..sampling::settings(&members)?
        },
        max_tokens: members.read("max_output_tokens", sampling::token_limit)?,
        stream: members.read("stream", fields::boolean)?.unwrap_or(false),
        // Streams of this dialect always end with usage.
        include_usage: true,
        diffusion: diffusion::options(&members)?,
        unsupported,
        // Known from headers and from the text; a body says neither.
        tenant: None,
        background: false,
        hints: Hints::default(),
        dialect: Dialect::OpenAiResponses,
        amended: false,
        written: Some(written),
        raw: Arc::new(raw),
    })
}

/// Refuses what needs a memory of earlier requests. `store` is taken: that nothing is stored, the answer says.
fn stateless(body: &Members<'_, '_>) -> Result<(), EngineError> {
    const ADVICE: &str = "is not known here: no response is stored; send the whole conversation in `input`";
    for field in ["previous_response_id", "conversation"] {
        if body.get(field).is_some() {
            return Err(EngineError::invalid(field, ADVICE));
        }
    }
    if body.get("prompt").is_some() {
        return Err(EngineError::invalid(
            "prompt",
            "stored prompts are not known here; send `instructions` and `input`",
        ));
    }
    if body.read("background", fields::boolean)? == Some(true) {
        return Err(EngineError::invalid("background", "no response is stored to be fetched later; stream it instead"));
    }
    Ok(())
}

/// Log-probabilities are asked for by name in `include`, or by a number.
fn logprobs(body: &Members<'_, '_>) -> Result<Option<u32>, EngineError> {
    let included = body.read("include", fields::array)?.unwrap_or_default();
    let wanted = included.iter().any(|name| name == "message.output_text.logprobs");
    let top = body.read("top_logprobs", |path, value| fields::whole(path, value, 0, MAX_LOGPROBS))?.unwrap_or(0);
    Ok((wanted || top > 0).then_some(top))
}

/// `text.format`, or one of the extensions.
fn form(body: &Members<'_, '_>) -> Result<ResponseFormat, EngineError> {
    let own = body.read("text", |path, value| Members::of(path, value)?.read("format", format))?.flatten();
    sampling::form(body, "text.format", own)
}

/// What stands beside the schema in `text.format`.
fn schema_terms(body: &Members<'_, '_>) -> Result<SchemaTerms, EngineError> {
    let terms = |path: &Path<'_>, value: &Value| reading::schema_terms(&Members::of(path, value)?);
    let inside = |path: &Path<'_>, value: &Value| Members::of(path, value)?.read("format", terms);
    Ok(body.read("text", inside)?.flatten().unwrap_or_default())
}

fn format(path: &Path<'_>, value: &Value) -> Result<ResponseFormat, EngineError> {
    const KINDS: &[(&str, Option<ResponseFormat>)] = &[
        ("text", Some(ResponseFormat::Text)),
        ("json_object", Some(ResponseFormat::JsonObject)),
        ("json_schema", None),
    ];
    let members = Members::of(path, value)?;
    let plain = members.need("type", |path, value| {
        let given = fields::string(path, value)?;
        let known = KINDS.iter().find(|(word, _)| *word == given);
        known.map(|(_, format)| format.clone()).ok_or_else(|| fields::unknown(path, given, KINDS))
    })?;
    match plain {
        Some(format) => Ok(format),
        None => members.need("schema", schema).map(ResponseFormat::JsonSchema),
    }
}

/// Notes that the conversation holds something only some backends can read.
fn note_input(unsupported: &mut Vec<&'static str>) {
    note(unsupported, "input");
}
