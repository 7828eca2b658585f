//! Headers of answers: how the request was routed, and what keeps proxies from buffering a stream. Must never let text
//! through that could break a header.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::Stream;
use http::{HeaderName, HeaderValue, header};

use crate::route::RouteReport;

const ROUTE: HeaderName = HeaderName::from_static("x-weir-route");
const REASON: HeaderName = HeaderName::from_static("x-weir-reason");
const BACKEND: HeaderName = HeaderName::from_static("x-weir-backend");
const LEFT_OUT: HeaderName = HeaderName::from_static("x-weir-left-out");

/// Longest value sent; proxies refuse answers with large headers.
const VALUE_MAX: usize = 256;

/// Adds who answers and why.
pub(super) fn with_route(mut response: Response, report: &RouteReport) -> Response {
    for (name, text) in [(ROUTE, &report.route), (REASON, &report.reason), (BACKEND, &report.backend)] {
        if let Some(value) = visible(text) {
            response.headers_mut().insert(name, value);
        }
    }
    if report.left_out {
        response.headers_mut().insert(LEFT_OUT, HeaderValue::from_static("tools"));
    }
    response
}

/// Adds what the backend said about its rate limits.
pub(super) fn with_limits(mut response: Response, limits: &[(String, String)]) -> Response {
    for (name, value) in limits {
        if let (Ok(name), Some(value)) = (HeaderName::try_from(name.as_str()), visible(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A 200 whose body streams.
pub(super) fn event_stream(
    frames: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
    report: &RouteReport,
) -> Response {
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    with_route(response, report)
}

/// Visible ASCII only, so that any client can read it; `None` when nothing is left.
fn visible(text: &str) -> Option<HeaderValue> {
    let plain: String = text.chars().take(VALUE_MAX).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    HeaderValue::try_from(plain.trim()).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Option<&str>) {
        assert_eq!(visible(text).as_ref().map(|value| value.to_str().expect("ascii")), expect);
    }

    #[test]
    fn values_are_visible_ascii_of_bounded_length() {
        check("rule `plan` matched", Some("rule `plan` matched"));
        check("a\r\nx-evil: 1", Some("a??x-evil: 1"));
        check("Grüße", Some("Gr??e"));
        check(" \u{a0} ", Some("?"));
        check("", None);
        check(&"x".repeat(999), Some("x".repeat(VALUE_MAX).as_str()));
    }
}
