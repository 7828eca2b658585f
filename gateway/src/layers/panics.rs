//! A panic in a handler becomes a 500 in the caller's dialect and takes nobody else down. The panic's own text must reach
//! neither the caller nor the log: it may quote the request.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt;
use http::StatusCode;

use crate::api;
use crate::said;

/// What tokio panics with where it gets no thread, before the system's own words: nothing of a request.
const NO_THREAD: &str = "OS can't spawn worker thread: ";
const MORE_THREADS: &str = "allow more of them: `ulimit -u`, systemd's `TasksMax`, a container's limit of pids";

static STARTING: AtomicBool = AtomicBool::new(false);

/// While it lives, want of a thread ends the process: half started, tokio may wait for the threads it has for ever.
pub(crate) struct Starting(());

impl Starting {
    pub(crate) fn begin() -> Self {
        STARTING.store(true, Ordering::Relaxed);
        Starting(())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        STARTING.store(false, Ordering::Relaxed);
    }
}

/// The layer.
pub async fn layer<N: Future<Output = Response>>(request: Request, next: impl FnOnce(Request) -> N) -> Response {
    let path = request.uri().clone();
    // Nothing of the handler is looked at after a panic, so nothing half-changed can be seen.
    let answer = AssertUnwindSafe(next(request)).catch_unwind().await;
    answer
        .unwrap_or_else(|_| api::refusal(path.path(), StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error"))
}

/// Makes every panic of the process, engine threads included, log where it happened and not what it said, but for a thread
/// that the system does not give.
pub fn log_place_only() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<String>();
        let why = text.and_then(|text| text.strip_prefix(NO_THREAD));
        if let Some(why) = why.filter(|_| STARTING.load(Ordering::Relaxed)) {
            said::complain(format_args!("weir: the system gives no thread: {why}\n  help: {MORE_THREADS}"));
            said::flush();
            std::process::exit(1);
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Printed only under RUST_BACKTRACE; holds function names, no values.
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%place, no_thread = why, %backtrace, "panicked");
        // It may be the last word: a second panic on the way ends the process.
        said::flush();
    }));
}
