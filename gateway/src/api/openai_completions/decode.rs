//! From a body's bytes to a [`ChatRequest`]. A prompt is gone on with as it stands. With a `suffix` the request becomes a
//! turn that asks for what belongs between the two: no model here reads text on both sides of a gap by itself, all of
//! them can be asked. Must never know which backends exist.

use std::sync::Arc;

use serde_json::Value;
use weir_protocol::{ChatRequest, Dialect, EngineError, Message, Role, Sampling};

use crate::api::reading::fields::{self, Members, Path};
use crate::api::reading::{self, diffusion, note, sampling};

/// OpenAI's own, and what clients of this dialect count on.
const MAX_TOKENS_DEFAULT: u32 = 16;
/// OpenAI's limit.
const MAX_LOGPROBS: u32 = 5;
const MAX_N: u32 = 128;

/// Decodes a request's body.
///
/// # Errors
/// [`EngineError::InvalidRequest`], with the path of the field at fault.
pub fn decode(body: &[u8]) -> Result<ChatRequest, EngineError> {
    let (raw, written) = reading::parse_and_keep(body)?;
    let members = Members::from_map(&Path::Body, &raw);
    let prompt = members.need("prompt", prompt)?;
    let suffix = members.read("suffix", fields::string)?.filter(|suffix| !suffix.is_empty());
    let mut unsupported = Vec::new();
    for demand in ["n", "best_of"] {
        if members.read(demand, |path, value| fields::whole(path, value, 1, MAX_N))?.is_some_and(|count| count > 1) {
            note(&mut unsupported, demand);
        }
    }
    let logprobs = members.read("logprobs", |path, value| fields::whole(path, value, 0, MAX_LOGPROBS))?;
    if members.read("echo", fields::boolean)? == Some(true) && (logprobs.is_some() || suffix.is_some()) {
        return Err(EngineError::invalid("echo", "cannot be had beside `logprobs` or `suffix`"));
    }
    let turn = match suffix {
        Some(suffix) => gap(prompt, suffix),
        None if prompt.is_empty() => return Err(EngineError::invalid("prompt", "must not be empty without `suffix`")),
        None => prompt.to_owned(),
    };
    Ok(ChatRequest {
        model: reading::model(&members)?,
        messages: vec![Message::text(Role::User, turn)],
        bare_prompt: suffix.is_none(),
        response_format: sampling::form(&members, "regex", None)?,
        sampling: Sampling {
            stop: members.read("stop", sampling::stop)?.unwrap_or_default(),
            logprobs,
            ..sampling::settings(&members)?
        },
        max_tokens: Some(members.read("max_tokens", sampling::token_limit)?.unwrap_or(MAX_TOKENS_DEFAULT)),
        stream: members.read("stream", fields::boolean)?.unwrap_or(false),
        include_usage: members.read("stream_options", sampling::include_usage)?.unwrap_or(false),
        diffusion: diffusion::options(&members)?,
        unsupported,
        dialect: Dialect::OpenAiCompletions,
        written: Some(written),
        raw: Arc::new(raw),
        ..ChatRequest::default()
    })
}

/// One text, alone or in a list; tokens are another model's.
fn prompt<'v>(path: &Path<'_>, value: &'v Value) -> Result<&'v str, EngineError> {
    match value {
        Value::Array(prompts) => match prompts.as_slice() {
            [Value::String(only)] => Ok(only),
            [] => Err(path.wrong("must have one prompt in its list, or be the text itself")),
            [Value::String(_), ..] => Err(path.wrong("must be one prompt; send a request for each")),
            _ => Err(path.wrong("must be text: token ids mean something else to every model")),
        },
        _ => fields::string(path, value),
    }
}

fn gap(before: &str, after: &str) -> String {
    format!(
        "A text has a gap. Write exactly what belongs into the gap, so that the whole reads as one: no quotes, no \
         explanation, nothing of what stands before or after it.\n\n\
         Before the gap:\n<before>{before}</before>\n\nAfter the gap:\n<after>{after}</after>"
    )
}

#[cfg(test)]
mod tests;
