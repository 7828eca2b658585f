//! Everything but the conversation: limits, sampling, structure, and demands only some backends can honour.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_protocol::{EngineError, ResponseFormat, Sampling};

use super::fields::{self, Members, Path};
use super::messages::note;

/// Beyond any model's window; such a number is a mistake, and a queue should not plan with it.
const MAX_TOKENS: u32 = 1_000_000;
const MAX_N: u32 = 128;
/// OpenAI's limits.
const MAX_BIASES: usize = 1024;
const MAX_LOGPROBS: u32 = 20;
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 1024;
const MAX_GRAMMAR_BYTES: usize = 1 << 20;

/// `max_completion_tokens` is the newer name and wins.
pub(super) fn max_tokens(body: &Members<'_, '_>) -> Result<Option<u32>, EngineError> {
    let limit = |path: &Path<'_>, value: &Value| fields::whole(path, value, 1, MAX_TOKENS);
    let older = body.read("max_tokens", limit)?;
    Ok(body.read("max_completion_tokens", limit)?.or(older))
}

pub(super) fn include_usage(path: &Path<'_>, value: &Value) -> Result<bool, EngineError> {
    Ok(Members::of(path, value)?.read("include_usage", fields::boolean)?.unwrap_or(false))
}

pub(super) fn sampling(body: &Members<'_, '_>) -> Result<Sampling, EngineError> {
    Ok(Sampling {
        temperature: body.read("temperature", |path, value| fields::number(path, value, 0.0, 2.0))?,
        top_p: body.read("top_p", above_zero(1.0))?,
        top_k: body.read("top_k", top_k)?,
        min_p: body.read("min_p", |path, value| fields::number(path, value, 0.0, 1.0))?,
        seed: body.read("seed", seed)?,
        logit_bias: body.read("logit_bias", logit_bias)?.unwrap_or_default(),
        repetition_penalty: body.read("repetition_penalty", above_zero(2.0))?,
        frequency_penalty: body.read("frequency_penalty", |path, value| fields::number(path, value, -2.0, 2.0))?,
        presence_penalty: body.read("presence_penalty", |path, value| fields::number(path, value, -2.0, 2.0))?,
        stop: body.read("stop", stop)?.unwrap_or_default(),
        min_tokens: body.read("min_tokens", |path, value| fields::whole(path, value, 0, MAX_TOKENS))?,
        logprobs: logprobs(body)?,
    })
}

fn above_zero(most: f64) -> impl Fn(&Path<'_>, &Value) -> Result<f32, EngineError> {
    move |path, value| match fields::number(path, value, 0.0, most)? {
        number if number > 0.0 => Ok(number),
        _ => Err(path.wrong(format!("must be above 0 and at most {most}"))),
    }
}

/// vLLM's name and meaning: 0 and -1 are all tokens.
fn top_k(path: &Path<'_>, value: &Value) -> Result<u32, EngineError> {
    if value.as_i64() == Some(-1) { Ok(0) } else { fields::whole(path, value, 0, u32::MAX) }
}

/// Token ids, as JSON keys are texts, and what is added to their logits.
fn logit_bias(path: &Path<'_>, value: &Value) -> Result<BTreeMap<u32, f32>, EngineError> {
    let map = fields::object(path, value)?;
    if map.len() > MAX_BIASES {
        return Err(path.wrong(format!("must hold at most {MAX_BIASES} tokens")));
    }
    let entry = |(token, bias): (&String, &Value)| {
        let id = token.parse().map_err(|_| path.wrong("keys must be token ids, such as \"50256\""))?;
        Ok((id, fields::number(path, bias, -100.0, 100.0)?))
    };
    map.iter().map(entry).collect()
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

pub(super) fn seed(path: &Path<'_>, value: &Value) -> Result<u64, EngineError> {
    // Negative seeds are allowed by the dialect; only that equal seeds stay equal matters.
    let seed = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    seed.ok_or_else(|| path.wrong("must be a whole number of 64 bits"))
}

fn stop(path: &Path<'_>, value: &Value) -> Result<Vec<String>, EngineError> {
    let Value::Array(texts) = value else { return Ok(vec![stop_text(path, value)?]) };
    if texts.len() > MAX_STOPS {
        return Err(path.wrong(format!("must hold at most {MAX_STOPS} texts")));
    }
    texts.iter().enumerate().map(|(at, text)| stop_text(&path.index(at), text)).collect()
}

fn stop_text(path: &Path<'_>, value: &Value) -> Result<String, EngineError> {
    let text = fields::string(path, value)?;
    if text.is_empty() || text.len() > MAX_STOP_BYTES {
        return Err(path.wrong(format!("must be 1 to {MAX_STOP_BYTES} bytes long")));
    }
    Ok(text.to_owned())
}

/// The form demanded: `response_format`, or the extensions `regex` and `grammar` (Lark), of which only one may be there.
pub(super) fn form(body: &Members<'_, '_>) -> Result<ResponseFormat, EngineError> {
    let text = |path: &Path<'_>, value: &Value| match fields::string(path, value)? {
        text if text.is_empty() || text.len() > MAX_GRAMMAR_BYTES => {
            Err(path.wrong(format!("must be 1 to {MAX_GRAMMAR_BYTES} bytes long")))
        }
        text => Ok(text.to_owned()),
    };
    let forms = [
        body.read("response_format", response_format)?.filter(|form| *form != ResponseFormat::Text),
        body.read("regex", text)?.map(ResponseFormat::Regex),
        body.read("grammar", text)?.map(ResponseFormat::Grammar),
    ];
    let mut demanded = forms.into_iter().flatten();
    match (demanded.next(), demanded.next()) {
        (_, Some(ResponseFormat::Grammar(_))) => {
            Err(EngineError::invalid("grammar", "cannot be demanded beside another form"))
        }
        (_, Some(_)) => Err(EngineError::invalid("regex", "cannot be demanded beside `response_format`")),
        (form, None) => Ok(form.unwrap_or_default()),
    }
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
            let schema = members.need("json_schema", |path, value| {
                Members::of(path, value)?
                    .read("schema", |path, value| fields::object(path, value).map(|_| value.clone()))
            })?;
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
