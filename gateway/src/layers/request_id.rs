//! Gives every request an id: the caller's `x-request-id` if it is a plain one, else a new one. The answer carries it
//! back and the log names it; a caller's free text must never come through as one.

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderName, HeaderValue};

use crate::api;

/// The header, in and out.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's clients look for it.
const ANTHROPIC_HEADER: HeaderName = HeaderName::from_static("request-id");
const MAX: usize = 128;

/// A request's id, among its extensions.
#[derive(Debug, Clone)]
pub struct RequestId(pub HeaderValue);

impl RequestId {
    /// As text for the log.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// The layer.
pub async fn layer<N: Future<Output = Response>>(mut request: Request, next: impl FnOnce(Request) -> N) -> Response {
    let id = request.headers().get(&HEADER).filter(|id| is_plain(id)).cloned().unwrap_or_else(fresh);
    request.headers_mut().insert(HEADER, id.clone());
    request.extensions_mut().insert(RequestId(id.clone()));
    let anthropic = request.uri().path().starts_with(api::paths::MESSAGES);
    let mut response = next(request).await;
    if anthropic {
        response.headers_mut().insert(ANTHROPIC_HEADER, id.clone());
    }
    response.headers_mut().insert(HEADER, id);
    response
}

fn is_plain(id: &HeaderValue) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    !id.is_empty() && id.len() <= MAX && id.as_bytes().iter().all(plain)
}

fn fresh() -> HeaderValue {
    HeaderValue::try_from(format!("req-{}", crate::ids::fresh().simple()))
        .unwrap_or_else(|_| HeaderValue::from_static("req-unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_are_taken_over() {
        assert!(is_plain(&HeaderValue::from_static("7f3a-b_c.d:1")));
        assert!(!is_plain(&HeaderValue::from_static("my secret prompt")));
        assert!(!is_plain(&HeaderValue::from_static("")));
        assert!(!is_plain(&HeaderValue::try_from("x".repeat(MAX + 1)).unwrap()));
    }
}
