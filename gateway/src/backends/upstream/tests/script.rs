//! Streams of a decoder as text, for the tests of every kind.

use serde_json::Value;
use weir_protocol::{ChatRequest, EngineError, Event};

use super::super::Decoder;
use crate::api::openai_chat::decode::decode;

/// How a kind of upstream is asked, of a chat.
type Compose = fn(&ChatRequest) -> Result<Vec<u8>, EngineError>;

/// What is sent for a chat with this body.
pub(in crate::backends) fn sent(compose: Compose, body: &Value) -> Result<Value, EngineError> {
    let request = decode(body.to_string().as_bytes()).expect("a good request");
    compose(&request).map(|sent| serde_json::from_slice(&sent).expect("JSON"))
}

/// The field of a chat that cannot be sent.
#[track_caller]
pub(in crate::backends) fn unsendable(compose: Compose, body: &Value) -> String {
    match sent(compose, body) {
        Err(EngineError::Unsupported { field, .. }) => field,
        other => format!("{other:?}"),
    }
}

/// Feeds the pieces, then says that there are no more.
fn run(mut decoder: impl Decoder, pieces: &[&str]) -> (Vec<Event>, Option<EngineError>) {
    let mut events = Vec::new();
    let fed = pieces.iter().try_for_each(|piece| decoder.take(piece, &mut events));
    let end = fed.and_then(|()| if decoder.has_ended() { Ok(()) } else { decoder.end(&mut events) });
    (events, end.err())
}

/// One event.
pub(in crate::backends) fn show(event: &Event) -> String {
    match event {
        Event::Started { model } => format!("<{model}>"),
        Event::RateLimits(limits) => format!("%{}", limits.len()),
        Event::TextDelta(text) => text.clone(),
        Event::RefusalDelta(text) => format!("-{text}-"),
        Event::ReasoningDelta(text) => format!("({text})"),
        Event::ReasoningSignature(seal) => format!("~{seal}"),
        Event::ToolCallStarted { index, name, id } => {
            assert!(!id.is_empty(), "a call without id");
            format!("[{index} {name}")
        }
        Event::ToolCallDelta { index, arguments } => format!("{{{index} {arguments}}}"),
        Event::Foreign => "*".into(),
        Event::StoppedAt(text) => format!("@{text}"),
        Event::Usage(usage) => format!("#{}+{}/{}", usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens),
        Event::Finished { reason } => format!("!{}", reason.as_str()),
        Event::Logprobs(entries) => {
            let of = |entry: &weir_protocol::TokenLogprob| {
                format!("{}={}/{}", entry.chosen.token, entry.chosen.logprob, entry.top.len())
            };
            format!("`{}`", entries.iter().map(of).collect::<Vec<_>>().join(" "))
        }
        Event::Draft { .. } | Event::Continued { .. } => "?".into(),
        // What it says, the events after it say too.
        Event::Verbatim(_) => String::new(),
    }
}

fn shown(events: &[Event], error: Option<&EngineError>) -> String {
    let mut shown: String = events.iter().map(show).collect();
    if let Some(error) = error {
        shown.push_str(&format!(" ERR {}", error.kind()));
    }
    shown
}

/// What a stream of these pieces comes to.
#[track_caller]
pub(in crate::backends) fn check(decoder: impl Decoder, pieces: &[&str], expect: &str) {
    let (events, error) = run(decoder, pieces);
    assert_eq!(shown(&events, error.as_ref()), expect);
}

/// What a document comes to.
#[track_caller]
pub(in crate::backends) fn check_whole(mut decoder: impl Decoder, document: &str, expect: &str) {
    let mut events = Vec::new();
    let end = decoder.whole(document.as_bytes(), &mut events);
    assert_eq!(shown(&events, end.err().as_ref()), expect);
}

/// Whatever comes: one beginning first, one end last or an error, never both.
#[track_caller]
pub(in crate::backends) fn check_promise(decoder: impl Decoder, pieces: &[&str]) {
    let (events, error) = run(decoder, pieces);
    let finished = events.iter().filter(|event| matches!(event, Event::Finished { .. })).count();
    assert_eq!(finished, usize::from(error.is_none()), "{}", shown(&events, error.as_ref()));
    if error.is_none() {
        assert!(matches!(events.last(), Some(Event::Finished { .. })));
    }
    let starts = events.iter().filter(|event| matches!(event, Event::Started { .. })).count();
    assert!(starts <= 1, "{starts} beginnings");
    let first_said = events.iter().position(Event::is_content);
    let first_start = events.iter().position(|event| matches!(event, Event::Started { .. }));
    assert!(first_said.is_none() || first_start < first_said, "content before the beginning");
}
