//! Everything but the conversation that chat completions have a name of their own for: limits, log-probabilities,
//! structure, and demands only some backends can honour.

use serde_json::Value;
use weir_protocol::{EngineError, ResponseFormat, Sampling, SchemaTerms};

use crate::api::reading::fields::{self, Members, Path};
use crate::api::reading::{self, note, sampling, schema};

const MAX_N: u32 = 128;
/// OpenAI's limit.
const MAX_LOGPROBS: u32 = 20;

/// `max_completion_tokens` is the newer name and wins.
pub(super) fn max_tokens(body: &Members<'_, '_>) -> Result<Option<u32>, EngineError> {
    let older = body.read("max_tokens", sampling::token_limit_or_none)?.flatten();
    Ok(body.read("max_completion_tokens", sampling::token_limit_or_none)?.flatten().or(older))
}

pub(super) fn sampling(body: &Members<'_, '_>) -> Result<Sampling, EngineError> {
    Ok(Sampling {
        stop: body.read("stop", sampling::stop)?.unwrap_or_default(),
        logprobs: logprobs(body)?,
        ..sampling::settings(body)?
    })
}

/// How many tokens beside each, if log-probabilities are asked for.
fn logprobs(body: &Members<'_, '_>) -> Result<Option<u32>, EngineError> {
    let wanted = body.read("logprobs", fields::boolean)?.unwrap_or(false);
    let top = body.read("top_logprobs", |path, value| fields::whole(path, value, 0, MAX_LOGPROBS))?.unwrap_or(0);
    if top > 0 && !wanted {
        return Err(EngineError::invalid("top_logprobs", "needs `logprobs` to be true"));
    }
    Ok(wanted.then_some(top))
}

/// The form demanded: `response_format`, or one of the extensions.
pub(super) fn form(body: &Members<'_, '_>) -> Result<ResponseFormat, EngineError> {
    sampling::form(body, "response_format", body.read("response_format", response_format)?)
}

/// What stands beside the schema in `response_format`.
pub(super) fn schema_terms(body: &Members<'_, '_>) -> Result<SchemaTerms, EngineError> {
    let inside = |path: &Path<'_>, value: &Value| Members::of(path, value)?.read("json_schema", terms);
    Ok(body.read("response_format", inside)?.flatten().unwrap_or_default())
}

fn terms(path: &Path<'_>, value: &Value) -> Result<SchemaTerms, EngineError> {
    reading::schema_terms(&Members::of(path, value)?)
}

fn response_format(path: &Path<'_>, value: &Value) -> Result<ResponseFormat, EngineError> {
    #[derive(Clone, Copy)]
    enum Kind {
        Text,
        Object,
        Schema,
    }
    const KINDS: &[(&str, Kind)] =
        &[("text", Kind::Text), ("json_object", Kind::Object), ("json_schema", Kind::Schema)];
    let members = Members::of(path, value)?;
    match members.need("type", |path, value| fields::word(path, value, KINDS))? {
        Kind::Text => Ok(ResponseFormat::Text),
        Kind::Object => Ok(ResponseFormat::JsonObject),
        Kind::Schema => {
            let schema = members.need("json_schema", |path, value| Members::of(path, value)?.read("schema", schema))?;
            // Without a schema the demand is only "some JSON object".
            Ok(schema.map_or(ResponseFormat::JsonObject, ResponseFormat::JsonSchema))
        }
    }
}

/// Notes demands the built-in engines cannot honour. Hints they may ignore without harm are not among them.
pub(super) fn note_unsupported(body: &Members<'_, '_>, unsupported: &mut Vec<&'static str>) -> Result<(), EngineError> {
    if body.read("n", |path, value| fields::whole(path, value, 1, MAX_N))?.is_some_and(|n| n > 1) {
        note(unsupported, "n");
    }
    let modalities = body.read("modalities", fields::array)?.unwrap_or_default();
    if modalities.iter().any(|kind| kind != "text") {
        note(unsupported, "modalities");
    }
    for demand in ["audio", "web_search_options"] {
        if body.get(demand).is_some() {
            note(unsupported, demand);
        }
    }
    Ok(())
}
