//! The backend against a scripted upstream on a real socket: what it says byte by byte, and how it fails.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tower::ServiceExt;

pub(in crate::backends) mod script;

use super::*;
use crate::api::openai_chat::decode::decode;
use crate::backends::open as service;
use crate::config::wire::{BackendKind, WireSettings};
use crate::config::{EngineRole, settings::Secret};
use futures::StreamExt;
use weir_protocol::Dialect;

/// What the upstream does after it has read the request.
#[derive(Clone, Copy)]
enum Step {
    /// Bytes as they are.
    Raw(&'static str),
    /// An event stream's headers.
    Stream,
    /// One chunk of the body.
    Say(&'static str),
    /// The same, one chunk per byte.
    Drip(&'static str),
    /// The body's proper end.
    End,
    /// Nothing more, with the connection left open.
    Hang,
}
use Step::{Drip, End, Hang, Raw, Say, Stream};

const CONTENT: &str = "data: {\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüße\"}}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

struct Fake {
    settings: BackendSettings,
    /// The request as it came.
    request: oneshot::Receiver<String>,
    /// Resolves when the client closes.
    closed: oneshot::Receiver<()>,
}

/// An upstream for one request. Without `Hang` it closes the connection at the script's end.
async fn upstream(script: &[Step]) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (send_request, request) = oneshot::channel();
    let (send_closed, closed) = oneshot::channel();
    let script = script.to_vec();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = send_request.send(read_request(&mut socket).await);
        for step in script {
            match step {
                Raw(bytes) => socket.write_all(bytes.as_bytes()).await.unwrap(),
                Stream => {
                    let head =
                        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                    socket.write_all(head.as_bytes()).await.unwrap();
                }
                Say(text) => chunk(&mut socket, text.as_bytes()).await,
                Drip(text) => {
                    for byte in text.bytes() {
                        chunk(&mut socket, &[byte]).await;
                    }
                }
                End => socket.write_all(b"0\r\n\r\n").await.unwrap(),
                Hang => {
                    while socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
                    let _ = send_closed.send(());
                    return;
                }
            }
        }
    });
    Fake { settings: settings(&format!("http://{address}/v1")), request, closed }
}

async fn chunk(socket: &mut TcpStream, bytes: &[u8]) {
    let framed = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    socket.write_all(&framed).await.unwrap();
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
                return text;
            }
        }
        let mut piece = [0; 4096];
        let read = socket.read(&mut piece).await.unwrap();
        assert!(read > 0, "the request broke off");
        bytes.extend_from_slice(&piece[..read]);
    }
}

fn settings(base_url: &str) -> BackendSettings {
    let long = Duration::from_secs(20);
    BackendSettings {
        name: "test".into(),
        base_url: base_url.into(),
        api_key: Some(Secret::new("k-123")),
        model: "default-model".into(),
        models: Vec::new(),
        context_tokens: 4096,
        role: EngineRole::Ar,
        takes_images: false,
        takes_tools: true,
        headers: vec![(http::HeaderName::from_static("x-own"), http::HeaderValue::from_static("1"))],
        wire: WireSettings::plain(BackendKind::OpenAiChat),
        connect_timeout: long,
        first_content_timeout: long,
        idle_timeout: long,
        total_timeout: long,
        asking: crate::config::attempts::AskingSettings::default(),
    }
}

fn request() -> Arc<ChatRequest> {
    let body = r#"{"model":"auto","messages":[{"role":"user","content":"my secret"}],"x_field":7}"#;
    Arc::new(decode(body.as_bytes()).unwrap())
}

async fn open(settings: &BackendSettings, model: Option<&str>) -> Result<EventStream, EngineError> {
    let service = service(settings.clone()).unwrap();
    service.oneshot(Attempt { request: request(), model: model.map(Into::into), trace: Vec::new() }).await
}

/// Everything the backend says: events, then the error if there is one.
async fn listen(settings: &BackendSettings) -> (Vec<Event>, Option<EngineError>) {
    heard(open(settings, None).await).await
}

async fn heard(opened: Result<EventStream, EngineError>) -> (Vec<Event>, Option<EngineError>) {
    let mut events = Vec::new();
    let mut stream = match opened {
        Ok(stream) => stream,
        Err(error) => return (events, Some(error)),
    };
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => {
                assert!(stream.next().await.is_none(), "something follows the error");
                return (events, Some(error));
            }
        }
    }
    (events, None)
}

