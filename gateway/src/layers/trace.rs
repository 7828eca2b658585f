//! One log line per request: method, route, status, time to the headers, and the address of who had no key; what has a
//! record tells of its end instead. Must
//! never log a body, a header's value or a raw path: all of them are the caller's text.

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::StatusCode;
use tokio::time::Instant;
use tracing::Instrument;

use super::record;
use super::request_id::RequestId;
use crate::listener::Peer;

/// The layer. Everything further in logs within its span, which carries the request's id.
pub async fn layer<N: Future<Output = Response>>(request: Request, next: impl FnOnce(Request) -> N) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let span = tracing::info_span!("request", id = id.as_ref().map_or("", RequestId::as_str));
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<Peer>().copied();
    async move {
        let started = Instant::now();
        let response = next(request).await;
        let ms = started.elapsed().as_millis();
        let path = path.as_ref().map_or("(no such route)", MatchedPath::as_str);
        // Probes and scrapes come every few seconds and say nothing when they work.
        let is_told = path.starts_with("/v1/") && !record::keeps(&method, path);
        if is_told || !response.status().is_success() {
            let status = response.status();
            // Who tries keys is to be found.
            match peer.filter(|_| status == StatusCode::UNAUTHORIZED) {
                Some(Peer(peer)) => {
                    tracing::info!(%method, path, status = status.as_u16(), ms = %ms, %peer, "answered")
                }
                None => tracing::info!(%method, path, status = status.as_u16(), ms = %ms, "answered"),
            }
        }
        response
    }
    .instrument(span)
    .await
}
