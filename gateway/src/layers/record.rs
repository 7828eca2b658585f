//! Opens the record of a request and keeps it until the answer's body has ended or was dropped. Outside of every layer that
//! may refuse, so that a refusal is recorded, too. Must never look into a body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::Method;
use tokio::time::Instant;
use weir_protocol::Dialect;

use super::request_id::RequestId;
use crate::api::paths;
use crate::record::{Outcome, Record, Recorder};

/// The layer. Only what asks for an answer has a record.
pub async fn layer<N: Future<Output = Response>>(
    recorder: Arc<Recorder>,
    mut request: Request,
    next: impl FnOnce(Request) -> N,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Some(dialect) = path.filter(|path| keeps(request.method(), path)).and_then(dialect) else {
        return next(request).await;
    };
    let id = request.extensions().get::<RequestId>().map_or("", RequestId::as_str);
    let record = Record::open(&recorder, id, dialect, recorder.trace(request.headers()));
    request.extensions_mut().insert(record.clone());
    let response = next(request).await;
    record.responded(response.status(), response.extensions().get::<Outcome>().copied());
    response.map(|body| Body::new(Recorded { body, polled: Duration::ZERO, record }))
}

/// Whether such a request has a record.
pub(super) fn keeps(method: &Method, path: &str) -> bool {
    *method == Method::POST && dialect(path).is_some()
}

fn dialect(path: &str) -> Option<Dialect> {
    Some(match path {
        paths::CHAT => Dialect::OpenAiChat,
        paths::COMPLETIONS => Dialect::OpenAiCompletions,
        paths::RESPONSES => Dialect::OpenAiResponses,
        paths::MESSAGES => Dialect::AnthropicMessages,
        _ => return None,
    })
}

/// A body that keeps its request's record, and the time spent in its polls.
struct Recorded {
    body: Body,
    polled: Duration,
    record: Record,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let begun = Instant::now();
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.polled += begun.elapsed();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.record.body_ended(self.polled);
    }
}
