//! Reads bodies: what the decoders of all dialects share. Every function names the field at fault and never shows the
//! caller's text. Must never know a field that only one dialect has.

pub(crate) mod diffusion;
pub(crate) mod fields;
pub(crate) mod file;
pub(crate) mod halves;
pub(crate) mod sampling;
pub(crate) mod tool_choice;
pub(crate) mod written;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::error::Category;
use serde_json::{Map, Value};
use weir_protocol::{EngineError, SchemaTerms};

use crate::plain_json;
use fields::{Members, Path};

/// Longest model id taken: ids go into headers, logs and metrics.
const MODEL_ID_MAX: usize = 256;
/// Longest name of a function.
const NAME_MAX: usize = 256;
/// Longest regular expression or grammar taken.
const GRAMMAR_BYTES_MAX: usize = 1 << 20;

/// The body as an object.
pub(crate) fn parse(body: &[u8]) -> Result<Map<String, Value>, EngineError> {
    read(body).map(|(map, _)| map)
}

/// The body as an object, and as the text it was read from.
pub(crate) fn parse_and_keep(body: &[u8]) -> Result<(Map<String, Value>, Arc<str>), EngineError> {
    read(body).map(|(map, text)| (map, text.into()))
}

fn read(body: &[u8]) -> Result<(Map<String, Value>, Cow<'_, str>), EngineError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        EngineError::invalid("", format!("the body is not UTF-8 (at byte {})", error.valid_up_to()))
    })?;
    // Some editors and shells put a mark before the text, and a reader may skip it (RFC 8259).
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Half a character is read as a lost one: clients that shorten texts leave some behind.
    let read = plain_json::parse(text).map(|value| (value, text.into())).or_else(|error| {
        let mended = halves::without(text).ok_or(error)?;
        plain_json::parse(&mended).map(|value| (value, mended.into()))
    });
    let (value, text) = read.map_err(|error| {
        let what = match error.classify() {
            Category::Eof => "the body's JSON ends too early",
            _ if error.to_string().starts_with("recursion limit") => "the body's JSON is nested too deeply",
            _ => "the body is not valid JSON",
        };
        EngineError::invalid("", format!("{what} (line {}, column {})", error.line(), error.column()))
    })?;
    match value {
        Value::Object(map) => Ok((map, text)),
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

/// What a member says of its schema, as both of OpenAI's conversation dialects have it.
pub(crate) fn schema_terms(members: &Members<'_, '_>) -> Result<SchemaTerms, EngineError> {
    let text = |key| members.read(key, fields::string).map(|text| text.map(str::to_owned));
    let strict = members.read("strict", fields::boolean)?.unwrap_or(false);
    Ok(SchemaTerms { name: text("name")?, description: text("description")?, strict })
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
    use serde_json::{Value, json};
    use weir_protocol::{ChatRequest, EngineError};

    type Decode = fn(&[u8]) -> Result<ChatRequest, EngineError>;

    /// `body` with more fields.
    pub(crate) fn with(mut body: Value, more: Value) -> Value {
        let (Some(fields), Some(more)) = (body.as_object_mut(), more.as_object()) else { unreachable!("objects") };
        fields.extend(more.clone());
        body
    }

    /// A good body.
    #[track_caller]
    pub(crate) fn taken(decode: Decode, body: Value) -> ChatRequest {
        decode(body.to_string().as_bytes()).expect("a good request")
    }

    /// A bad body: the field it names, and what it says about it.
    #[track_caller]
    pub(crate) fn refused(decode: Decode, body: impl AsRef<[u8]>, field: &str, says: &str) {
        match decode(body.as_ref()) {
            Err(EngineError::InvalidRequest { field: at, message }) => {
                assert_eq!(at, field, "{message}");
                assert!(message.contains(says), "`{message}` should say `{says}`");
            }
            other => panic!("taken or another error: {:?}", other.map(|_| ())),
        }
    }

    /// Any bytes, and a body of any values in some of `fields` and in the list `list`: no panic, and an error names a
    /// field.
    pub(crate) fn check_any(
        decode: Decode,
        list: &'static str,
        fields: &'static [&'static str],
        words: &'static [&'static str],
    ) {
        let mut runner = proptest::test_runner::TestRunner::default();
        let bytes = prop::collection::vec(any::<u8>(), 0..200);
        let any_bytes = runner.run(&bytes, |body| {
            let _ = decode(&body);
            Ok(())
        });
        any_bytes.expect("bytes");
        let entries = prop::collection::vec(any_json(words), 0..3);
        let members = prop::collection::vec((prop::sample::select(fields), any_json(words)), 0..4);
        let any_members = runner.run(&(entries, members), |(entries, members)| {
            let mut body = json!({list: entries});
            for (field, value) in members {
                body[field] = value;
            }
            if let Err(error) = decode(body.to_string().as_bytes()) {
                let named = matches!(&error, EngineError::InvalidRequest { field, .. } if !field.is_empty());
                prop_assert!(named, "{:?}", error);
            }
            Ok(())
        });
        any_members.expect("members");
    }

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
