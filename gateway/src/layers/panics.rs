//! A panic in a handler becomes a 500 in the caller's dialect and takes nobody else down. The panic's own text must reach
//! neither the caller nor the log: it may quote the request.

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt;
use http::StatusCode;

use crate::api;
use crate::said;

/// The layer.
pub async fn layer<N: Future<Output = Response>>(request: Request, next: impl FnOnce(Request) -> N) -> Response {
    let path = request.uri().clone();
    // Nothing of the handler is looked at after a panic, so nothing half-changed can be seen.
    let answer = AssertUnwindSafe(next(request)).catch_unwind().await;
    answer
        .unwrap_or_else(|_| api::refusal(path.path(), StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error"))
}

/// Makes every panic of the process, engine threads included, log where it happened and not what it said.
pub fn log_place_only() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Printed only under RUST_BACKTRACE; holds function names, no values.
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%place, %backtrace, "panicked");
        // It may be the last word: a second panic on the way ends the process.
        said::flush();
    }));
}
