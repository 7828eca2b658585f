//! Reads bodies: what the decoders of all dialects share. Every function names the field at fault and never shows the
//! caller's text. Must never know a field that only one dialect has.

pub(crate) mod diffusion;
pub(crate) mod fields;
mod json;
pub(crate) mod sampling;

use serde_json::error::Category;
use serde_json::{Map, Value};
use weir_protocol::EngineError;

use fields::{Members, Path};

/// Longest model id taken: ids go into headers, logs and metrics.
const MODEL_ID_MAX: usize = 256;
/// Longest name of a function.
const NAME_MAX: usize = 256;
/// Longest regular expression or grammar taken.
const GRAMMAR_BYTES_MAX: usize = 1 << 20;

/// The body as an object.
pub(crate) fn parse(body: &[u8]) -> Result<Map<String, Value>, EngineError> {
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

/// The `model` of a body; `auto` where there is none.
pub(crate) fn model(body: &Members<'_, '_>) -> Result<String, EngineError> {
    let id = body.read("model", |path, value| {
        let id = fields::string(path, value)?;
        if id.is_empty() || id.len() > MODEL_ID_MAX || id.chars().any(char::is_control) {
            return Err(path.wrong(format!("must be 1 to {MODEL_ID_MAX} visible characters")));
        }
        Ok(id.to_owned())
    })?;
    Ok(id.unwrap_or_else(|| "auto".to_owned()))
}

/// A member that must be a function's name.
pub(crate) fn function_name(members: &Members<'_, '_>) -> Result<String, EngineError> {
    members.need("name", |path, value| match fields::string(path, value)? {
        name if name.is_empty() || name.len() > NAME_MAX => {
            Err(path.wrong(format!("must be 1 to {NAME_MAX} bytes long")))
        }
        name => Ok(name.to_owned()),
    })
}

/// A JSON schema: any object.
pub(crate) fn schema(path: &Path<'_>, value: &Value) -> Result<Value, EngineError> {
    fields::object(path, value).map(|_| value.clone())
}

/// A regular expression or a grammar.
pub(crate) fn form_text(path: &Path<'_>, value: &Value) -> Result<String, EngineError> {
    match fields::string(path, value)? {
        text if text.is_empty() || text.len() > GRAMMAR_BYTES_MAX => {
            Err(path.wrong(format!("must be 1 to {GRAMMAR_BYTES_MAX} bytes long")))
        }
        text => Ok(text.to_owned()),
    }
}

/// Notes a demand once.
pub(crate) fn note(unsupported: &mut Vec<&'static str>, field: &'static str) {
    if !unsupported.contains(&field) {
        unsupported.push(field);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    /// Any JSON, built with these words where texts stand, so that it sometimes means something.
    pub(crate) fn any_json(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
        let word = prop_oneof![prop::sample::select(words).prop_map(str::to_owned), ".{0,6}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            word.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((word.clone(), inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }
}
