//! Puts the gateway together: one function reads as the path of a request, from the outside in. Must never hold
//! logic of a layer or a handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{StatusCode, Uri, header};
use tower::ServiceBuilder;
use weir_protocol::ChatRequest;

use crate::api::{self, anthropic_messages, models, openai_chat, openai_completions, openai_responses};
use crate::backends::ModelEntry;
use crate::caller::Caller;
use crate::config::ServerSettings;
use crate::layers::{body, in_flight, panics, request_id, trace};
use crate::metrics::Metrics;
use crate::route::{self, Planned, Refusal};

/// What handlers share (`axum::extract::State<Arc<Gateway>>`).
pub struct Gateway {
    /// Plans requests and runs the plans.
    pub router: route::Router,
    /// The listening side's settings (hold_headers, keep_alive, …).
    pub settings: ServerSettings,
    /// What `GET /v1/models` lists, in order.
    pub models: Vec<ModelEntry>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Set once a stop was asked for: no new traffic should come.
    pub draining: AtomicBool,
}

impl Gateway {
    /// The door of every dialect: what `caller` asks, decided and counted, nobody asked yet.
    ///
    /// # Errors
    /// The model is unknown.
    pub async fn plan(&self, request: &Arc<ChatRequest>, caller: &Caller) -> Result<Planned, Refusal> {
        self.router.plan(Arc::clone(request), caller.client(request))
    }
}

/// Layers and routes. Layers are listed as a request meets them.
pub fn stack(gateway: Arc<Gateway>) -> axum::Router {
    let settings = &gateway.settings;
    let places = in_flight::InFlight::new(settings.max_in_flight, Arc::clone(&gateway.metrics));
    let body_limit = body::BodyLimit::new(settings.max_body_bytes, Arc::clone(&gateway.metrics));
    let work = ServiceBuilder::new()
        .layer(from_fn_with_state(places, in_flight::layer))
        // Inside the limit: a body being read is held in memory.
        .layer(from_fn_with_state(body_limit, body::layer))
        // axum's own, smaller limit would cut in with a text answer.
        .layer(DefaultBodyLimit::disable());
    let every = ServiceBuilder::new()
        .layer(from_fn(request_id::layer))
        .layer(from_fn(trace::layer))
        .layer(from_fn(panics::layer));

    axum::Router::new()
        .route("/v1/chat/completions", post(openai_chat::chat))
        .route("/v1/completions", post(openai_completions::completions))
        .route("/v1/responses", post(openai_responses::responses))
        .route("/v1/messages", post(anthropic_messages::messages))
        .route("/v1/messages/count_tokens", post(anthropic_messages::count_tokens))
        .layer(work)
        // Never refused for load: whoever watches must be able to look.
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(|path: Uri| async move {
            let message = "this path does not take this method";
            api::refusal(path.path(), StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .fallback(
            |path: Uri| async move { api::refusal(path.path(), StatusCode::NOT_FOUND, "not_found", "no such path") },
        )
        .layer(every)
        .with_state(gateway)
}

/// Whether traffic may come. Engines are loaded before the socket opens, so only draining says no.
async fn readyz(State(gateway): State<Arc<Gateway>>) -> (StatusCode, &'static str) {
    if gateway.draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    gateway.metrics.standings(&gateway.router.backends().standings());
    match gateway.metrics.render(&gateway.router.backends().loads()) {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests;
