//! Bodies for upstreams: the caller's own with only the fields we own replaced, so that fields we do not know survive; or
//! one built from what we understood. Must never hold a dialect's field names.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use weir_protocol::{ChatRequest, EngineError, Message, Part, SchemaTerms, ToolCall};

use super::demands::unsupported;
use crate::api::reading::written;

/// Fields of ours in any dialect: a strict upstream would refuse them.
const OWN: [&str; 2] = ["diffusion", "diffusing"];

/// What a file is called that has no name, where it needs one. Only documents of Anthropic's dialect come without.
pub(in crate::backends) const FILE_NAME: &str = "document.pdf";

/// What our own fields take, most of the time.
const OURS_BYTES: usize = 256;

/// Of a hash that stands for a call's id.
const CALL_ID_BYTES: usize = 16;

/// The caller's body with `ours` in place of its own fields of these names; null leaves a field out.
pub(in crate::backends) fn forwarded(
    request: &ChatRequest,
    ours: &[(&'static str, Value)],
) -> Result<Vec<u8>, EngineError> {
    let text = request.written.as_deref().unwrap_or_default();
    let written = serde_json::from_str(text).unwrap_or_default();
    // Grown step by step a long one would be copied again and again.
    let mut bytes = Vec::with_capacity(text.len() + OURS_BYTES);
    let sent = serde_json::to_writer(&mut bytes, &Forwarded { raw: &request.raw, written, ours });
    sent.map_err(|_| unwritten()).map(|()| bytes)
}

/// A body whose turns are its `messages`.
#[derive(Serialize)]
pub(in crate::backends) struct Conversation<T> {
    #[serde(flatten)]
    pub(in crate::backends) fields: Map<String, Value>,
    pub(in crate::backends) messages: Vec<T>,
}

/// A body as bytes.
pub(in crate::backends) fn bytes(body: &impl Serialize) -> Result<Vec<u8>, EngineError> {
    serde_json::to_vec(body).map_err(|_| unwritten())
}

fn unwritten() -> EngineError {
    EngineError::internal("a request could not be written as JSON")
}

/// Written straight from the caller's map: conversations are long, so they are not copied first.
struct Forwarded<'a> {
    raw: &'a Map<String, Value>,
    /// Its members as they were written.
    written: HashMap<String, &'a RawValue>,
    ours: &'a [(&'static str, Value)],
}

impl Serialize for Forwarded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_map(None)?;
        for (key, value) in self.ours.iter().filter(|(_, value)| !value.is_null()) {
            body.serialize_entry(key, value)?;
        }
        for (key, value) in self.raw {
            if !OWN.contains(&key.as_str()) && self.ours.iter().all(|(own, _)| own != key) {
                match self.written.get(key) {
                    Some(text) => body.serialize_entry(key, text)?,
                    None => body.serialize_entry(key, value)?,
                }
            }
        }
        body.end()
    }
}

/// An object built field by field.
#[derive(Debug, Default)]
pub(in crate::backends) struct Fields(pub(in crate::backends) Map<String, Value>);

impl Fields {
    /// Adds a field.
    pub(in crate::backends) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Adds a field if there is a value.
    pub(in crate::backends) fn set_some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Adds a number that came as `f32`, without the digits that `f64` would make up.
    pub(in crate::backends) fn set_number(&mut self, key: &str, value: Option<f32>) {
        self.set_some(key, value.map(number));
    }

    /// Adds what the caller's body says under the same names, in a dialect that means the same by them.
    pub(in crate::backends) fn set_shared(&mut self, raw: &Map<String, Value>, keys: &[&str]) {
        for key in keys {
            self.set_some(key, raw.get(*key).filter(|value| !value.is_null()).cloned());
        }
    }

    /// Adds a list unless it is empty.
    pub(in crate::backends) fn set_list(&mut self, key: &str, values: Vec<Value>) {
        if !values.is_empty() {
            self.set(key, values);
        }
    }
}

/// 0.7 stays 0.7 instead of becoming 0.699999988079071.
pub(in crate::backends) fn number(value: f32) -> Value {
    let shortest = value.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(value));
    serde_json::Number::from_f64(shortest).map_or(Value::Null, Value::Number)
}

/// A schema under its name, as both of OpenAI's conversation dialects have it.
pub(in crate::backends) fn named_schema(schema: &Value, terms: &SchemaTerms) -> Fields {
    let mut fields = Fields::default();
    fields.set("name", terms.name.as_deref().unwrap_or("answer"));
    fields.set_some("description", terms.description.as_deref());
    fields.set("schema", schema.clone());
    fields.set("strict", terms.strict);
    fields
}

/// The arguments of a call as an object of a body, as they were written: numbers may be longer than a [`Value`] holds.
///
/// # Errors
/// They are no JSON object.
pub(in crate::backends) fn arguments(call: &ToolCall) -> Result<Box<RawValue>, EngineError> {
    written::object(&call.arguments)
        .ok_or_else(|| unsupported("messages", "the arguments of a tool call are not a JSON object"))
}

