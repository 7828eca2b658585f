//! The config in force, and the operator's orders about the gateway as a whole.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::seconds;
use crate::live::{Live, Outcome, Trigger};
use crate::stack;

/// `GET /admin/config`
pub(super) async fn show(State(live): State<Arc<Live>>) -> Json<Value> {
    let (now, last) = (live.current(), live.last());
    let mut reload = json!(last.outcome);
    if let Some(reload) = reload.as_object_mut() {
        reload.insert("at".into(), seconds(last.at));
    }
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": now.number,
        "since": seconds(now.since),
        "draining": live.is_draining(),
        "layers": now.settings.origins,
        "policy": now.settings.policy.origin,
        "last_reload": reload,
        "settings": now.shown,
    }))
}

/// `GET /admin/metrics`
pub(super) async fn metrics(State(live): State<Arc<Live>>) -> Response {
    stack::metrics_page(&live.current().gateway)
}

/// `POST /admin/reload`
pub(super) async fn reload(State(live): State<Arc<Live>>) -> Response {
    let outcome = live.reload(Trigger::Admin).await;
    let status = match outcome {
        Outcome::Applied { .. } | Outcome::Unchanged { .. } => StatusCode::OK,
        Outcome::NeedsRestart { .. } => StatusCode::CONFLICT,
        Outcome::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, Json(outcome)).into_response()
}

/// `POST /admin/drain`
pub(super) async fn drain(State(live): State<Arc<Live>>) -> Json<Value> {
    draining(&live, true)
}

/// `POST /admin/undrain`
pub(super) async fn undrain(State(live): State<Arc<Live>>) -> Json<Value> {
    draining(&live, false)
}

fn draining(live: &Live, draining: bool) -> Json<Value> {
    live.drain(draining);
    Json(json!({"draining": draining}))
}
