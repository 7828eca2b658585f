//! Cut streams that another backend goes on with.

use super::*;
use crate::config::attempts::{HedgeSettings, OnCut};
use tower::ServiceExt;
use weir_protocol::{Message, ResponseFormat, Role};

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

#[tokio::test(start_paused = true)]
async fn who_lost_to_the_one_that_was_cut_goes_on() {
    let hedge = HedgeSettings { unknown: Some(Duration::from_millis(20)), earliest: Duration::from_millis(20) };
    let settings = AttemptSettings { retries: 1, hedge: Some(hedge), ..settings() };
    let cut = |ms| backend(vec![started("m"), Line::Wait(ms), text("half ")]);
    // Silent, unless it is asked to go on.
    let late = || {
        BackendService::new(tower::service_fn(|attempt: Attempt| async move {
            if !attempt.request.prefill {
                std::future::pending::<()>().await;
            }
            goes_on("").oneshot(attempt).await
        }))
    };
    let steps = [vec![step("a", cut(50)), step("b", late())], vec![step("a", late()), step("b", cut(1))]];
    for (steps, other) in steps.into_iter().zip(["b", "a"]) {
        let (metrics, out) = go_by(steps, streaming_of(9), &settings).await.all().await;
        let expect = format!("<m>half Verbatim(Over)Continued {{ backend: \"{other}\" }}(half|Some(8))[stop]");
        assert_eq!(out, expect);
        counted(&metrics, &format!(r#"weir_requests_total{{backend="{other}",outcome="finished",route="auto"}} 1"#));
    }
}

#[tokio::test(start_paused = true)]
async fn after_thoughts_alone_the_next_backend_answers_anew() {
    let thinks = || backend(vec![started("m"), Line::Say(Event::ReasoningDelta("hm".into()))]);
    let anew = || {
        BackendService::new(tower::service_fn(|attempt: Attempt| async move {
            assert!(!attempt.request.prefill && attempt.request.amended && attempt.request.messages.len() == 1);
            backend(vec![started("b"), text("all of it"), END]).oneshot(attempt).await
        }))
    };
    let form = ChatRequest { response_format: ResponseFormat::JsonObject, ..ChatRequest::clone(&streaming_of(9)) };
    for request in [streaming_of(9), Arc::new(form.clone())] {
        let (metrics, out) =
            go_by(vec![step("a", thinks()), step("b", anew())], request, &settings()).await.all().await;
        assert_eq!(out, "<m>ReasoningDelta(\"hm\")Verbatim(Over)Continued { backend: \"b\" }all of it[stop]");
        counted(&metrics, r#"weir_continued_total{cause="stream_cut",from="a",to="b"} 1"#);
    }
    let steps = vec![step("a", cut_after("{")), step("b", goes_on(""))];
    let (_, out) = go_by(steps, Arc::new(form), &settings()).await.all().await;
    assert_eq!(out, "<m>{!stream_cut", "half a form is nobody else's");
}
