//! Writes what the upstream sends, piece by piece, before anything is sent. Pure: the same fault and request give the
//! same bytes.

use std::io::Write;

use axum::http::StatusCode;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::fault::Fault;
use super::wires::{Calls, Event, Saying, Told, Wire};
use super::{ANSWER, ANSWER_UTF8};

/// What is sent.
pub(super) struct Script {
    pub(super) status: StatusCode,
    /// Names and values.
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) pieces: Vec<Piece>,
}

/// A step of the body.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// Send this.
    Bytes(Bytes),
    /// Send this again and again, this many milliseconds apart.
    Forever(Bytes, u64),
    /// Cut the connection.
    Cut,
    /// Send nothing more, keep the connection.
    Silence,
}

/// The script of a fault; `None` for one that never answers at all.
pub(super) fn write(fault: Fault, wire: Wire, request: &Value) -> Option<Script> {
    let refusal =
        |status, message: &str, code: &str| body(status, "application/json", &wire.refusal(message, code).to_string());
    Some(match fault {
        Fault::Silent => return None,
        // Real upstreams quote what they were sent; the gateway must not pass that on to its log.
        Fault::Status(status) => {
            let mut script = refusal(status, &format!("refused: {}", wire.asked(request)), "refused_on_command");
            if status == 429 {
                script.headers.push(("retry-after", "7"));
            }
            script
        }
        Fault::Overflow => refusal(
            400,
            "This model's maximum context length is 64 tokens. However, your messages resulted in 4711 tokens.",
            "context_length_exceeded",
        ),
        Fault::Html => body(502, "text/html", "<html><body><h1>502 Bad Gateway</h1></body></html>"),
        Fault::HtmlOk => body(200, "text/html", "<!DOCTYPE html><html><body>Please log in</body></html>"),
        Fault::PlainText => body(200, "text/plain", "upstream connect error or disconnect"),
        Fault::PlainJson => body(200, "application/json", &wire.whole(&saying(fault, wire, request)).to_string()),
        // Only a client that talks to us directly asks for that: the gateway always wants a stream.
        _ if request["stream"] == false => {
            body(200, "application/json", &wire.whole(&saying(fault, wire, request)).to_string())
        }
        _ => streamed(fault, wire, request),
    })
}

fn body(status: u16, content_type: &'static str, text: &str) -> Script {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Script { status, headers: vec![("content-type", content_type)], pieces: vec![bytes(text)] }
}

fn saying(fault: Fault, wire: Wire, request: &Value) -> Saying {
    match fault {
        Fault::Echo => Saying::Text(wire.asked(request)),
        Fault::SplitUtf8 => Saying::Text(ANSWER_UTF8.into()),
        Fault::Tools => Saying::Calls(Calls::One),
        Fault::ParallelTools => Saying::Calls(Calls::Two),
        Fault::MissingIndex => Saying::Calls(Calls::WithoutIndex),
        Fault::ReusedIndex => Saying::Calls(Calls::SameIndex),
        _ => Saying::Text(ANSWER.into()),
    }
}

fn streamed(fault: Fault, wire: Wire, request: &Value) -> Script {
    let mut headers = vec![("content-type", wire.media_type())];
    match fault {
        Fault::WrongType => headers = vec![("content-type", "application/json; charset=utf-8")],
        Fault::Gzip | Fault::GzipCut => headers.push(("content-encoding", "gzip")),
        Fault::Limits => {
            headers.extend([("x-ratelimit-limit-tokens", "9000"), ("x-ratelimit-remaining-tokens", "17")]);
        }
        _ => {}
    }
    Script { status: StatusCode::OK, headers, pieces: pieces(fault, wire, request) }
}

