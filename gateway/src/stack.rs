//! Puts the gateway together: one function reads as the path of a request, from the outside in. Must never hold
//! logic of a layer or a handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{StatusCode, Uri, header};
use tower::ServiceBuilder;
use weir_protocol::{ChatRequest, EngineError};

use crate::api::paths;
use crate::api::{
    self, anthropic_messages, counting, models, openai_chat, openai_completions, openai_responses, route_explain,
};
use crate::backends::{Backend, ModelEntry};
use crate::caller::Caller;
use crate::config::ServerSettings;
use crate::layers::{auth, body, body_memory, in_flight, panics, record, request_id, trace};
use crate::metrics::{Metrics, Scrape};
use crate::record::Recorder;
use crate::route::{self, Asker, Planned, Refusal};
use crate::tenants::Tenants;

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
    /// Who may ask, and how much.
    pub tenants: Arc<Tenants>,
    /// What is kept of each request.
    pub recorder: Arc<Recorder>,
    /// What outlives this config.
    pub lasting: Arc<Lasting>,
}

/// What all configs of a process share, one after another.
#[derive(Debug, Default)]
pub struct Lasting {
    /// Set while no new traffic should come.
    pub draining: AtomicBool,
    /// Requests in work.
    pub places: Arc<in_flight::Places>,
    /// What is held of their bodies.
    pub bodies: Arc<body_memory::Held>,
}

impl Gateway {
    /// The door of every dialect: what `caller` asks, decided and counted, nobody asked yet.
    ///
    /// # Errors
    /// The model is unknown, or the caller's key or limits do not allow it.
    pub async fn plan(&self, request: &Arc<ChatRequest>, caller: &Caller) -> Result<Box<Planned>, Refusal> {
        let client = caller.client(request);
        let record = caller.record().cloned();
        if let Some(record) = &record {
            record.asked(request, client);
        }
        let planned = self.planned(request, caller, Asker { client, record: record.clone(), ..Asker::default() }).await;
        if let (Err(refusal), Some(record)) = (&planned, &record) {
            record.because(&refusal.error, self.models.iter().any(|entry| entry.id == request.model));
        }
        planned
    }

    async fn planned(
        &self,
        request: &Arc<ChatRequest>,
        caller: &Caller,
        asker: Asker,
    ) -> Result<Box<Planned>, Refusal> {
        let Some((tenant, left)) = caller.tenant() else {
            let charge = self.tenants.count(request);
            return self.router.plan(Arc::clone(request), Asker { charge, ..asker });
        };
        let admitted = self.tenants.admit(tenant, request, left).await;
        let charge = Some(admitted.map_err(|error| Refusal { report: None, error })?);
        self.router.plan(Arc::clone(request), Asker { backends: Arc::clone(&tenant.backends), charge, ..asker })
    }

    /// Where a request would go, and why. Nothing is run or charged.
    ///
    /// # Errors
    /// The model is unknown, or the caller's key or limits do not allow it.
    pub async fn explain(&self, request: &ChatRequest, caller: &Caller) -> Result<route::Explained, EngineError> {
        let Some((tenant, left)) = caller.tenant() else { return self.router.explain(request, &[], "") };
        self.tenants.question(tenant, request, left).await?;
        self.router.explain(request, caller.backends(), &tenant.name)
    }

    /// Who would be asked first, for questions about a request that nobody makes.
    ///
    /// # Errors
    /// The model is unknown, or the caller's key or limits do not allow it.
    pub async fn first(&self, request: &ChatRequest, caller: &Caller) -> Result<&Backend, EngineError> {
        let Some((tenant, left)) = caller.tenant() else { return self.router.first(request, &[]) };
        self.tenants.question(tenant, request, left).await?;
        self.router.first(request, &tenant.backends)
    }
}

/// Layers and routes. Layers are listed as a request meets them.
pub fn stack(gateway: Arc<Gateway>) -> axum::Router {
    let settings = &gateway.settings;
    let places = in_flight::InFlight::new(settings.max_in_flight, Arc::clone(&gateway.lasting.places));
    let tenants = gateway.tenants.directory().iter().count();
    let memory = body_memory::BodyMemory::new(settings.body_memory, tenants, Arc::clone(&gateway.lasting.bodies));
    let body_limit = Arc::new(body::BodyLimit::new(settings.max_body_bytes, memory, Arc::clone(&gateway.metrics)));
    // Those that stand together are one layer of axum's, which boxes what is in each several times.
    let work = move |request: Request, next: Next| {
        let body_limit = Arc::clone(&body_limit);
        in_flight::layer(places.clone(), request, move |request| {
            // Inside the limit: a body being read is held in memory.
            body::layer(body_limit, request, |request| next.run(request))
        })
    };
    // axum's own, smaller limit would cut in with a text answer.
    let work = ServiceBuilder::new().layer(from_fn(work)).layer(DefaultBodyLimit::disable());

    let auth = auth::Auth::new(Arc::clone(&gateway.tenants), Arc::clone(&gateway.metrics));
    let recorder = Arc::clone(&gateway.recorder);
    let known = move |request: Request, next: Next| {
        let auth = auth.clone();
        // Outside of all that refuse.
        record::layer(Arc::clone(&recorder), request, |request| {
            // Outside of the places: who may not ask takes none.
            auth::layer(auth, request, |request| next.run(request))
        })
    };
    let every = |request: Request, next: Next| {
        request_id::layer(request, |request| {
            trace::layer(request, |request| panics::layer(request, |request| next.run(request)))
        })
    };

    axum::Router::new()
        .route(paths::CHAT, post(openai_chat::chat))
        .route(paths::COMPLETIONS, post(openai_completions::completions))
        .route(paths::RESPONSES, post(openai_responses::responses))
        .route(paths::MESSAGES, post(anthropic_messages::messages))
        .route(paths::COUNT_TOKENS, post(counting::count::<anthropic_messages::AnthropicMessages>))
        .route(paths::INPUT_TOKENS, post(counting::count::<openai_responses::OpenAiResponses>))
        .route(route_explain::PATH, post(route_explain::explain))
        .layer(work)
        // Never refused for load: whoever watches must be able to look.
        .route(paths::MODELS, get(models::list))
        .route(&format!("{}/{{*id}}", paths::MODELS), get(models::one))
        .layer(from_fn(known))
        // Without a key: probes and scrapers have none.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(|path: Uri| async move {
            let message = "this path does not take this method";
            api::refusal(path.path(), StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .fallback(|path: Uri| async move { api::nowhere(path.path()) })
        .layer(from_fn(every))
        .with_state(gateway)
}

/// Whether traffic may come. Engines are loaded before the socket opens, or beside the old ones, so only draining says no.
async fn readyz(State(gateway): State<Arc<Gateway>>) -> (StatusCode, &'static str) {
    if gateway.lasting.draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(gateway): State<Arc<Gateway>>, path: Uri) -> Response {
    match gateway.settings.public_metrics {
        true => metrics_page(&gateway),
        false => api::nowhere(path.path()),
    }
}

/// Everything that is counted, as Prometheus reads it.
pub(crate) fn metrics_page(gateway: &Gateway) -> Response {
    let backends = gateway.router.backends();
    let page = gateway.metrics.render(&Scrape {
        standings: &backends.standings(),
        foresight: &gateway.router.foresight().errors(),
        engines: &backends.loads(),
        canary: gateway.router.canary_state(),
        body_bytes: gateway.lasting.bodies.bytes(),
    });
    match page {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests;
