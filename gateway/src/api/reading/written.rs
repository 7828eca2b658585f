//! JSON as it was written, for numbers that a [`Value`] cannot hold: beyond 64 bits, or with more than 17 digits, they lose
//! some by being read. Must never be trusted unread: whoever asks for the text has read the value.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use weir_protocol::EngineError;

use super::halves;

/// Whether a number in it may have been changed by being read. Whole numbers of 64 bits never are.
pub(crate) fn may_differ(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(may_differ),
        Value::Object(members) => members.values().any(may_differ),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// The text of an object, of none where there is no text; `None`: it is no object.
pub(crate) fn object(text: &str) -> Option<Box<RawValue>> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let text = halves::without(text).unwrap_or_else(|| text.to_owned());
    super::parse(text.as_bytes()).ok()?;
    RawValue::from_string(text).ok()
}

/// The fault of an answer whose call has arguments that are none.
pub(crate) fn no_object() -> EngineError {
    let message = "the arguments of a tool call are no JSON object".into();
    EngineError::Upstream { status: 0, message, retry_after: None }
}

/// A block of a message in Anthropic's dialect.
#[derive(Deserialize)]
pub(crate) struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

impl<'a> Block<'a> {
    /// The arguments, if it is a call.
    pub(crate) fn arguments(&self) -> Option<&'a str> {
        self.input.filter(|_| self.kind == "tool_use").map(RawValue::get)
    }
}

/// A turn, or an answer, in that dialect.
#[derive(Deserialize)]
pub(crate) struct Turn<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
}

impl<'a> Turn<'a> {
    /// The arguments of its calls, in order.
    pub(crate) fn arguments(&self) -> Vec<&'a str> {
        let blocks: Vec<Block<'a>> = serde_json::from_str(self.content.get()).unwrap_or_default();
        blocks.iter().filter_map(Block::arguments).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_floats_may_differ() {
        assert!(!may_differ(&json!({"a": [1, -2, u64::MAX, "1.5", null]})));
        assert!(may_differ(&json!({"a": [{"b": 1.5}]})));
    }

    #[test]
    fn objects_stay_as_they_were_written() {
        let written = |text: &str| object(text).map(|raw| raw.get().to_owned());
        assert_eq!(written(" {\"a\": 1.00000000000000000001}\n").as_deref(), Some("{\"a\": 1.00000000000000000001}"));
        assert_eq!(written(" ").as_deref(), Some("{}"));
        assert_eq!(written(r#"{"a":"\ud83d"}"#).as_deref(), Some(r#"{"a":"\ufffd"}"#));
        assert_eq!((written("[1]"), written("{\"a")), (None, None));
    }

    #[test]
    fn arguments_are_found_as_they_were_written() {
        let turn = r#"{"role":"x","content":[{"type":"text","text":"a"},{"type":"tool_use","input":{"n": 1e400 },"x":1},{"type":"server_tool_use","input":{}}]}"#;
        let turn: Turn<'_> = serde_json::from_str(turn).expect("a turn");
        assert_eq!(turn.arguments(), [r#"{"n": 1e400 }"#]);
        let bare: Turn<'_> = serde_json::from_str(r#"{"content":"hi"}"#).expect("a turn");
        assert!(bare.arguments().is_empty());
    }
}