fn pieces(fault: Fault, wire: Wire, request: &Value) -> Vec<Piece> {
    let Told { opening, content, finish, last } = wire.tell(&saying(fault, wire, request), request);
    let each = |events: &[Event], end: &str| -> Vec<Piece> {
        events.iter().map(|event| bytes(&wire.frame(event, end))).collect()
    };
    let text = |events: &[Event]| -> String { events.iter().map(|event| wire.frame(event, "\n")).collect() };
    let all = [opening.clone(), content.clone(), finish.clone(), last.clone()].concat();
    // Up to the middle of what is said.
    let half = [&opening, &content[..content.len() / 2]].concat();
    let rest = [&content[content.len() / 2..], &finish, &last].concat();
    match fault {
        Fault::Extras => {
            let note = wire.note().map(|note| bytes(&wire.frame(&note, "\n")));
            let told = all.iter().map(|event| bytes(&wire.frame(&event.with_extras(), "\n")));
            note.into_iter().chain(told).collect()
        }
        Fault::SilentAfterHeaders => vec![Piece::Silence],
        Fault::Pings => [each(&opening, "\n"), vec![Piece::Forever(wire.ping().into(), 20)]].concat(),
        Fault::Empty => Vec::new(),
        Fault::Hang => [each(&half, "\n"), vec![Piece::Silence]].concat(),
        Fault::Endless | Fault::Drip => {
            let pause = if fault == Fault::Drip { 40 } else { 0 };
            let again = content.first().map(|event| wire.frame(event, "\n")).unwrap_or_default();
            [each(&opening, "\n"), vec![Piece::Forever(again.into(), pause)]].concat()
        }
        Fault::Cut(after) => {
            let mut text = text(&all);
            // All of the script is ASCII, so any place is a character's border.
            text.truncate(after.min(text.len()));
            vec![bytes(&text), Piece::Cut]
        }
        Fault::CutEarly => {
            let mut text = text(&opening);
            text.truncate(text.len().saturating_sub(9));
            vec![bytes(&text), Piece::Cut]
        }
        Fault::CutLate => {
            let mut text = text(&half);
            text.truncate(text.len().saturating_sub(9));
            vec![bytes(&text), Piece::Cut]
        }
        Fault::NoFinish => each(&[opening, content].concat(), "\n"),
        Fault::NoDone => each(&[opening, content, finish].concat(), "\n"),
        Fault::DoneOnly => each(&[opening, content, last].concat(), "\n"),
        Fault::DoubleFinish => each(&[all, finish, last].concat(), "\n"),
        Fault::ByteByByte | Fault::SplitUtf8 => {
            text(&all).bytes().map(|byte| Piece::Bytes(Bytes::from(vec![byte]))).collect()
        }
        Fault::Gzip => gzip(&text(&all)).chunks(7).map(|part| Piece::Bytes(Bytes::copy_from_slice(part))).collect(),
        Fault::GzipCut => {
            let all = gzip(&text(&all));
            vec![Piece::Bytes(Bytes::copy_from_slice(&all[..all.len() / 2]))]
        }
        Fault::CrLf => each(&all, "\r\n"),
        Fault::Comments => {
            let told = all.iter().map(|event| bytes(&format!("{}{}", wire.ping(), wire.frame(event, "\n"))));
            std::iter::once(bytes(&wire.ping())).chain(told).collect()
        }
        // A newline is white space between JSON's words, so the lines join to the same value.
        Fault::MultiLine => {
            let spread = |event: &Event| wire.frame(event, "\n").replacen("data: {", "data: {\ndata: ", 1);
            all.iter().map(|event| bytes(&spread(event))).collect()
        }
        Fault::ErrorFirst => each(&[wire.error("the upstream broke")], "\n"),
        Fault::ErrorEvent => each(&[half, vec![wire.error("the upstream broke")]].concat(), "\n"),
        Fault::Malformed => {
            let broken = Event { name: None, data: "{\"choices\": [{\"del".into() };
            [each(&half, "\n"), vec![bytes(&wire.frame(&broken, "\n"))], each(&rest, "\n")].concat()
        }
        _ => each(&all, "\n"),
    }
}

/// What a raw fault sends of the body before it breaks: half of the answer.
pub(super) fn half(wire: Wire, request: &Value) -> String {
    let told = wire.tell(&saying(Fault::Fine, wire, request), request);
    let half = [&told.opening, &told.content[..told.content.len() / 2]].concat();
    half.iter().map(|event| wire.frame(event, "\n")).collect()
}

fn bytes(text: &str) -> Piece {
    Piece::Bytes(Bytes::copy_from_slice(text.as_bytes()))
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // A vector takes everything.
    let _ = encoder.write_all(text.as_bytes());
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault_upstream::TOOL_ARGUMENTS;
    use crate::frames::Frames;
    use serde_json::json;

    fn sent(fault: Fault, wire: Wire) -> String {
        let request = json!({"stream": true, "messages": [{"role": "user", "content": "hello"}]});
        let pieces = write(fault, wire, &request).map(|script| script.pieces).unwrap_or_default();
        let bytes = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Bytes(bytes) => Some(bytes),
            Piece::Forever(..) | Piece::Cut | Piece::Silence => None,
        });
        String::from_utf8(bytes.collect::<Vec<_>>().concat()).expect("text")
    }

    #[test]
    fn the_good_ones_are_good_and_the_bad_ones_bad() {
        let sent = |fault| sent(fault, Wire::Chat);
        assert!(Frames::read(&sent(Fault::Fine)).is_complete());
        assert_eq!(Frames::read(&sent(Fault::ByteByByte)).text(), ANSWER);
        assert_eq!(Frames::read(&sent(Fault::Echo)).text(), "hello");
        assert_eq!(Frames::read(&sent(Fault::Tools)).calls()[0].2, TOOL_ARGUMENTS);
        assert_eq!(Frames::read(&sent(Fault::ParallelTools)).calls()[1].2, TOOL_ARGUMENTS);
        let cuts = [
            Fault::Cut(0),
            Fault::Cut(300),
            Fault::CutEarly,
            Fault::CutLate,
            Fault::NoFinish,
            Fault::NoDone,
            Fault::DoneOnly,
            Fault::DoubleFinish,
            Fault::Malformed,
        ];
        for fault in cuts {
            assert!(!Frames::read(&sent(fault)).is_complete(), "{fault:?}");
        }
        assert!(!Frames::read(&sent(Fault::ErrorEvent)).errors().is_empty());
    }

    #[test]
    fn every_protocol_says_the_same() {
        for wire in [Wire::Chat, Wire::Responses, Wire::Messages, Wire::Ollama] {
            for word in ANSWER.split(' ') {
                assert!(sent(Fault::Fine, wire).contains(word), "{wire:?}: {word}");
            }
            assert!(sent(Fault::Fine, wire).is_ascii());
            let (early, late) = (sent(Fault::CutEarly, wire), sent(Fault::CutLate, wire));
            assert!(!early.contains("The ") && late.contains("The ") && !late.contains("well"), "{wire:?}");
        }
    }
}
