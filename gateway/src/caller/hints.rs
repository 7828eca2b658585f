//! What a client says about its request in headers. Advice for routing only; must never name who pays.

use http::HeaderMap;
use weir_protocol::Hints;

/// Longest value taken: hints go into tables and comparisons.
const VALUE_MAX: usize = 256;

/// Our own names first, then those that OpenClaw and its plugins use (`facts/openclaw.md` §1.2, §2).
const TRIGGER: &[&str] = &["x-weir-trigger"];
const AGENT: &[&str] = &["x-weir-agent", "x-openclaw-agent-id"];
const SESSION: &[&str] = &["x-weir-session", "x-openclaw-session-key", "x-session-affinity", "session_id"];
const FIRST_CONTENT: &[&str] = &["x-weir-first-content-ms"];
const TOTAL: &[&str] = &["x-weir-total-ms"];

/// The hints of these headers; what cannot be understood is as if it were not there.
pub(super) fn of(headers: &HeaderMap) -> Hints {
    Hints {
        trigger: text(headers, TRIGGER),
        agent: text(headers, AGENT),
        session: text(headers, SESSION),
        first_content_ms: text(headers, FIRST_CONTENT).and_then(|value| value.parse().ok()),
        total_ms: text(headers, TOTAL).and_then(|value| value.parse().ok()),
    }
}

fn text(headers: &HeaderMap, names: &[&str]) -> Option<String> {
    let value = names.iter().find_map(|name| headers.get(*name))?.to_str().ok()?.trim();
    (!value.is_empty() && value.len() <= VALUE_MAX).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_names_come_first_and_nonsense_is_nothing() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-openclaw-agent-id", "main"),
            ("x-session-affinity", "s1:0"),
            ("x-weir-session", "s2"),
            ("x-weir-trigger", " cron "),
            ("x-weir-first-content-ms", "800"),
            ("x-weir-total-ms", "soon"),
        ] {
            headers.insert(name, value.parse().expect("a header"));
        }
        let hints = of(&headers);
        assert_eq!((hints.agent.as_deref(), hints.session.as_deref()), (Some("main"), Some("s2")));
        assert_eq!((hints.trigger.as_deref(), hints.first_content_ms, hints.total_ms), (Some("cron"), Some(800), None));
        headers.insert("x-weir-session", "s".repeat(300).parse().expect("a header"));
        assert_eq!(of(&headers).session, None);
    }
}
