//! A panic in a handler becomes a 500 in the caller's dialect and a line in the log, and takes nobody else down. The
//! panic's own text stays out of both: it may quote the request.

use std::any::Any;

use axum::response::Response;
use http::StatusCode;
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::openai_chat::error;

/// The layer.
pub fn layer() -> CatchPanicLayer<fn(Box<dyn Any + Send>) -> Response> {
    CatchPanicLayer::custom(answer as fn(Box<dyn Any + Send>) -> Response)
}

fn answer(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    error::refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error")
}
