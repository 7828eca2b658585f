//! Limits the requests in work at once. A place is held until the answer's body has ended or was dropped, not only
//! until its headers: a stream is work to its last byte.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api;

/// The places there are.
#[derive(Clone)]
pub struct InFlight {
    places: Arc<Semaphore>,
}

impl InFlight {
    /// This many places.
    pub fn new(limit: usize) -> Self {
        InFlight { places: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))) }
    }
}

/// The layer.
pub async fn layer(State(here): State<InFlight>, request: Request, next: Next) -> Response {
    let Ok(place) = Arc::clone(&here.places).try_acquire_owned() else {
        let (status, message) = (StatusCode::SERVICE_UNAVAILABLE, "too many requests in work; try again");
        let mut full = api::refusal(request.uri().path(), status, "overloaded", message);
        full.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return full;
    };
    next.run(request).await.map(|body| Body::new(Held { body, _place: place }))
}

/// A body that keeps its place.
struct Held {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