async fn check(script: &[Step], expect: &str) {
    let fake = upstream(script).await;
    assert_eq!(show(listen(&fake.settings).await), expect);
}

fn show((events, error): (Vec<Event>, Option<EngineError>)) -> String {
    let mut shown: String = events.iter().map(script::show).collect();
    if let Some(error) = error {
        let text = error.to_string();
        assert!(!text.contains("secret") && !text.contains("127.0.0.1"), "an error shows too much: {text}");
        match error {
            EngineError::Timeout { phase, .. } => shown.push_str(&format!(" ERR timeout {}", phase.as_str())),
            EngineError::Upstream { status, .. } => shown.push_str(&format!(" ERR upstream {status}")),
            other => shown.push_str(&format!(" ERR {}", other.kind())),
        }
    }
    shown
}

#[tokio::test]
async fn a_good_stream_comes_through_whatever_its_pieces() {
    let whole = "<up>Grüße#3+2/0!stop";
    check(&[Stream, Say(CONTENT), Say(STOP), Say(USAGE), Say(DONE), End], whole).await;
    check(&[Stream, Drip(CONTENT), Drip(STOP), Drip(USAGE), Drip(DONE), End], whole).await;
    check(&[Stream, Say(": hello\r\n\r\n"), Say(CONTENT), Say(STOP), Say(USAGE), End], whole).await;
}

#[tokio::test]
async fn after_the_finish_reason_the_connections_end_does_not_matter() {
    check(&[Stream, Say(CONTENT), Say(STOP)], "<up>Grüße!stop").await;
    check(&[Stream, Say(CONTENT), Say(STOP), Say(DONE), Hang], "<up>Grüße!stop").await;
}

#[tokio::test]
async fn a_cut_answer_never_looks_complete() {
    let cut = "<up>Grüße ERR stream_cut";
    check(&[Stream, Say(CONTENT)], cut).await;
    check(&[Stream, Say(CONTENT), End], cut).await;
    check(&[Stream, Say(CONTENT), Say(DONE), End], cut).await;
    check(&[Stream, Say(CONTENT), Say("data: {\"cho\n\n"), End], cut).await;
    check(
        &[Stream, Say(CONTENT), Say("data: {\"error\":{\"message\":\"secret\"}}\n\n"), End],
        "<up>Grüße ERR upstream 0",
    )
    .await;
    check(&[Stream, End], " ERR stream_cut").await;
}

#[tokio::test]
async fn a_plain_document_is_an_answer_too() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\nconnection: close\r\n\r\n";
    let body = "{\"model\":\"up\",\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}";
    check(&[Raw(head), Raw(body)], "<up>a!stop").await;
    check(&[Raw(head), Raw("{\"error\":{\"message\":\"secret\"}}")], " ERR upstream 0").await;
    check(&[Raw(head), Raw("{\"choices\":")], " ERR stream_cut").await;
}

#[tokio::test]
async fn refusals_keep_their_kind_and_lose_their_words() {
    let close = "connection: close\r\n\r\n";
    for (status, more, expect) in [
        ("401 Unauthorized", "{\"error\":{\"message\":\"secret\"}}", " ERR unauthorized"),
        ("404 Not Found", "<html>secret</html>", " ERR upstream 404"),
        (
            "400 Bad Request",
            "{\"error\":{\"message\":\"maximum context length is 9 tokens\"}}",
            " ERR context_too_long",
        ),
        ("503 Service Unavailable", "", " ERR upstream 503"),
        ("307 Temporary Redirect", "", " ERR upstream 307"),
    ] {
        let text: &'static str = format!("HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:1/\r\n{close}{more}").leak();
        check(&[Raw(text)], expect).await;
    }
    let fake = upstream(&[Raw("HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\nconnection: close\r\n\r\n")]).await;
    let (_, error) = listen(&fake.settings).await;
    assert_eq!(error, Some(EngineError::RateLimited { retry_after: Some(Duration::from_secs(7)) }));
    check(&[Raw("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<p>hi")], " ERR upstream 200")
        .await;
}

