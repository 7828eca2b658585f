//! Chunks that carry text and nothing else, as nearly all of a stream are: alike but for that text. One of them is read in
//! full, those after it only where they differ. Must never take a chunk that says anything more, whatever it is.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// What stands around the text of such chunks.
#[derive(Debug)]
pub(crate) struct Alike {
    /// To the quote that opens the text.
    head: String,
    /// From the quote that closes it.
    tail: String,
}

impl Alike {
    /// Of a chunk that was read as `chunk`; `None`: it says more than text, or none.
    pub(crate) fn of(written: &str, chunk: &Map<String, Value>) -> Option<Self> {
        let says_nothing = |field: &str| chunk.get(field).is_none_or(Value::is_null);
        let [Value::Object(choice)] = chunk.get("choices")?.as_array()?.as_slice() else { return None };
        let is_first = choice.get("index").is_none_or(|index| index.as_u64() == Some(0));
        // What is said again and again would grow: only nothing and numbers do not.
        let is_still = |(key, value): (&String, &Value)| key == "delta" || value.is_null() || value.is_u64();
        let is_text = |(key, value): (&String, &Value)| match key.as_str() {
            "content" => value.is_string(),
            "role" => true,
            _ => value.is_null(),
        };
        let delta = choice.get("delta")?.as_object()?;
        let fits = says_nothing("error") && says_nothing("usage") && is_first;
        if !fits || !choice.iter().all(is_still) || !delta.iter().all(is_text) {
            return None;
        }
        let Chunk { choices: [Choice { delta: Delta { content } }] } = serde_json::from_str(written).ok()?;
        let quoted = content.get();
        let at = (quoted.as_ptr() as usize).checked_sub(written.as_ptr() as usize)?;
        let (head, tail) = (written.get(..=at)?, written.get((at + quoted.len()).checked_sub(1)?..)?);
        Some(Alike { head: head.to_owned(), tail: tail.to_owned() })
    }

    /// The text of another chunk; `None`: it differs in more than that.
    pub(crate) fn text(&self, written: &str) -> Option<String> {
        let inside = self.inside(written)?;
        if means_itself(inside) {
            return Some(inside.to_owned());
        }
        serde_json::from_str(written.get(self.head.len() - 1..=self.head.len() + inside.len())?).ok()
    }

    /// One chunk that says the texts of the first of `chunks`, and how many those are; `None`: fewer than two.
    pub(crate) fn together(&self, chunks: &[String]) -> Option<(String, usize)> {
        let texts = || chunks.iter().map_while(|chunk| self.inside(chunk).filter(|inside| means_itself(inside)));
        let count = texts().count();
        (count > 1).then(|| {
            let mut one = self.head.clone();
            one.extend(texts());
            one.push_str(&self.tail);
            (one, count)
        })
    }

    /// What stands in the place of the text, as it is written.
    fn inside<'a>(&self, written: &'a str) -> Option<&'a str> {
        written.strip_prefix(self.head.as_str())?.strip_suffix(self.tail.as_str())
    }
}

/// Whether it is written as it is meant, and ends nowhere before its end.
fn means_itself(inside: &str) -> bool {
    inside.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
}

#[derive(serde::Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: [Choice<'a>; 1],
}

#[derive(serde::Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(serde::Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(written: &str) -> Option<Alike> {
        let chunk: Value = serde_json::from_str(written).expect("JSON");
        Alike::of(written, chunk.as_object().expect("an object"))
    }

    #[test]
    fn those_that_differ_only_in_their_text_are_read_for_it() {
        for usual in [
            r#"{"id":"c","x":{"y":[1]},"choices":[{"index":0,"delta":{"content":"TEXT"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
            r#"{"choices": [{"delta": {"role": "assistant", "content": "TEXT", "tool_calls": null}}], "error": null}"#,
            r#"{"choices":[{"delta":{"content":"TEXT"},"x":1,"index":0}]}"#,
        ] {
            let one = alike(&usual.replace("TEXT", "a\\\"b")).unwrap_or_else(|| panic!("{usual}"));
            for (written, text) in [("", ""), ("\\n\\u00e9\\\\", "\né\\"), ("\\\"},\\\"x\\\":\\\"", "\"},\"x\":\"")] {
                assert_eq!(one.text(&usual.replace("TEXT", written)).as_deref(), Some(text), "{usual}");
            }
            for other in ["a\",\"x\":\"b", "\\", "a\nb"] {
                assert_eq!(one.text(&usual.replace("TEXT", other)), None, "{usual}");
            }
            assert_eq!(one.text(&usual.replace("choices", "choises")), None);
            assert_eq!(one.text(&usual[..usual.len() - 1]), None);
            assert_eq!(one.text(""), None);
        }
    }

    #[test]
    fn what_says_more_is_always_read_in_full() {
        for more in [
            r#"{"choices":[{"index":1,"delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[]}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","tool_calls":[]}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","reasoning":"b"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","x":1}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"x":"y"}]}"#,
            r#"{"choices":[{"delta":{"content":[{"text":"a"}]}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"text":"b"}]}"#,
            r#"{"choices":[{"delta":{"content":"a","content":"b"}}]}"#,
            r#"{"choices":[{"delta":{"content":null}}]}"#,
            r#"{"choices":[{"delta":{}}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"error":{"code":500}}"#,
        ] {
            assert!(alike(more).is_none(), "{more}");
        }
    }
}
