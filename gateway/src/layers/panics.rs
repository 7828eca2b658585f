//! A panic in a handler becomes a 500 in the caller's dialect and takes nobody else down. The panic's own text must reach
//! neither the caller nor the log: it may quote the request.

use std::any::Any;

use axum::response::Response;
use http::StatusCode;
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::openai_chat::error;

/// The layer.
pub fn layer() -> CatchPanicLayer<fn(Box<dyn Any + Send>) -> Response> {
    CatchPanicLayer::custom(answer as fn(Box<dyn Any + Send>) -> Response)
}

/// Makes every panic of the process, engine threads included, log where it happened and not what it said.
pub fn log_place_only() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Printed only under RUST_BACKTRACE; holds function names, no values.
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%place, %backtrace, "panicked");
    }));
}

fn answer(_: Box<dyn Any + Send>) -> Response {
    error::refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error")
}
