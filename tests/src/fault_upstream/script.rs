//! Writes what the upstream sends, piece by piece, before anything is sent. Pure: the same fault and request give the
//! same bytes.

use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::{Value, json};

use super::fault::Fault;

/// The text of a good answer.
pub const ANSWER: &str = "The upstream says that all is well.";
/// The model that claims to have answered.
pub const ANSWERING_MODEL: &str = "upstream-7b-2026";
/// Arguments of the tool call.
pub const TOOL_ARGUMENTS: &str = r#"{"room":"kitchen","on":false}"#;

/// What is sent.
pub(super) struct Script {
    pub(super) status: StatusCode,
    pub(super) headers: Headers,
    pub(super) pieces: Vec<Piece>,
}

pub(super) struct Headers {
    pub(super) content_type: &'static str,
    pub(super) retry_after: Option<u32>,
}

/// A step of the body.
pub(super) enum Piece {
    /// Send this.
    Bytes(Bytes),
    /// Cut the connection.
    Cut,
    /// Send nothing more, keep the connection.
    Silence,
}

/// The script of a fault; `None` for one that never answers at all.
pub(super) fn write(fault: Fault, request: &Value) -> Option<Script> {
    Some(match fault {
        Fault::Silent => return None,
        // Real upstreams quote what they were sent; the gateway must not pass that on to its log.
        Fault::Status(status) => {
            refusal(status, &format!("refused: {}", text(request, Fault::Echo)), "refused_on_command")
        }
        Fault::Overflow => refusal(
            400,
            "This model's maximum context length is 64 tokens. However, your messages resulted in 4711 tokens.",
            "context_length_exceeded",
        ),
        Fault::Html => body(502, "text/html", "<html><body><h1>502 Bad Gateway</h1></body></html>".into()),
        Fault::PlainJson => body(200, "application/json", whole(request).to_string()),
        _ if request["stream"] != true => unstreamed(fault, request),
        _ => Script {
            status: StatusCode::OK,
            headers: Headers { content_type: "text/event-stream", retry_after: None },
            pieces: streamed(fault, request),
        },
    })
}

fn body(status: u16, content_type: &'static str, text: String) -> Script {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry_after = (status == StatusCode::TOO_MANY_REQUESTS).then_some(7);
    Script { status, headers: Headers { content_type, retry_after }, pieces: vec![Piece::Bytes(text.into())] }
}

fn refusal(status: u16, message: &str, code: &str) -> Script {
    let error = json!({"error": {"message": message, "type": "upstream_says", "param": null, "code": code}});
    body(status, "application/json", error.to_string())
}

/// Faults of a stream have no exact twin in a whole answer: it is cut in half, or silent.
fn unstreamed(fault: Fault, request: &Value) -> Script {
    let text = whole_with(request, fault == Fault::Tools).to_string();
    let mut script = body(200, "application/json", text.clone());
    match fault {
        Fault::Cut(_) => script.pieces = vec![Piece::Bytes(text[..text.len() / 2].to_owned().into()), Piece::Cut],
        Fault::Hang | Fault::SilentAfterHeaders => script.pieces = vec![Piece::Silence],
        Fault::Empty => script.pieces = Vec::new(),
        Fault::Malformed | Fault::NoFinish => script.pieces = vec![Piece::Bytes("{\"choices\":".into())],
        Fault::ErrorFirst | Fault::ErrorEvent => {
            script.pieces = vec![Piece::Bytes(json!({"error": error()}).to_string().into())];
        }
        _ => {}
    }
    script
}

fn whole(request: &Value) -> Value {
    whole_with(request, false)
}

