//! Reads the request's body, whole, up to the limit; beyond it the answer is 413, 415 if it is packed, 503 or 429 while too
//! much of others is held; at once for who waits to be asked for it (`expect`). Handlers behind it never wait for the
//! caller's bytes and never see more than the limit.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONTENT_ENCODING, EXPECT, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use tokio::time::Instant;
use weir_protocol::{Denial, EngineError};

use super::body_memory::{BodyMemory, Full, Hold, least, whole};
use super::keeping::keeping;
use crate::api;
use crate::caller::Caller;
use crate::metrics::{Metrics, NONE};
use crate::record::Record;

/// Longest pause between two pieces of a body.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Fewest bytes a second, after such a pause: a caller that trickles must not hold a place for ever.
const RATE_MIN: f64 = 16.0 * 1024.0;

/// How long who finds no room is asked to wait: bodies come and go with their requests.
const WAIT: Duration = Duration::from_secs(1);

/// The limits, in bytes.
pub struct BodyLimit {
    bytes: usize,
    memory: BodyMemory,
    metrics: Arc<Metrics>,
}

impl BodyLimit {
    /// Bodies up to `bytes` pass, while there is room for them in `memory`.
    pub fn new(bytes: usize, memory: BodyMemory, metrics: Arc<Metrics>) -> Self {
        BodyLimit { bytes, memory, metrics }
    }
}

/// The layer.
pub async fn layer<N: Future<Output = Response>>(
    limit: Arc<BodyLimit>,
    request: Request,
    next: impl FnOnce(Request) -> N,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.clone();
    let tenant = parts.extensions.get::<Caller>().and_then(Caller::tenant).map(|(tenant, _)| Arc::clone(&tenant.name));
    let mut hold = limit.memory.of(tenant.clone());
    let read = read(body, limit.bytes, waits(&parts.headers), &mut hold).await;
    // Whether it came or not: what its caller took is no time of ours.
    if let Some(record) = parts.extensions.get::<Record>() {
        record.body_read(read.as_ref().map_or(0, |(_, takes)| *takes));
    }
    let unread = match read {
        Ok(_) if is_encoded(&parts.headers) => Unread::Encoded,
        Ok((bytes, _)) => {
            let response = next(Request::from_parts(parts, Body::from(bytes))).await;
            return match hold.counts() {
                true => response.map(|body| keeping(body, hold)),
                false => response,
            };
        }
        Err(unread) => unread,
    };
    let (status, kind, message) = match unread {
        Unread::TooLarge => {
            let message = format!("the body is larger than {} bytes", limit.bytes);
            (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
        }
        Unread::Encoded => {
            let message = "bodies are read as they are: send this one without `content-encoding`".to_owned();
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding", message)
        }
        Unread::Slow => (StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time".to_owned()),
        Unread::Broken => (StatusCode::BAD_REQUEST, "invalid_request", "the body broke off".to_owned()),
        Unread::NoRoom(full) => {
            if let Some(record) = parts.extensions.get::<Record>() {
                record.by_setting("server.body_memory_mb");
            }
            limit.metrics.denied(tenant.as_deref().unwrap_or(NONE), "body_memory");
            return no_room(path.path(), full);
        }
        // Nobody reads it: it is for the count and the log.
        Unread::Left => {
            let closed = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
            (closed, "cancelled", "the caller left".to_owned())
        }
    };
    api::refusal(path.path(), status, kind, &message)
}

fn no_room(path: &str, full: Full) -> Response {
    match full {
        Full::Never => {
            let message = "the body has more parts than there is memory for";
            api::refusal(path, StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
        }
        Full::Tenant => {
            let message = "this key's requests in work are too large together; try again".to_owned();
            api::refused(path, &EngineError::Denied { denial: Denial::Limited, message, retry_after: Some(WAIT) })
        }
        Full::All => {
            let message = "the requests in work are too large together; try again";
            let mut response = api::refusal(path, StatusCode::SERVICE_UNAVAILABLE, "overloaded", message);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(WAIT.as_secs()));
            response
        }
    }
}

/// Whether what came is to be unpacked first.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

enum Unread {
    TooLarge,
    Encoded,
    Slow,
    Broken,
    NoRoom(Full),
    Left,
}

/// Framing that makes no sense is the caller's fault; all else is its leaving.
fn broken(error: &axum::Error) -> Unread {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let senseless = |kind| matches!(kind, ErrorKind::InvalidInput | ErrorKind::InvalidData);
    let is_senseless =
        causes.any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|error| senseless(error.kind())));
    if is_senseless { Unread::Broken } else { Unread::Left }
}

/// Whether the body comes only when it is asked for.
fn waits(headers: &HeaderMap) -> bool {
    headers.contains_key(EXPECT)
}