/// What has to stand before a tool's result in dialects that have no field for its failure: nothing, if it says so itself.
pub(in crate::backends) fn failure_mark(message: &Message) -> &'static str {
    const SAYS_SO: [&str; 3] = ["error", "fail", "exception"];
    let says_so = || {
        let text = message.joined_text().to_lowercase();
        SAYS_SO.iter().any(|word| text.contains(word))
    };
    if message.tool_failed && !says_so() { "Error: " } else { "" }
}

/// A tool's result as text.
pub(in crate::backends) fn result_text(message: &Message) -> String {
    failure_mark(message).to_owned() + &message.joined_text()
}

/// The id of a call, within what an upstream takes of one: a longer one becomes another, the same each time.
pub(in crate::backends) fn call_id(id: &str, most: usize) -> Cow<'_, str> {
    if id.len() <= most {
        return id.into();
    }
    let digest = Sha256::digest(id);
    let digits = digest.iter().take(CALL_ID_BYTES).map(|byte| format!("{byte:02x}"));
    ["call_".to_owned()].into_iter().chain(digits).collect::<String>().into()
}

/// Whether a turn's content is text only.
pub(in crate::backends) fn is_text(message: &Message) -> bool {
    message.content.iter().all(|part| part.as_text().is_some())
}

/// Where the images of a turn are.
pub(in crate::backends) fn images(message: &Message) -> impl Iterator<Item = &str> {
    message.content.iter().filter_map(|part| match part {
        Part::Image { url, .. } => Some(url.as_str()),
        Part::Text(_) | Part::File { .. } | Part::Other { .. } => None,
    })
}

/// The media type and the base64 text of a data URL.
pub(in crate::backends) fn data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media = head.strip_suffix(";base64")?;
    Some((media.split(';').next().filter(|media| !media.is_empty())?, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reading::parse_and_keep;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn only_our_own_fields_are_replaced() {
        let raw = json!({"messages": [{"role": "user", "content": "hi", "x": 1}], "model": "auto", "x_own": {"b": 1, "a": 2},
            "stream": false, "diffusion": {"drafts": true}, "diffusing": true});
        let raw = Arc::new(raw.as_object().expect("an object").clone());
        let sent = forwarded(
            &ChatRequest { raw, ..ChatRequest::default() },
            &[("model", json!("up-1")), ("stream", json!(true))],
        )
        .expect("bytes");
        assert_eq!(
            String::from_utf8(sent).expect("text"),
            r#"{"model":"up-1","stream":true,"messages":[{"role":"user","content":"hi","x":1}],"x_own":{"b":1,"a":2}}"#
        );
    }

    #[test]
    fn members_go_on_as_they_were_written() {
        let body = "\u{feff}{\"mod\\u0065l\":\"auto\",\"x\": {\"n\": 1.00000000000000000001, \"m\":12345678901234567890123 } ,\"text\":\"\\u00e9\\/\\ud83d\"}";
        let (raw, written) = parse_and_keep(body.as_bytes()).expect("an object");
        let request = ChatRequest { raw: Arc::new(raw), written: Some(written), ..ChatRequest::default() };
        let sent = forwarded(&request, &[("model", json!("up-1"))]).expect("bytes");
        assert_eq!(
            String::from_utf8(sent).expect("text"),
            r#"{"model":"up-1","x":{"n": 1.00000000000000000001, "m":12345678901234567890123 },"text":"\u00e9\/\ufffd"}"#
        );
    }

    #[test]
    fn numbers_keep_their_digits() {
        assert_eq!(number(0.7).to_string(), "0.7");
        assert_eq!(number(1.0).to_string(), "1.0");
    }

    #[test]
    fn a_failure_is_said_once() {
        let of = |text: &str, tool_failed| {
            result_text(&Message { tool_failed, ..Message::text(weir_protocol::Role::Tool, text) })
        };
        assert_eq!((of("exit 1", true), of("exit 1", false)), ("Error: exit 1".into(), "exit 1".into()));
        assert_eq!((of("It Failed", true), of("", true)), ("It Failed".into(), "Error: ".into()));
    }

    #[test]
    fn long_ids_become_short_ones() {
        let long = |end: char| format!("call_{}{end}", "x".repeat(40));
        let (one, other) = (long('a'), long('b'));
        assert_eq!(call_id("functions.look:0", 40), "functions.look:0");
        assert_eq!((call_id(&one, 46), call_id(&one, 40).len()), (one.as_str().into(), 37));
        assert_eq!(call_id(&one, 40), call_id(&one, 40));
        assert_ne!(call_id(&one, 40), call_id(&other, 40));
    }

    #[test]
    fn data_urls_are_taken_apart() {
        assert_eq!(data_url("data:image/png;base64,AAAA"), Some(("image/png", "AAAA")));
        assert_eq!(data_url("data:image/png;charset=x;base64,AA"), Some(("image/png", "AA")));
        for other in ["https://x.test/a.png", "data:image/png,raw", "data:;base64,AA", "data:image/png;base64"] {
            assert_eq!(data_url(other), None, "{other}");
        }
    }
}
