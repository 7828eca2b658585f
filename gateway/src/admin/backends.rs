//! How the backends stand, and the operator's orders about one of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::error;
use crate::backends::Backend;
use crate::config::Settings;
use crate::live::Live;

/// `GET /admin/backends`
pub(super) async fn list(State(live): State<Arc<Live>>) -> Json<Value> {
    let now = live.current();
    let all: Vec<Value> = now.gateway.router.backends().iter().map(|one| shown(one, &now.settings)).collect();
    Json(json!({"backends": all}))
}

fn shown(backend: &Backend, settings: &Settings) -> Value {
    let view = backend.standing.view();
    let upstream = settings.backends.iter().find(|one| one.name == backend.name);
    let health = match (backend.asking.health.is_some(), view.healthy) {
        (false, _) => "not_checked",
        (true, true) => "well",
        (true, false) => "failing",
    };
    json!({
        "name": backend.name,
        "kind": upstream.map_or("built_in", |one| one.wire.kind.as_str()),
        "base_url": upstream.map(|one| one.base_url.as_str()),
        "role": backend.facts.role.as_str(),
        "group": backend.facts.group,
        "models": backend.models,
        "drained": view.drained,
        "health": health,
        "breaker": match view.breaker {
            0 => "closed",
            1 => "half_open",
            _ => "open",
        },
        "breaker_opened": view.opened,
        "ejections": view.ejections,
        "paused_s": view.paused.map(|left| left.as_secs_f64()),
        "in_flight": view.in_flight,
        "extra_budget": view.budget,
        "latency_s": view.latency_seconds,
        "engine": backend.engine.as_ref().map(|engine| {
            let load = engine.load_now();
            json!({"queued": load.queued, "free_pages": load.free_pages, "shared_pages": load.shared_pages})
        }),
    })
}

/// `POST /admin/backends/{name}/drain`
pub(super) async fn drain(State(live): State<Arc<Live>>, name: Named) -> Response {
    drained(&live, name, true)
}

/// `POST /admin/backends/{name}/undrain`
pub(super) async fn undrain(State(live): State<Arc<Live>>, name: Named) -> Response {
    drained(&live, name, false)
}

/// What is no text is nobody's name.
type Named = Result<Path<String>, PathRejection>;

fn drained(live: &Live, name: Named, drained: bool) -> Response {
    let now = live.current();
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let Some(backend) = now.gateway.router.backends().by_name(&name) else {
        return error(StatusCode::NOT_FOUND, "not_found", "no backend of this name");
    };
    backend.standing.drain(drained);
    Json(shown(backend, &now.settings)).into_response()
}
