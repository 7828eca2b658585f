//! W3C Trace Context (Recommendation of 23 November 2021), as far as a gateway needs it. A span id of ours is only named to
//! an upstream if that span is really sent somewhere: otherwise the caller's own headers go on as they came, and the
//! caller's trace has no hole.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::ids;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest state passed on; vendors must carry at least so much.
const STATE_MAX: usize = 512;
const SAMPLED: u8 = 1;

/// Where a request stands in a trace.
#[derive(Debug, Clone)]
pub(crate) struct TraceContext {
    /// The trace's id; never 0.
    pub(crate) trace_id: u128,
    /// The caller's span.
    pub(crate) parent: Option<u64>,
    /// Our own span, where it is recorded; never 0.
    pub(crate) span_id: Option<u64>,
    /// What the caller sent.
    received: Option<HeaderValue>,
    state: Option<HeaderValue>,
}

/// What a `traceparent` says.
#[derive(Debug, PartialEq, Eq)]
struct Parent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceContext {
    /// From a request's headers. `sample`: the share of traces that begin here and are recorded; `None`: nothing is. A
    /// caller's own decision is kept.
    pub(crate) fn begin(headers: &HeaderMap, sample: Option<f64>) -> Option<Self> {
        let received = headers.get(TRACEPARENT);
        let parent = received.and_then(|value| parse(value.as_bytes()));
        let Some(parent) = parent else {
            let (share, trace_id) = (sample?, ids::fresh().as_u128());
            let span_id = is_drawn(trace_id, share).then(fresh_span)?;
            return Some(TraceContext { trace_id, parent: None, span_id: Some(span_id), received: None, state: None });
        };
        let is_recorded = sample.is_some() && parent.flags & SAMPLED == SAMPLED;
        Some(TraceContext {
            trace_id: parent.trace_id,
            parent: Some(parent.span_id),
            span_id: is_recorded.then(fresh_span),
            received: received.cloned(),
            state: state(headers),
        })
    }

    /// The headers that go upstream with the attempt that has this span.
    pub(crate) fn headers(&self, attempt: Option<u64>) -> Vec<(HeaderName, HeaderValue)> {
        let own =
            attempt.and_then(|span| HeaderValue::try_from(format!("00-{:032x}-{span:016x}-01", self.trace_id)).ok());
        let parent = own.or_else(|| self.received.clone()).map(|value| (TRACEPARENT, value));
        let state = self.state.clone().filter(|_| parent.is_some()).map(|value| (TRACESTATE, value));
        parent.into_iter().chain(state).collect()
    }

    /// The span of an attempt, where the request's own is recorded.
    pub(crate) fn attempt_span(&self) -> Option<u64> {
        self.span_id.map(|_| fresh_span())
    }
}

/// Never 0.
fn fresh_span() -> u64 {
    let (high, low) = ids::fresh().as_u64_pair();
    // The fixed bits of a version 4 id lie apart in the halves.
    (high ^ low.rotate_left(17)).max(1)
}

/// By the trace's own id, so that gateways beside each other agree.
fn is_drawn(trace_id: u128, share: f64) -> bool {
    // 53 of the last 56 bits as a fraction below 1: those before them are partly fixed in our ids. The cast keeps them.
    let fraction = ((trace_id as u64 & 0x00ff_ffff_ffff_ffff) >> 3) as f64 / (1_u64 << 53) as f64;
    fraction < share
}

/// `None` for anything that is not exactly right: a broken context is a new trace.
fn parse(value: &[u8]) -> Option<Parent> {
    let text = std::str::from_utf8(value).ok()?;
    let hex = |text: &str, digits: usize| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (text.len() == digits && plain).then(|| u128::from_str_radix(text, 16).ok()).flatten()
    };
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let trace_id = hex(parts.next()?, 32).filter(|id| *id > 0)?;
    let span_id = u64::try_from(hex(parts.next()?, 16)?).ok().filter(|id| *id > 0)?;
    let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
    // Later versions may say more; 255 is none.
    let fits = if version == 0 { parts.next().is_none() } else { version < 255 };
    fits.then_some(Parent { trace_id, span_id, flags })
}

/// Several headers are one list.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let all: Vec<&[u8]> = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes).collect();
    let joined = all.join(&b","[..]);
    let fits = !joined.is_empty() && joined.len() <= STATE_MAX;
    fits.then(|| HeaderValue::from_bytes(&joined).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_exact_parents_are_taken() {
        let parent =
            Parent { trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span_id: 0xb7ad_6b71_6920_3331, flags: 1 };
        assert_eq!(parse(GOOD.as_bytes()).as_ref(), Some(&parent));
        assert_eq!(parse(format!("01{}-more", &GOOD[2..]).as_bytes()), Some(parent));
        for wrong in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn without_a_collector_the_callers_headers_go_on_as_they_came() {
        let sent = headers(&[("traceparent", GOOD), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        let context = TraceContext::begin(&sent, None).expect("a context");
        let on = context.headers(context.attempt_span());
        assert_eq!(on[0], (TRACEPARENT, HeaderValue::from_static(GOOD)));
        assert_eq!(on[1], (TRACESTATE, HeaderValue::from_static("a=1,b=2")));
        assert!(TraceContext::begin(&HeaderMap::new(), None).is_none());
    }

    #[test]
    fn a_recorded_attempt_is_the_upstreams_parent() {
        let sent = headers(&[("traceparent", GOOD), ("tracestate", "a=1")]);
        let context = TraceContext::begin(&sent, Some(0.0)).expect("a context");
        let span = context.attempt_span().expect("the caller samples it");
        let on = context.headers(Some(span));
        assert_eq!(on[0].1, format!("00-0af7651916cd43dd8448eb211c80319c-{span:016x}-01"));
        assert_eq!((context.parent, on.len()), (Some(0xb7ad_6b71_6920_3331), 2));
        let unsampled = headers(&[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]);
        assert_eq!(TraceContext::begin(&unsampled, Some(1.0)).and_then(|context| context.span_id), None);
    }

    #[test]
    fn a_new_trace_is_drawn_by_its_id() {
        let none = HeaderMap::new();
        assert!(TraceContext::begin(&none, Some(1.0)).is_some_and(|context| context.span_id.is_some()));
        assert!(TraceContext::begin(&none, Some(0.0)).is_none());
        let share = (0..1000).filter(|_| TraceContext::begin(&none, Some(0.5)).is_some()).count();
        assert!((300..700).contains(&share), "{share}");
    }
}
