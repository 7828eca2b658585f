//! The stack as a client meets it, without a socket: probes, wrong paths, limits, ids, and who holds a place how long.

use std::sync::Arc;

use axum::body::Body;
use futures::{StreamExt, stream};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;
use weir_protocol::{EngineError, Event, FinishReason};
use weir_router_policies::{BackendFacts, BackendRole, Policy};

use super::*;
use crate::backends::{Attempt, Backend, BackendService, EventStream, Registry};
use crate::config::Inputs;
use crate::config::attempts::{AskingSettings, AttemptSettings};
use crate::route::Standing;

/// A gateway over one backend that says "a" and then, depending on the model asked for, ends or goes on for ever.
fn gateway(change: impl FnOnce(&mut ServerSettings)) -> Arc<Gateway> {
    let service = BackendService::new(tower::service_fn(|attempt: Attempt| async move {
        let endless = attempt.model.is_some_and(|model| model == "endless");
        let begin = stream::iter([Event::Started { model: "m".into() }, Event::TextDelta("a".into())]);
        let end = stream::iter([Event::Finished { reason: FinishReason::Stop }]);
        let events: EventStream = match endless {
            true => Box::pin(begin.chain(stream::pending()).map(Ok)),
            false => Box::pin(begin.chain(end).map(Ok)),
        };
        Ok::<_, EngineError>(events)
    }));
    let backend = Backend {
        name: "test".into(),
        service,
        models: vec!["m".into(), "endless".into()],
        facts: BackendFacts {
            name: "test".into(),
            group: None,
            role: BackendRole::Ar,
            context_tokens: 1000,
            takes_images: false,
            takes_tools: true,
            honours_unsupported: true,
            local: true,
            bytes_per_token: 4.0,
        },
        engine: None,
        server_tools: Default::default(),
        counter: None,
        asking: AskingSettings::default(),
        standing: Standing::new("test", &AskingSettings::default(), &AttemptSettings::default().standing),
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    let backends = Registry::of(vec![backend]);
    let models = backends.models();
    let mut settings = crate::config::load(&Inputs::default()).unwrap().server;
    change(&mut settings);
    let policy = Policy::parse(crate::embedded::POLICY, "the embedded default").unwrap();
    let router =
        route::Router::new(backends, policy, AttemptSettings::default(), Default::default(), Arc::clone(&metrics));
    let tenants = Arc::new(crate::tenants::Tenants::none(Arc::clone(&metrics)));
    let recorder = Arc::new(crate::record::Recorder::counting(Arc::clone(&metrics)));
    Arc::new(Gateway { router, settings, models, metrics, tenants, recorder, lasting: Arc::default() })
}

fn chat(model: &str, stream: bool) -> Request<Body> {
    let body = format!(r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"x"}}]}}"#);
    post("/v1/chat/completions", body)
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", "application/json").body(body.into()).unwrap()
}

async fn send(gateway: &Arc<Gateway>, request: Request<Body>) -> Response {
    stack(Arc::clone(gateway)).oneshot(request).await.unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[track_caller]
fn is_openai_error(body: &str) {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string(), "{body}");
}

#[tokio::test]
async fn probes_tell_living_from_ready() {
    let gateway = gateway(|_| {});
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(send(&gateway, get("/healthz")).await.status(), StatusCode::OK);
    assert_eq!(send(&gateway, get("/readyz")).await.status(), StatusCode::OK);
    gateway.lasting.draining.store(true, Ordering::Relaxed);
    assert_eq!(send(&gateway, get("/healthz")).await.status(), StatusCode::OK);
    assert_eq!(send(&gateway, get("/readyz")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn what_there_is_not_is_said_in_json() {
    let gateway = gateway(|_| {});
    let missing = send(&gateway, post("/v1/nothing", "{}")).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    is_openai_error(&text(missing).await);
    let wrong = Request::builder().method(Method::DELETE).uri("/v1/chat/completions").body(Body::empty()).unwrap();
    let wrong = send(&gateway, wrong).await;
    assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    is_openai_error(&text(wrong).await);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let gateway = gateway(|settings| settings.max_body_bytes = 64);
    let response = send(&gateway, post("/v1/chat/completions", "x".repeat(65))).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    is_openai_error(&text(response).await);
}

#[tokio::test]
async fn every_answer_carries_an_id() {
    let gateway = gateway(|_| {});
    let mut with_id = post("/v1/nothing", "");
    with_id.headers_mut().insert("x-request-id", "abc-1".parse().unwrap());
    assert_eq!(send(&gateway, with_id).await.headers()["x-request-id"], "abc-1");
    let mut free_text = post("/v1/nothing", "");
    free_text.headers_mut().insert("x-request-id", "free text".parse().unwrap());
    let given = send(&gateway, free_text).await.headers()["x-request-id"].clone();
    assert!(given.to_str().unwrap().starts_with("req-"));
}

#[tokio::test]
async fn a_panic_is_a_500_without_its_text() {
    let app = axum::Router::new()
        .route(
            "/",
            get(|| async {
                if true {
                    panic!("the prompt")
                }
            }),
        )
        .layer(from_fn(|request: Request<Body>, next: Next| panics::layer(request, |request| next.run(request))));
    let response = app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = text(response).await;
    assert!(!body.contains("the prompt"));
    is_openai_error(&body);
}

#[tokio::test]
async fn a_stream_holds_its_place_until_its_body_is_gone() {
    let gateway = gateway(|settings| settings.max_in_flight = 1);
    let app = stack(Arc::clone(&gateway));
    let first = app.clone().oneshot(chat("endless", true)).await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    let refused = app.clone().oneshot(chat("test", false)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    is_openai_error(&text(refused).await);
    drop(first);
    let answered = app.oneshot(chat("test", false)).await.unwrap();
    assert_eq!(answered.status(), StatusCode::OK);
    drop(answered);
    let page = gateway.metrics.render(&Scrape::default()).unwrap();
    assert!(page.contains(r#"weir_requests_total{backend="test",outcome="cancelled",route="test"} 1"#), "{page}");
    assert!(page.contains(r#"weir_requests_total{backend="test",outcome="finished",route="test"} 1"#), "{page}");
    assert!(page.contains(r#"weir_in_flight{backend="test"} 0"#), "{page}");
}

#[tokio::test]
async fn ids_lead_to_backends() {
    let gateway = gateway(|_| {});
    for (id, route) in [("test", "test"), ("m", "test"), ("ar", "ar")] {
        let response = send(&gateway, chat(id, false)).await;
        assert_eq!(response.status(), StatusCode::OK, "{id}");
        assert_eq!(response.headers()["x-weir-route"], route);
        assert_eq!(response.headers()["x-weir-backend"], "test");
    }
    let unknown = send(&gateway, chat("tset", false)).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let body = text(unknown).await;
    assert!(body.contains("did you mean `test`?"), "{body}");
}

#[tokio::test]
async fn a_large_body_within_the_limit_is_read() {
    let gateway = gateway(|_| {});
    let body = format!(r#"{{"model":"test","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(10_000_000));
    let response = send(&gateway, post("/v1/chat/completions", body)).await;
    let status = response.status();
    let body = text(response).await;
    assert!(body.contains("context_length_exceeded") || status == StatusCode::OK, "{status} {body}");
}
