//! An OpenAI-compatible upstream that misbehaves on command. The fault stands in the path, so one upstream serves any
//! number of backends: `base_url = "http://127.0.0.1:PORT/cut-40/v1"`. It keeps every request it got, and how each
//! ended, for the tests to look at. Listens on loopback only.

mod fault;
mod script;
mod seen;

pub use fault::Fault;
pub use script::{ANSWER, ANSWERING_MODEL, TOOL_ARGUMENTS};
pub use seen::{Ending, Seen};

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::wait::until;
use script::{Headers, Piece};
use seen::Records;

/// A running upstream; it stops when dropped.
pub struct FaultUpstream {
    address: SocketAddr,
    records: Arc<Records>,
    task: JoinHandle<()>,
}

impl FaultUpstream {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a loopback port")?;
        let address = listener.local_addr().context("its address")?;
        let records = Arc::new(Records::default());
        let app = Router::new()
            .route("/{fault}/v1/chat/completions", post(chat))
            .route(
                "/{fault}/v1/models",
                get(|| async { axum::Json(serde_json::json!({"object": "list", "data": []})) }),
            )
            .route("/seen", get(|State(records): State<Arc<Records>>| async move { axum::Json(records.all()) }))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&records));
        let task = tokio::spawn(async move {
            // Ends with the handle.
            let _ = axum::serve(
                listener.tap_io(|socket| {
                    // As real servers do; otherwise a small chunk may wait 40 ms for an acknowledgement.
                    let _ = socket.set_nodelay(true);
                }),
                app,
            )
            .await;
        });
        Ok(FaultUpstream { address, records, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Base URL of a backend with this fault.
    pub fn base_url(&self, fault: &str) -> String {
        format!("http://{}/{fault}/v1", self.address)
    }

    /// Requests so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.records.all()
    }

    /// Waits until the request at this place in the order has ended, and gives it.
    ///
    /// # Errors
    /// It never came or never ended.
    pub async fn ended(&self, place: usize) -> Result<Seen> {
        let ended = || async { self.seen().get(place).filter(|seen| seen.ending != Ending::Open).cloned() };
        until("the upstream's request has ended", ended).await
    }

    /// A base URL where nobody listens.
    ///
    /// # Errors
    /// No port is free.
    pub async fn refused_url() -> Result<String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a loopback port")?;
        Ok(format!("http://{}/v1", listener.local_addr().context("its address")?))
    }
}

impl Drop for FaultUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn chat(
    State(records): State<Arc<Records>>,
    Path(fault): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(behaviour) = Fault::parse(&fault) else {
        return (StatusCode::NOT_FOUND, format!("unknown fault {fault}\n")).into_response();
    };
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let entry = Records::open(&records, fault, &headers, body.clone());
    let script = match script::write(behaviour, &body) {
        Some(script) => script,
        // Never answers: the entry is dropped, and so closed, when the caller leaves.
        None => {
            std::future::pending::<()>().await;
            return StatusCode::NO_CONTENT.into_response();
        }
    };
    let pieces = futures::stream::unfold((script.pieces.into_iter(), entry), |(mut pieces, entry)| async move {
        match pieces.next() {
            Some(Piece::Bytes(bytes)) => {
                // Lets the connection write, so that pieces leave one by one.
                tokio::task::yield_now().await;
                Some((Ok(bytes), (pieces, entry)))
            }
            Some(Piece::Cut) => {
                // Once more: what was sent before must leave before the connection breaks.
                tokio::task::yield_now().await;
                entry.ended(Ending::CutByUs);
                Some((Err(std::io::Error::other("cut on command")), (pieces, entry)))
            }
            Some(Piece::Silence) => std::future::pending().await,
            None => {
                entry.ended(Ending::Whole);
                None
            }
        }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    *response.status_mut() = script.status;
    let Headers { content_type, retry_after } = script.headers;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
