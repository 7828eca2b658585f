//! The handler over a scripted backend: statuses, headers and the order of what a caller sees, under paused time.

use std::time::Duration;

use futures::StreamExt;
use http::StatusCode;
use http_body_util::BodyExt;
use weir_protocol::{EngineError, Event, FinishReason};
use weir_router_policies::{BackendFacts, BackendRole, Policy};

use super::*;
use crate::backends::{Attempt, Backend, BackendService, EventStream, Registry};
use crate::config::Inputs;
use crate::config::attempts::{AskingSettings, AttemptSettings};
use crate::metrics::Metrics;
use crate::route::Router;
use crate::route::Standing;

/// One line of the backend's script.
#[derive(Clone)]
enum Line {
    Wait(u64),
    Say(Event),
    Fail(EngineError),
}

fn text(text: &str) -> Line {
    Line::Say(Event::TextDelta(text.into()))
}

fn stop() -> Line {
    Line::Say(Event::Finished { reason: FinishReason::Stop })
}

/// A gateway over one backend; headers are held for 1 s, keep-alives come every 10 s.
fn gateway(script: Vec<Line>) -> Arc<Gateway> {
    let service = BackendService::new(tower::service_fn(move |_: Attempt| {
        let lines = script.clone();
        async move {
            let events = futures::stream::iter(lines).filter_map(|line| async move {
                match line {
                    Line::Wait(seconds) => {
                        tokio::time::sleep(Duration::from_secs(seconds)).await;
                        None
                    }
                    Line::Say(event) => Some(Ok(event)),
                    Line::Fail(error) => Some(Err(error)),
                }
            });
            Ok::<EventStream, EngineError>(Box::pin(events))
        }
    }));
    let facts = BackendFacts {
        name: "up".into(),
        group: None,
        role: BackendRole::Ar,
        context_tokens: 1000,
        takes_images: false,
        takes_tools: true,
        honours_unsupported: true,
        local: true,
        bytes_per_token: 4.0,
    };
    let backend = Backend {
        name: "up".into(),
        service,
        models: Vec::new(),
        facts,
        engine: None,
        server_tools: Default::default(),
        counter: None,
        asking: AskingSettings::default(),
        standing: Standing::new("up", &AskingSettings::default(), &AttemptSettings::default().standing),
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    let backends = Registry::of(vec![backend]);
    let models = backends.models();
    let mut settings = crate::config::load(&Inputs::default()).unwrap().server;
    settings.hold_headers = Duration::from_secs(1);
    settings.keep_alive = Duration::from_secs(10);
    let policy = Policy::parse(crate::embedded::POLICY, "the embedded default").unwrap();
    let router = Router::new(backends, policy, AttemptSettings::default(), Default::default(), Arc::clone(&metrics));
    let tenants = Arc::new(crate::tenants::Tenants::none(Arc::clone(&metrics)));
    let recorder = Arc::new(crate::record::Recorder::counting(Arc::clone(&metrics)));
    Arc::new(Gateway { router, settings, models, metrics, tenants, recorder, lasting: Arc::default() })
}

/// Status, content type, route and backend headers, body without ids and dates.
async fn ask(script: Vec<Line>, stream: bool) -> (StatusCode, String, String) {
    let body = format!(r#"{{"model":"up","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#);
    send(script, body).await
}

async fn send(script: Vec<Line>, body: String) -> (StatusCode, String, String) {
    let response = chat(State(gateway(script)), Caller::default(), Bytes::from(body)).await;
    let header = |name: &str| response.headers().get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
    let headers = format!("{} {} {}", header("content-type"), header("x-weir-route"), header("x-weir-backend"));
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

const STREAM: &str = "text/event-stream up up";
const JSON: &str = "application/json up up";

#[tokio::test(start_paused = true)]
async fn a_quick_answer_streams() {
    let (status, headers, body) = ask(vec![text("a"), stop()], true).await;
    assert_eq!((status, headers.as_str()), (StatusCode::OK, STREAM));
    assert!(body.contains("\"content\":\"a\"") && body.ends_with("data: [DONE]\n\n"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_one_document() {
    let (status, headers, body) = ask(vec![Line::Wait(30), text("a"), stop()], false).await;
    assert_eq!((status, headers.as_str()), (StatusCode::OK, JSON));
    assert!(body.contains("\"content\":\"a\"") && body.contains("\"finish_reason\":\"stop\""), "{body}");
}

#[tokio::test(start_paused = true)]
async fn an_early_error_keeps_its_status() {
    for stream in [true, false] {
        let (status, headers, body) =
            ask(vec![Line::Fail(EngineError::Overloaded { limit: 3, retry_after: None })], stream).await;
        assert_eq!((status, headers.as_str()), (StatusCode::SERVICE_UNAVAILABLE, JSON));
        assert!(body.contains("\"code\":\"overloaded\""), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_keeps_the_connection_alive_and_still_names_its_route() {
    let (status, headers, body) = ask(vec![Line::Wait(15), text("a"), stop()], true).await;
    assert_eq!((status, headers.as_str()), (StatusCode::OK, STREAM));
    assert!(body.starts_with(": keep-alive\n\ndata: {"), "{body}");
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_late_error_is_an_event_and_no_end() {
    let slow = vec![Line::Wait(15), Line::Fail(EngineError::Overloaded { limit: 3, retry_after: None })];
    let cut = vec![text("a"), Line::Fail(EngineError::StreamCut { message: "x".into() })];
    let silent = vec![text("a")];
    for (script, code) in [(slow, "overloaded"), (cut, "stream_cut"), (silent, "stream_cut")] {
        let (status, headers, body) = ask(script, true).await;
        assert_eq!((status, headers.as_str()), (StatusCode::OK, STREAM));
        assert!(body.contains(&format!("\"code\":\"{code}\"")), "{body}");
        assert!(!body.contains("[DONE]") && !body.contains("\"finish_reason\":\""), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_an_answer_is_never_a_whole_one() {
    let (status, headers, body) =
        ask(vec![text("half"), Line::Fail(EngineError::StreamCut { message: "x".into() })], false).await;
    assert_eq!((status, headers.as_str()), (StatusCode::BAD_GATEWAY, JSON));
    assert!(body.contains("\"code\":\"stream_cut\"") && !body.contains("half"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_body_is_refused_before_any_plan() {
    let (status, headers, body) = send(vec![stop()], r#"{"messages":[{"role":"bot"}]}"#.into()).await;
    assert_eq!((status, headers.as_str()), (StatusCode::BAD_REQUEST, "application/json - -"));
    assert!(body.contains("\"param\":\"messages[0].role\""), "{body}");
}
