//! What an upstream says about its rate limits, in headers that callers know how to read. Must never take a header that
//! could carry anything else.

use http::HeaderMap;
use weir_protocol::Event;

/// Most headers and longest value passed on.
const COUNT_MAX: usize = 24;
const VALUE_MAX: usize = 64;

/// The event with these headers, if there are any.
pub(super) fn of(headers: &HeaderMap) -> Option<Event> {
    let named = |name: &str| {
        ["x-ratelimit-", "anthropic-ratelimit-"].iter().any(|start| name.starts_with(start))
            || matches!(name, "retry-after" | "retry-after-ms")
    };
    let own = headers.iter().filter(|(name, _)| named(name.as_str()));
    let plain = own.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    let limits: Vec<(String, String)> = plain.filter(|(_, value)| value.len() <= VALUE_MAX).take(COUNT_MAX).collect();
    (!limits.is_empty()).then_some(Event::RateLimits(limits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_limits_are_taken() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ratelimit-remaining-tokens", "17"),
            ("anthropic-ratelimit-requests-reset", "2026-11-24T18:00:00Z"),
            ("retry-after", "7"),
            ("set-cookie", "a=b"),
            ("x-ratelimit-note", "0123456789012345678901234567890123456789012345678901234567890123456789"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let Some(Event::RateLimits(limits)) = of(&headers) else { panic!("none") };
        let names: Vec<&str> = limits.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-ratelimit-remaining-tokens", "anthropic-ratelimit-requests-reset", "retry-after"]);
        assert_eq!(of(&HeaderMap::new()), None);
    }
}
