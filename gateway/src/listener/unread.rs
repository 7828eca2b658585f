//! A request's body on its way in. When whoever answers does not read it to its end (no such key, no such path, no room),
//! the rest is read and thrown away for a while: closing over unread bytes resets the connection, and the answer would be
//! lost with it. Must never keep what it reads, nor read for ever.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use http::header::EXPECT;
use http::{HeaderMap, Version};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Most bytes thrown away. How long it may take is the pulse's business: for it the connection is idle.
const LEFT_MAX: usize = 32 << 20;

/// See the module.
pub(super) struct Unread {
    body: Option<Incoming>,
    /// Whether more of it comes although nobody reads it.
    comes: bool,
}

impl Unread {
    /// `version` and `headers` are its request's.
    pub(super) fn new(body: Incoming, version: Version, headers: &HeaderMap) -> Self {
        // A stream of HTTP/2 ends alone; who waits to be asked for the body sends none.
        let comes = version <= Version::HTTP_11 && !headers.contains_key(EXPECT);
        Unread { body: Some(body), comes }
    }
}

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let left = self.body.take().filter(|body| self.comes && !body.is_end_stream());
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(mut body), Ok(runtime)) = (left, runtime) {
            runtime.spawn(async move {
                let mut thrown = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    thrown += frame.data_ref().map_or(0, Bytes::len);
                    if thrown > LEFT_MAX {
                        return;
                    }
                }
            });
        }
    }
}