/// The body, and the memory it takes once it is read as JSON.
async fn read(mut body: Body, limit: usize, waits: bool, hold: &mut Hold) -> Result<(Bytes, usize), Unread> {
    // Where its length is told there is room for all of it or none.
    let told = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
    let mut full = if told > limit { None } else { hold.grow(least(told)).err() };
    match full {
        Some(full) if waits => return Err(Unread::NoRoom(full)),
        None if waits && told > limit => return Err(Unread::TooLarge),
        _ => {}
    }
    let started = Instant::now();
    let mut seen = 0usize;
    let mut pieces: Vec<Bytes> = Vec::new();
    loop {
        let paced = started + PAUSE_MAX + Duration::from_secs_f64(seen as f64 / RATE_MIN);
        let until = paced.min(Instant::now() + PAUSE_MAX);
        let next = tokio::time::timeout_at(until, body.frame()).await;
        let Some(frame) = next.map_err(|_| Unread::Slow)? else { break };
        let Ok(piece) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
        seen = seen.saturating_add(piece.len());
        // What is over the limit, or finds no room, is read and thrown away for a while: an answer sent while the caller
        // still writes would be lost with the connection's reset.
        if seen > limit.saturating_mul(2) {
            return Err(Unread::TooLarge);
        }
        if seen <= limit && full.is_none() {
            full = hold.grow(least(seen)).err();
        }
        match full.is_none() && seen <= limit {
            true => pieces.push(piece),
            false => pieces.clear(),
        }
    }
    if seen > limit {
        return Err(Unread::TooLarge);
    }
    if let Some(full) = full {
        return Err(Unread::NoRoom(full));
    }
    let body = match pieces.as_slice() {
        [all] => all.clone(),
        pieces => Bytes::from(pieces.concat()),
    };
    let takes = whole(&body);
    hold.grow(takes).map_err(Unread::NoRoom)?;
    Ok((body, takes))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;
    use crate::layers::body_memory::Held;
    use axum::body::HttpBody;
    use futures::StreamExt;

    const MB: usize = 1 << 20;

    fn room(bytes: usize, held: &Arc<Held>) -> Hold {
        BodyMemory::new(bytes, 0, Arc::clone(held)).of(None)
    }

    async fn taken(body: Body, limit: usize) -> Result<Bytes, Unread> {
        read(body, limit, false, &mut room(1 << 30, &Arc::default())).await.map(|(body, _)| body)
    }

    #[tokio::test]
    async fn room_is_asked_for_before_a_body_of_told_length_and_while_any_other_comes() {
        let held = Arc::new(Held::default());
        let pieces = || futures::stream::iter((0..2).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; MB]))));
        for told in [true, false] {
            let body = || if told { Body::from(vec![b' '; 2 * MB]) } else { Body::from_stream(pieces()) };
            let mut first = room(9 * MB, &held);
            assert!(read(body(), 4 * MB, false, &mut first).await.is_ok());
            assert_eq!(held.bytes(), 8 * MB);
            let mut second = room(9 * MB, &held);
            assert!(matches!(read(body(), 4 * MB, false, &mut second).await, Err(Unread::NoRoom(Full::All))));
            assert!(
                read(Body::from(vec![b' '; MB / 16]), 4 * MB, false, &mut room(9 * MB, &held)).await.is_ok(),
                "a small one"
            );
            drop((first, second));
            assert_eq!(held.bytes(), 0);
        }
        let parts = Body::from("{},".repeat(MB / 3));
        assert!(matches!(read(parts, 4 * MB, false, &mut room(9 * MB, &held)).await, Err(Unread::NoRoom(Full::Never))));
    }

    /// A body of told length of which nothing comes.
    struct Told(usize);

    impl HttpBody for Told {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
            Poll::Pending
        }

        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.0 as u64)
        }
    }

    #[tokio::test]
    async fn a_caller_that_waits_to_be_asked_is_refused_before_it_sends() {
        let held = Arc::new(Held::default());
        let told = |bytes| Body::new(Told(bytes));
        let answered = read(told(5 * MB), 4 * MB, true, &mut room(9 * MB, &held)).await;
        assert!(matches!(answered, Err(Unread::TooLarge)));
        let mut other = room(9 * MB, &held);
        assert!(other.grow(8 * MB).is_ok());
        let answered = read(told(MB), 4 * MB, true, &mut room(9 * MB, &held)).await;
        assert!(matches!(answered, Err(Unread::NoRoom(Full::All))));
    }

    #[tokio::test]
    async fn the_limit_is_the_last_size_taken() {
        assert!(matches!(taken(Body::from(vec![0; 8]), 8).await, Ok(bytes) if bytes.len() == 8));
        assert!(matches!(taken(Body::from(vec![0; 9]), 8).await, Err(Unread::TooLarge)));
        assert!(matches!(taken(Body::from(vec![0; 900]), 8).await, Err(Unread::TooLarge)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_stops_sending_is_let_go() {
        let stuck = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert!(matches!(taken(stuck, 8).await, Err(Unread::Slow)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_trickles_is_let_go_and_one_on_a_slow_line_is_not() {
        let every = |pause: u64, bytes: usize| {
            let pieces = futures::stream::iter(0..600).then(move |_| async move {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                Ok::<_, std::io::Error>(Bytes::from(vec![b' '; bytes]))
            });
            taken(Body::from_stream(pieces), 1 << 24)
        };
        let started = Instant::now();
        assert!(matches!(every(20, 1).await, Err(Unread::Slow)));
        assert_eq!(started.elapsed().as_secs(), 30);
        assert!(matches!(every(1, 20 * 1024).await, Ok(bytes) if bytes.len() == 600 * 20 * 1024));
    }
}
