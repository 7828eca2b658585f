//! Cut streams that another backend goes on with.

use super::*;
use crate::config::attempts::OnCut;
use weir_protocol::{Message, Role};

fn settings() -> AttemptSettings {
    AttemptSettings { retries: 0, on_cut: OnCut::Continue, ..AttemptSettings::default() }
}

/// Says what it is asked to go on from, and that it is.
fn goes_on(first: &'static str) -> BackendService {
    BackendService::new(tower::service_fn(move |attempt: Attempt| async move {
        let last = attempt.request.messages.last().expect("a turn");
        assert!(attempt.request.prefill && attempt.request.amended && last.role == Role::Assistant);
        let said = format!("{first}({}|{:?})", last.joined_text(), attempt.request.max_tokens);
        let events = [started("b"), text(&said), END].map(|line| match line {
            Line::Say(event) => Ok(event),
            _ => unreachable!("only events"),
        });
        Ok::<EventStream, EngineError>(Box::pin(stream::iter(events)))
    }))
}

fn streaming_of(max_tokens: u32) -> Arc<ChatRequest> {
    let messages = vec![Message::text(Role::User, "tell")];
    Arc::new(ChatRequest { stream: true, messages, max_tokens: Some(max_tokens), ..ChatRequest::default() })
}

fn cut_after(said: &str) -> BackendService {
    backend(vec![started("m"), text(said)])
}

#[tokio::test(start_paused = true)]
async fn the_next_backend_goes_on_from_the_text_so_far() {
    let full = refusing(EngineError::Overloaded { limit: 1, retry_after: None });
    let steps = vec![step("a", cut_after("half of it ")), step("full", full), step("b", goes_on(" "))];
    let (metrics, out) = go_by(steps, streaming_of(9), &settings()).await.all().await;
    assert_eq!(out, "<m>half of it Verbatim(Over)Continued { backend: \"b\" }(half of it|Some(7))[stop]");
    counted(&metrics, r#"weir_continued_total{cause="stream_cut",from="a",to="b"} 1"#);
    counted(&metrics, r#"weir_requests_total{backend="b",outcome="finished",route="auto"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_may_be_cut_too() {
    let steps = vec![step("a", cut_after("one ")), step("b", cut_after("two ")), step("c", goes_on(""))];
    let (_, out) = go_by(steps, streaming_of(90), &settings()).await.all().await;
    let over = |backend: &str| format!("Verbatim(Over)Continued {{ backend: \"{backend}\" }}");
    assert_eq!(out, format!("<m>one {}two {}(one two|Some(89))[stop]", over("b"), over("c")));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_go_on_the_cut_is_told() {
    let steps = |last| vec![step("a", cut_after("half")), step("b", last)];
    let refuses = refusing(EngineError::Unsupported { field: "messages".into(), message: String::new() });
    let (metrics, out) = go_by(steps(refuses), streaming_of(9), &settings()).await.all().await;
    assert_eq!(out, "<m>half!stream_cut");
    counted(&metrics, r#"weir_requests_total{backend="b",outcome="stream_cut",route="auto"} 1"#);
    let call = Event::ToolCallStarted { index: 0, id: "c".into(), name: "f".into() };
    let calls = backend(vec![started("m"), text("so"), Line::Say(call)]);
    let ran = go_by(vec![step("a", calls), step("b", goes_on(""))], streaming_of(9), &settings()).await;
    assert!(ran.all().await.1.ends_with("!stream_cut"), "half a call is nobody else's");
    let (_, out) = go(steps(goes_on("")), streaming_of(9)).await.all().await;
    assert_eq!(out, "<m>half!stream_cut", "only where the operator wants it");
}
