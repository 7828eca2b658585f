//! The body an upstream gets: the caller's own, with only the fields we own replaced, so that fields we do not know
//! survive. Must never be sent for a demand whose answer our events could not carry back.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};
use weir_protocol::{ChatRequest, Dialect, EngineError, ResponseFormat};

/// Demands whose answers have no place among our events.
const LOST: &[&str] = &["n", "modalities", "audio"];

/// Refuses what would come back mutilated.
pub(super) fn carries(request: &ChatRequest) -> Result<(), EngineError> {
    if request.dialect != Dialect::OpenAiChat {
        let message = "an upstream of this kind takes chat completions only".to_owned();
        return Err(EngineError::Unsupported { field: String::new(), message });
    }
    let extension = match &request.response_format {
        ResponseFormat::Regex(_) => Some("regex"),
        ResponseFormat::Grammar(_) => Some("grammar"),
        ResponseFormat::Text | ResponseFormat::JsonObject | ResponseFormat::JsonSchema(_) => None,
    };
    if let Some(field) = extension {
        let message = "an upstream of this kind promises no such form".to_owned();
        return Err(EngineError::Unsupported { field: field.to_owned(), message });
    }
    match request.unsupported.iter().find(|field| LOST.contains(field)) {
        Some(field) => Err(EngineError::Unsupported {
            field: (*field).to_owned(),
            message: "its answer cannot be passed on".into(),
        }),
        None => Ok(()),
    }
}

/// The bytes to send.
pub(super) fn body(request: &ChatRequest, model: &str) -> Result<Vec<u8>, EngineError> {
    serde_json::to_vec(&Forwarded { raw: &request.raw, model })
        .map_err(|_| EngineError::internal("a request could not be written as JSON"))
}

/// Written straight from the caller's map: conversations are long, so they are not copied first.
struct Forwarded<'a> {
    raw: &'a Map<String, Value>,
    model: &'a str,
}

impl Serialize for Forwarded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_map(None)?;
        body.serialize_entry("model", self.model)?;
        for (key, value) in self.raw {
            match key.as_str() {
                // Ours to say; `diffusion` would make a strict upstream refuse the request.
                "model" | "stream" | "stream_options" | "diffusion" | "diffusing" => {}
                _ => body.serialize_entry(key, value)?,
            }
        }
        body.serialize_entry("stream", &true)?;
        let mut options = self.raw.get("stream_options").cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
        // Always counted, for metrics; whether the caller sees it is decided on the way out.
        options["include_usage"] = Value::Bool(true);
        body.serialize_entry("stream_options", &options)?;
        body.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openai_chat::decode::decode;

    #[track_caller]
    fn check(body: &str, expect: &str) {
        let request = decode(body.as_bytes()).expect("a good request");
        let sent = super::body(&request, "up-1").expect("bytes");
        assert_eq!(String::from_utf8(sent).expect("text"), expect);
    }

    #[test]
    fn only_our_own_fields_are_replaced() {
        check(
            r#"{"messages":[{"role":"user","content":"hi","x":1}],"model":"auto","x_own":{"b":1,"a":2},"diffusion":{"drafts":true},"diffusing":true}"#,
            r#"{"model":"up-1","messages":[{"role":"user","content":"hi","x":1}],"x_own":{"b":1,"a":2},"stream":true,"stream_options":{"include_usage":true}}"#,
        );
        check(
            r#"{"messages":[{"role":"user","content":"hi"}],"stream":false,"stream_options":{"x":1,"include_usage":false}}"#,
            r#"{"model":"up-1","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"x":1,"include_usage":true}}"#,
        );
    }

    #[test]
    fn what_cannot_come_back_is_not_sent() {
        let of = |unsupported| carries(&ChatRequest { unsupported, ..ChatRequest::default() });
        assert!(matches!(of(vec!["tools", "n"]), Err(EngineError::Unsupported { field, .. }) if field == "n"));
        assert_eq!(of(vec!["tools", "web_search_options"]), Ok(()));
    }
}
