//! A chunk that carries text and nothing else, as nearly all of a stream are: read without building a tree of it. Must never
//! take a chunk that says anything more, whatever it is: such a one is read in full.

use serde::de::{Deserialize, Deserializer, Error};

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TextPiece<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) text: String,
}

impl<'a> TextPiece<'a> {
    /// `None`: it is another kind of chunk, or none at all.
    pub(super) fn read(data: &'a str) -> Option<Self> {
        let Chunk { model, choices: [Choice { index, delta, .. }], .. } = serde_json::from_str(data).ok()?;
        (index == 0).then_some(TextPiece { model, text: delta.content })
    }
}

#[derive(serde::Deserialize)]
struct Chunk<'a> {
    model: Option<&'a str>,
    choices: [Choice; 1],
    #[serde(rename = "error")]
    _error: Option<Nothing>,
    #[serde(rename = "usage")]
    _usage: Option<Nothing>,
}

#[derive(serde::Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    delta: Delta,
    #[serde(rename = "text")]
    _text: Option<Nothing>,
    #[serde(rename = "logprobs")]
    _logprobs: Option<Nothing>,
    #[serde(rename = "finish_reason")]
    _finish_reason: Option<Nothing>,
}

#[derive(serde::Deserialize)]
struct Delta {
    content: String,
    #[serde(rename = "reasoning_content")]
    _reasoning_content: Option<Nothing>,
    #[serde(rename = "reasoning")]
    _reasoning: Option<Nothing>,
    #[serde(rename = "refusal")]
    _refusal: Option<Nothing>,
    #[serde(rename = "tool_calls")]
    _tool_calls: Option<Nothing>,
}

/// Only `null` and a field that is left out are an `Option` of it.
struct Nothing;

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("more than text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_taken() {
        let read = TextPiece::read;
        let piece = |model, text: &str| Some(TextPiece { model, text: text.into() });
        let usual = r#"{"id":"c","model":"m","x":{"y":[1]},"choices":[{"index":0,"delta":{"role":"assistant","content":"a\n\u00e9","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}"#;
        assert_eq!(read(usual), piece(Some("m"), "a\né"));
        assert_eq!(read(r#"{"choices":[{"delta":{"content":""}}]}"#), piece(None, ""));
        for more in [
            r#"{"choices":[{"index":1,"delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[]}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","tool_calls":[]}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","reasoning":"b"}}]}"#,
            r#"{"choices":[{"delta":{"content":[{"text":"a"}]}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"text":"b"}]}"#,
            r#"{"choices":[{"delta":{"content":"a","content":"b"}}]}"#,
            r#"{"choices":[{"delta":{}}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"error":{"code":500}}"#,
            r#"{"choices":[{"delta":{"content":"a"}}]"#,
            r#"{"choices":[{"delta":{"content":"a"}}]} x"#,
            "7",
            "",
        ] {
            assert_eq!(read(more), None, "{more}");
        }
    }
}