fn whole_with(request: &Value, tools: bool) -> Value {
    let (message, reason) = if tools {
        let call = json!({"id": "call_up1", "type": "function", "function": {"name": "set_light", "arguments": TOOL_ARGUMENTS}});
        (json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls")
    } else {
        (json!({"role": "assistant", "content": text(request, Fault::Fine)}), "stop")
    };
    let choice = json!({"index": 0, "message": message, "finish_reason": reason});
    json!({"id": "up-1", "object": "chat.completion", "created": 1, "model": ANSWERING_MODEL, "choices": [choice], "usage": usage()})
}

fn usage() -> Value {
    json!({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18})
}

fn error() -> Value {
    json!({"message": "the upstream broke", "type": "server_error", "param": null, "code": "broken_on_command"})
}

fn text(request: &Value, fault: Fault) -> String {
    match fault {
        Fault::Echo => {
            let last = request["messages"].as_array().and_then(|messages| messages.last());
            last.and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned()
        }
        _ => ANSWER.to_owned(),
    }
}

fn streamed(fault: Fault, request: &Value) -> Vec<Piece> {
    let events = events(fault, request);
    let plain = |events: &[String]| events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>();
    let half = events.len() / 2;
    let bytes = |text: String| Piece::Bytes(text.into());
    match fault {
        Fault::SilentAfterHeaders => vec![Piece::Silence],
        Fault::Empty => Vec::new(),
        Fault::Hang => vec![bytes(plain(&events[..half])), Piece::Silence],
        Fault::Cut(after) => {
            let mut text = plain(&events);
            // All of the script is ASCII, so any place is a character's border.
            text.truncate(after.min(text.len()));
            vec![bytes(text), Piece::Cut]
        }
        Fault::ByteByByte => plain(&events).bytes().map(|byte| Piece::Bytes(Bytes::from(vec![byte]))).collect(),
        Fault::CrLf => events.iter().map(|event| bytes(format!("data: {event}\r\n\r\n"))).collect(),
        Fault::Comments => events
            .iter()
            .map(|event| bytes(format!(": thinking\n\n:\n\nevent: message\ndata: {event}\nid: 1\n\n")))
            .collect(),
        // A newline is white space between JSON's words, so the lines join to the same value.
        Fault::MultiLine => {
            let spread =
                |event: &String| format!("data: {}\n\n", event.replacen("\"choices\":", "\ndata: \"choices\":", 1));
            events.iter().map(|event| bytes(spread(event))).collect()
        }
        Fault::ErrorFirst => vec![bytes(plain(&[json!({"error": error()}).to_string()]))],
        Fault::ErrorEvent => {
            let broken = json!({"error": error()}).to_string();
            vec![bytes(plain(&events[..half])), bytes(plain(&[broken]))]
        }
        Fault::Malformed => {
            vec![
                bytes(plain(&events[..half])),
                bytes("data: {\"choices\": [{\"del\n\n".into()),
                bytes(plain(&events[half..])),
            ]
        }
        _ => events.iter().map(|event| bytes(format!("data: {event}\n\n"))).collect(),
    }
}

/// The data of each event, `[DONE]` included where the fault has one.
fn events(fault: Fault, request: &Value) -> Vec<String> {
    let chunk = |delta: Value, reason: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        json!({"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": ANSWERING_MODEL, "choices": [choice]})
            .to_string()
    };
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
    if fault == Fault::Tools {
        let function = json!({"name": "set_light", "arguments": ""});
        let call = json!({"index": 0, "id": "call_up1", "type": "function", "function": function});
        events.push(chunk(json!({"tool_calls": [call]}), None));
        let (first, second) = TOOL_ARGUMENTS.split_at(9);
        for arguments in [first, second] {
            events.push(chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}), None));
        }
    } else {
        let text = text(request, fault);
        events.extend(text.split_inclusive(' ').map(|word| chunk(json!({"content": word}), None)));
    }
    if !matches!(fault, Fault::NoFinish | Fault::DoneOnly) {
        events.push(chunk(json!({}), Some(if fault == Fault::Tools { "tool_calls" } else { "stop" })));
    }
    if request["stream_options"]["include_usage"] == true && fault != Fault::NoFinish {
        let usage = json!({"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": ANSWERING_MODEL, "choices": [], "usage": usage()});
        events.push(usage.to_string());
    }
    if !matches!(fault, Fault::NoFinish | Fault::NoDone) {
        events.push("[DONE]".to_owned());
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Frames;

    fn sent(fault: Fault) -> String {
        let request = json!({"stream": true, "messages": [{"role": "user", "content": "hello"}]});
        let pieces = write(fault, &request).map(|script| script.pieces).unwrap_or_default();
        let bytes = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Bytes(bytes) => Some(bytes),
            Piece::Cut | Piece::Silence => None,
        });
        String::from_utf8(bytes.collect::<Vec<_>>().concat()).expect("text")
    }

    #[test]
    fn the_good_ones_are_good_and_the_bad_ones_bad() {
        assert!(Frames::read(&sent(Fault::Fine)).is_complete());
        assert_eq!(Frames::read(&sent(Fault::ByteByByte)).text(), ANSWER);
        assert_eq!(Frames::read(&sent(Fault::Echo)).text(), "hello");
        assert_eq!(Frames::read(&sent(Fault::Tools)).calls()[0].2, TOOL_ARGUMENTS);
        let cuts = [Fault::Cut(0), Fault::Cut(300), Fault::NoFinish, Fault::NoDone, Fault::DoneOnly, Fault::Malformed];
        for fault in cuts {
            assert!(!Frames::read(&sent(fault)).is_complete(), "{fault:?}");
        }
        assert!(!Frames::read(&sent(Fault::ErrorEvent)).errors().is_empty());
    }

    #[test]
    fn every_script_is_ascii() {
        assert!(sent(Fault::Fine).is_ascii());
    }
}
