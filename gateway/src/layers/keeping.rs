//! An answer's body that keeps a guard: what a request takes is given back when its answer has ended or was dropped, not
//! when its headers are there. Must never look into a body.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

struct Keeping<G> {
    body: Body,
    _guard: G,
}

/// `body`, with this guard inside.
pub(super) fn keeping<G: Send + Unpin + 'static>(body: Body, guard: G) -> Body {
    Body::new(Keeping { body, _guard: guard })
}

impl<G: Unpin> HttpBody for Keeping<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
