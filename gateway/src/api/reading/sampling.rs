//! Sampling settings and limits, which go by the same names in every dialect (or are Weir's own in those that have no
//! name for them).

use std::collections::BTreeMap;

use serde_json::Value;
use weir_protocol::{EngineError, ResponseFormat, Sampling};

use super::fields::{self, Members, Path};
use super::form_text;

/// Beyond any model's window; such a number is a mistake, and a queue should not plan with it.
const MAX_TOKENS: u32 = 1_000_000;
/// OpenAI's limits.
const MAX_BIASES: usize = 1024;
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 1024;

/// Everything but stop texts and log-probabilities, which each dialect asks for in its own way.
pub(crate) fn settings(body: &Members<'_, '_>) -> Result<Sampling, EngineError> {
    Ok(Sampling {
        temperature: body.read("temperature", |path, value| fields::number(path, value, 0.0, 2.0))?,
        top_p: body.read("top_p", |path, value| fields::number(path, value, 0.0, 1.0))?,
        top_k: body.read("top_k", top_k)?,
        min_p: body.read("min_p", |path, value| fields::number(path, value, 0.0, 1.0))?,
        seed: body.read("seed", seed)?,
        logit_bias: body.read("logit_bias", logit_bias)?.unwrap_or_default(),
        repetition_penalty: body.read("repetition_penalty", above_zero(2.0))?,
        frequency_penalty: body.read("frequency_penalty", |path, value| fields::number(path, value, -2.0, 2.0))?,
        presence_penalty: body.read("presence_penalty", |path, value| fields::number(path, value, -2.0, 2.0))?,
        stop: Vec::new(),
        min_tokens: body.read("min_tokens", |path, value| fields::whole(path, value, 0, MAX_TOKENS))?,
        logprobs: None,
    })
}

/// A limit of tokens.
pub(crate) fn token_limit(path: &Path<'_>, value: &Value) -> Result<u32, EngineError> {
    fields::whole(path, value, 1, MAX_TOKENS)
}

/// The same where local servers and their clients say -1 for none.
pub(crate) fn token_limit_or_none(path: &Path<'_>, value: &Value) -> Result<Option<u32>, EngineError> {
    if value.as_i64() == Some(-1) { Ok(None) } else { token_limit(path, value).map(Some) }
}

/// Whether `stream_options` asks for usage.
pub(crate) fn include_usage(path: &Path<'_>, value: &Value) -> Result<bool, EngineError> {
    Ok(Members::of(path, value)?.read("include_usage", fields::boolean)?.unwrap_or(false))
}

/// A seed of 64 bits.
pub(crate) fn seed(path: &Path<'_>, value: &Value) -> Result<u64, EngineError> {
    // Negative seeds are allowed by the dialects; only that equal seeds stay equal matters.
    let seed = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    seed.ok_or_else(|| path.wrong("must be a whole number of 64 bits"))
}

/// One stop text or several.
pub(crate) fn stop(path: &Path<'_>, value: &Value) -> Result<Vec<String>, EngineError> {
    let Value::Array(texts) = value else { return Ok(vec![stop_text(path, value)?]) };
    if texts.len() > MAX_STOPS {
        return Err(path.wrong(format!("must hold at most {MAX_STOPS} texts")));
    }
    texts.iter().enumerate().map(|(at, text)| stop_text(&path.index(at), text)).collect()
}

/// The form demanded: `own` by the dialect's own field of this name, or the extensions `regex` and `grammar` (Lark), of
/// which only one may be there.
pub(crate) fn form(
    body: &Members<'_, '_>,
    name: &str,
    own: Option<ResponseFormat>,
) -> Result<ResponseFormat, EngineError> {
    let forms = [
        own.filter(|form| *form != ResponseFormat::Text),
        body.read("regex", form_text)?.map(ResponseFormat::Regex),
        body.read("grammar", form_text)?.map(ResponseFormat::Grammar),
    ];
    let mut demanded = forms.into_iter().flatten();
    match (demanded.next(), demanded.next()) {
        (_, Some(ResponseFormat::Grammar(_))) => {
            Err(EngineError::invalid("grammar", "cannot be demanded beside another form"))
        }
        (_, Some(_)) => Err(EngineError::invalid("regex", format!("cannot be demanded beside `{name}`"))),
        (form, None) => Ok(form.unwrap_or_default()),
    }
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

fn stop_text(path: &Path<'_>, value: &Value) -> Result<String, EngineError> {
    let text = fields::string(path, value)?;
    if text.is_empty() || text.len() > MAX_STOP_BYTES {
        return Err(path.wrong(format!("must be 1 to {MAX_STOP_BYTES} bytes long")));
    }
    Ok(text.to_owned())
}