#[tokio::test]
async fn an_answer_in_an_unreadable_coding_says_in_which() {
    for (coding, word) in [("br", "(br)"), ("x-own", "(not in gzip)")] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\nconnection: close\r\n\r\n\u{1}\u{2}");
        let fake = upstream(&[Raw(head.leak())]).await;
        let (events, error) = listen(&fake.settings).await;
        assert!(events.is_empty() && error.is_some_and(|error| error.to_string().contains(word)), "{coding}");
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\nconnection: close\r\n\r\n";
    check(&[Raw(head), Raw(CONTENT), Raw(STOP)], "<up>Grüße!stop").await;
}

#[tokio::test]
async fn who_cannot_be_reached_is_an_upstream_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(show(listen(&settings(&base)).await), " ERR upstream 0");
    check(&[], " ERR upstream 0").await;
}

#[tokio::test]
async fn every_wait_has_its_end() {
    let short = Duration::from_millis(150);
    let limited = |change: fn(&mut BackendSettings, Duration), script: &'static [Step]| async move {
        let mut fake = upstream(script).await;
        change(&mut fake.settings, short);
        show(listen(&fake.settings).await)
    };
    let first: fn(&mut BackendSettings, Duration) = |settings, limit| settings.first_content_timeout = limit;
    let idle: fn(&mut BackendSettings, Duration) = |settings, limit| settings.idle_timeout = limit;
    let total: fn(&mut BackendSettings, Duration) = |settings, limit| settings.total_timeout = limit;
    let headers: fn(&mut BackendSettings, Duration) = |settings, limit| settings.wire.headers_timeout = limit;
    assert_eq!(limited(first, &[Hang]).await, " ERR timeout headers");
    assert_eq!(limited(headers, &[Hang]).await, " ERR timeout headers");
    assert_eq!(limited(headers, &[Raw("HTTP/1.1 200 OK\r\nx-slow: "), Hang]).await, " ERR timeout headers");
    assert_eq!(limited(first, &[Stream, Say(": wait\n\n"), Hang]).await, " ERR timeout first_content");
    assert_eq!(limited(idle, &[Stream, Say(CONTENT), Say(": wait\n\n"), Hang]).await, "<up>Grüße ERR timeout idle");
    assert_eq!(limited(total, &[Stream, Say(CONTENT), Hang]).await, "<up>Grüße ERR timeout total");
    assert_eq!(limited(idle, &[Stream, Say(CONTENT), Say(STOP), Hang]).await, "<up>Grüße!stop");
}

#[tokio::test]
async fn the_request_carries_key_headers_and_the_callers_own_fields() {
    let fake = upstream(&[Stream, Say(STOP), End]).await;
    let _events = open(&fake.settings, Some("other-model")).await.unwrap();
    let request = fake.request.await.unwrap();
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer k-123\r\n") && request.contains("x-own: 1\r\n"), "{request}");
    assert!(request.contains("\"model\":\"other-model\"") && request.contains("\"x_field\":7"), "{request}");
    assert!(!format!("{:?}", fake.settings).contains("k-123"));
}

#[tokio::test]
async fn dropping_the_events_closes_the_connection() {
    let fake = upstream(&[Stream, Say(CONTENT), Hang]).await;
    let mut events = open(&fake.settings, None).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(Event::Verbatim(_)))));
    drop(events);
    tokio::time::timeout(Duration::from_secs(5), fake.closed).await.expect("still open").unwrap();
}

#[tokio::test]
async fn calls_that_cannot_be_read_are_no_answer_where_objects_are_wanted() {
    const HALF: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\"}}]}}]}\n\n";
    const CALLS: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
    for (dialect, expect) in [
        (Dialect::AnthropicMessages, "<default-model>[0 f{0 {\"a} ERR upstream 0"),
        (Dialect::OpenAiResponses, "<default-model>[0 f{0 {\"a}!tool_calls"),
    ] {
        let fake = upstream(&[Stream, Say(HALF), Say(CALLS), Say(DONE), End]).await;
        let asked = Arc::unwrap_or_clone(request());
        let request = Arc::new(ChatRequest { dialect, stream: true, ..asked });
        let attempt = Attempt { request, model: None, trace: Vec::new() };
        let stream = service(fake.settings).unwrap().oneshot(attempt).await;
        assert_eq!(show(heard(stream).await), expect);
    }
}
