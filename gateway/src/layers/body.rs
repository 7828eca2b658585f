//! Reads the request's body, whole, up to the limit; beyond it the answer is 413, and 415 if it is packed. Handlers behind it never wait for
//! the caller's bytes and never see more than the limit.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::api;
use crate::record::Record;

/// Longest pause between two pieces of a body.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Fewest bytes a second, after such a pause: a caller that trickles must not hold a place for ever.
const RATE_MIN: f64 = 16.0 * 1024.0;

/// The limit in bytes.
#[derive(Clone, Copy)]
pub struct BodyLimit {
    bytes: usize,
}

impl BodyLimit {
    /// Bodies up to `bytes` pass.
    pub fn new(bytes: usize) -> Self {
        BodyLimit { bytes }
    }
}

/// The layer.
pub async fn layer<N: Future<Output = Response>>(
    limit: BodyLimit,
    request: Request,
    next: impl FnOnce(Request) -> N,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.clone();
    let unread = match read(body, limit.bytes).await {
        Ok(_) if is_encoded(&parts.headers) => Unread::Encoded,
        Ok(bytes) => {
            if let Some(record) = parts.extensions.get::<Record>() {
                record.body_read();
            }
            return next(Request::from_parts(parts, Body::from(bytes))).await;
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
    };
    api::refusal(path.path(), status, kind, &message)
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
}

async fn read(mut body: Body, limit: usize) -> Result<Bytes, Unread> {
    let started = Instant::now();
    let mut seen = 0usize;
    let mut pieces: Vec<Bytes> = Vec::new();
    loop {
        let paced = started + PAUSE_MAX + Duration::from_secs_f64(seen as f64 / RATE_MIN);
        let until = paced.min(Instant::now() + PAUSE_MAX);
        let next = tokio::time::timeout_at(until, body.frame()).await;
        let Some(frame) = next.map_err(|_| Unread::Slow)? else { break };
        let Ok(piece) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        seen = seen.saturating_add(piece.len());
        // What is over the limit is read and thrown away for a while: an answer sent while the caller still writes
        // would be lost with the connection's reset.
        if seen > limit.saturating_mul(2) {
            return Err(Unread::TooLarge);
        }
        if seen <= limit {
            pieces.push(piece);
        } else {
            pieces.clear();
        }
    }
    match pieces.as_slice() {
        _ if seen > limit => Err(Unread::TooLarge),
        [all] => Ok(all.clone()),
        pieces => Ok(Bytes::from(pieces.concat())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[tokio::test]
    async fn the_limit_is_the_last_size_taken() {
        assert!(matches!(read(Body::from(vec![0; 8]), 8).await, Ok(bytes) if bytes.len() == 8));
        assert!(matches!(read(Body::from(vec![0; 9]), 8).await, Err(Unread::TooLarge)));
        assert!(matches!(read(Body::from(vec![0; 900]), 8).await, Err(Unread::TooLarge)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_stops_sending_is_let_go() {
        let stuck = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert!(matches!(read(stuck, 8).await, Err(Unread::Slow)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_trickles_is_let_go_and_one_on_a_slow_line_is_not() {
        let every = |pause: u64, bytes: usize| {
            let pieces = futures::stream::iter(0..600).then(move |_| async move {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                Ok::<_, std::io::Error>(Bytes::from(vec![b' '; bytes]))
            });
            read(Body::from_stream(pieces), 1 << 24)
        };
        let started = Instant::now();
        assert!(matches!(every(20, 1).await, Err(Unread::Slow)));
        assert_eq!(started.elapsed().as_secs(), 30);
        assert!(matches!(every(1, 20 * 1024).await, Ok(bytes) if bytes.len() == 600 * 20 * 1024));
    }
}
