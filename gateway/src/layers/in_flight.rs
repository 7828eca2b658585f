//! Limits the requests in work at once. A place is held until the answer's body has ended or was dropped, not only
//! until its headers: a stream is work to its last byte.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::keeping::keeping;
use crate::api;
pub use crate::places::Places;
use crate::record::Record;

/// The places there are.
#[derive(Clone)]
pub struct InFlight {
    places: Arc<Places>,
    limit: usize,
}

impl InFlight {
    /// This many of `places`.
    pub fn new(limit: usize, places: Arc<Places>) -> Self {
        InFlight { places, limit }
    }
}

/// The layer.
pub async fn layer<N: Future<Output = Response>>(
    here: InFlight,
    request: Request,
    next: impl FnOnce(Request) -> N,
) -> Response {
    let Some(place) = here.places.take(here.limit) else {
        if let Some(record) = request.extensions().get::<Record>() {
            record.by_setting("server.max_in_flight");
        }
        let (status, message) = (StatusCode::SERVICE_UNAVAILABLE, "too many requests in work; try again");
        let mut full = api::refusal(request.uri().path(), status, "overloaded", message);
        full.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return full;
    };
    next(request).await.map(|body| keeping(body, place))
}
