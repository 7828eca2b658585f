//! An answer's body on its way into a connection: tells the pulse when it ends, and can be taken back when an HTTP/2 client
//! leaves it unread. Taking it back drops it, which cancels the work behind it; must never end it as if it were whole.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::pulse::{Pulse, Serving};

/// A body and the guard of its request.
pub(super) struct Given {
    body: Body,
    _serving: Serving,
}

/// Where it lies, so that the connection's watch can reach it.
pub(super) struct Slot(Mutex<Held>);

struct Held {
    /// `None` once it was taken back.
    given: Option<Given>,
    /// When a piece was given, if the next was not asked for since.
    given_at: Option<Instant>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

impl Slot {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body, if its next piece was not asked for in this time.
    pub(super) fn take_unread(&self, limit: Duration, now: Instant) -> Option<Given> {
        let mut held = self.held();
        let unread = held.given_at.is_some_and(|at| at + limit <= now);
        if unread {
            tracing::info!("a client left its answer unread: given up");
        }
        held.given.take_if(|_| unread)
    }
}

/// The body that hyper gets.
pub(super) struct GivenBody(Arc<Slot>);

impl GivenBody {
    pub(super) fn new(body: Body, serving: Serving, pulse: &Pulse) -> Self {
        let given = Some(Given { body, _serving: serving });
        let slot = Arc::new(Slot(Mutex::new(Held { given, given_at: None })));
        pulse.answers(&slot);
        GivenBody(slot)
    }
}

impl HttpBody for GivenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut held = self.0.held();
        held.given_at = None;
        let Some(given) = &mut held.given else {
            return Poll::Ready(Some(Err(axum::Error::new("left unread for too long"))));
        };
        let polled = Pin::new(&mut given.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            held.given_at = Some(Instant::now());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.held().given.as_ref().is_some_and(|given| given.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.held().given.as_ref().map(|given| given.body.size_hint()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test(start_paused = true)]
    async fn only_what_is_left_unread_is_taken_back_and_ends_in_an_error() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        let body =
            Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b"x"))));
        let mut given = GivenBody::new(body, pulse.serve(Some(0)), &pulse);
        let slot = Arc::clone(&given.0);
        let limit = Duration::from_secs(30);
        assert!(slot.take_unread(limit, start + limit * 9).is_none(), "nothing was given yet");
        assert!(given.frame().await.unwrap().is_ok());
        assert!(slot.take_unread(limit, start + limit / 2).is_none());
        assert!(slot.take_unread(limit, start + limit).is_some());
        assert!(given.frame().await.unwrap().is_err(), "never as if it were whole");
    }
}
