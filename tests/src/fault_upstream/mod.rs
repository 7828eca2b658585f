//! An upstream that misbehaves on command, in every protocol the gateway speaks to upstreams. The fault stands in the
//! path, so one upstream serves any number of backends: `base_url = "http://127.0.0.1:PORT/cut-late/v1"`. It keeps every
//! request it got, and how each ended, for the tests to look at. Listens on loopback only.

mod fault;
mod raw;
mod script;
mod seen;
mod wires;

pub use fault::Fault;
pub use seen::{Ending, Seen};
pub use wires::Wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::wait::until;
use script::Piece;
use seen::Records;

/// The text of a good answer.
pub const ANSWER: &str = "The upstream says that all is well.";
/// The text of an answer whose characters have several bytes each.
pub const ANSWER_UTF8: &str = "Grüße aus dem 研究所: ░▒▓ und 🦀🦀.";
/// The model that claims to have answered.
pub const ANSWERING_MODEL: &str = "upstream-7b-2026";
/// Arguments of the tool call.
pub const TOOL_ARGUMENTS: &str = r#"{"room":"kitchen","on":false}"#;

/// A running upstream; it stops when dropped.
pub struct FaultUpstream {
    address: SocketAddr,
    /// Where faults below HTTP listen.
    raw: SocketAddr,
    records: Arc<Records>,
    tasks: [JoinHandle<()>; 2],
}

impl FaultUpstream {
    /// Listens on free loopback ports.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let (listener, address) = listen().await?;
        let (raw_listener, raw) = listen().await?;
        let records = Arc::new(Records::default());
        let app = Router::new()
            .route(
                "/{fault}/v1/models",
                get(|| async { axum::Json(serde_json::json!({"object": "list", "data": []})) }),
            )
            .route("/{fault}/v1/messages/count_tokens", post(count))
            .route("/{fault}/v1/responses/input_tokens", post(count))
            .route("/{fault}/{*rest}", post(answer))
            .route("/health", get(|| async { StatusCode::OK }))
            .route("/seen", get(|State(records): State<Arc<Records>>| async move { axum::Json(records.all()) }))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&records));
        let serving = tokio::spawn(async move {
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
        let breaking = tokio::spawn(raw::serve(raw_listener, Arc::clone(&records)));
        Ok(FaultUpstream { address, raw, records, tasks: [serving, breaking] })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Base URL of a backend with this fault.
    pub fn base_url(&self, fault: &str) -> String {
        format!("{}/v1", self.root_url(fault))
    }

    /// The same for protocols whose paths do not begin with `/v1`.
    pub fn root_url(&self, fault: &str) -> String {
        let is_raw = Fault::parse(fault).is_some_and(Fault::is_raw);
        format!("http://{}/{fault}", if is_raw { self.raw } else { self.address })
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
        let (_, address) = listen().await?;
        Ok(format!("http://{address}/v1"))
    }
}

async fn listen() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a loopback port")?;
    let address = listener.local_addr().context("its address")?;
    Ok((listener, address))
}

impl Drop for FaultUpstream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn count(
    State(records): State<Arc<Records>>,
    headers: HeaderMap,
    axum::Json(body): axum::Json<serde_json::Value>,
) -> axum::Json<serde_json::Value> {
    Records::open(&records, "count".into(), &headers, body).ended(Ending::Whole);
    axum::Json(serde_json::json!({"input_tokens": 11}))
}

async fn answer(
    State(records): State<Arc<Records>>,
    Path((fault, rest)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (Some(behaviour), Some(wire)) = (Fault::parse(&fault), Wire::of_path(&rest)) else {
        return (StatusCode::NOT_FOUND, format!("unknown fault {fault} or path {rest}\n")).into_response();
    };
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let entry = Records::open(&records, fault, &headers, body.clone());
    let script = match script::write(behaviour, wire, &body) {
        Some(script) => script,
        // Never answers: the entry is dropped, and so closed, when the caller leaves.
        None => {
            std::future::pending::<()>().await;
            return StatusCode::NO_CONTENT.into_response();
        }
    };
    let pieces =
        futures::stream::unfold((script.pieces.into_iter(), None, entry), |(mut pieces, again, entry)| async move {
            match again.or_else(|| pieces.next()) {
                Some(Piece::Bytes(bytes)) => {
                    // Lets the connection write, so that pieces leave one by one.
                    tokio::task::yield_now().await;
                    Some((Ok(bytes), (pieces, None, entry)))
                }
                Some(Piece::Forever(bytes, pause)) => {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    Some((Ok(bytes.clone()), (pieces, Some(Piece::Forever(bytes, pause)), entry)))
                }
                Some(Piece::Cut) => {
                    // Once more: what was sent before must leave before the connection breaks.
                    tokio::task::yield_now().await;
                    entry.ended(Ending::CutByUs);
                    Some((Err(std::io::Error::other("cut on command")), (pieces, None, entry)))
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
    for (name, value) in script.headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
