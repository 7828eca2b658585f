//! What a client says about its request in headers. Advice for routing only; must never name who pays.

use http::HeaderMap;
use weir_protocol::{Hints, Origin};

use super::header;

/// Longest value taken: hints go into tables and comparisons.
const VALUE_MAX: usize = 256;

/// Our own names first, then those that OpenClaw and its plugins use (`facts/openclaw.md` §1.2, §2).
const TRIGGER: &[&str] = &["x-weir-trigger"];
const AGENT: &[&str] = &["x-weir-agent", "x-openclaw-agent-id"];
const SESSION: &[&str] = &["x-weir-session", "x-openclaw-session-key", "x-session-affinity", "session_id"];
const FIRST_CONTENT: &[&str] = &["x-weir-first-content-ms"];
const TOTAL: &[&str] = &["x-weir-total-ms"];
const ATTEMPT: &[&str] = &["x-weir-attempt"];

/// Longest list of betas taken.
const BETAS_MAX: usize = 2048;

/// Longest id that is logged.
const ID_MAX: usize = 128;

/// The hints of these headers; what cannot be understood is as if it were not there.
pub(super) fn of(headers: &HeaderMap) -> Hints {
    Hints {
        trigger: text(headers, TRIGGER),
        agent: text(headers, AGENT),
        session: text(headers, SESSION),
        first_content_ms: text(headers, FIRST_CONTENT).and_then(|value| value.parse().ok()),
        total_ms: text(headers, TOTAL).and_then(|value| value.parse().ok()),
        attempt: text(headers, ATTEMPT).and_then(|value| value.parse().ok()),
        betas: betas(headers),
        origin: Origin {
            session: id(headers, "x-weir-session"),
            job: id(headers, "x-weir-job"),
            run: id(headers, "x-weir-run"),
            turn: id(headers, "x-weir-turn"),
            tenant_tag: id(headers, "x-weir-tenant-tag"),
        },
    }
}

/// All that is named, in one list; other characters than those of such names are in no list that is meant well.
fn betas(headers: &HeaderMap) -> Option<String> {
    let named: Vec<&str> = headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok()).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_., ".contains(c);
    Some(named.join(",")).filter(|list| !list.is_empty() && list.len() <= BETAS_MAX && list.chars().all(plain))
}

/// An id as ids are: what has other characters, or is longer, is left out of logs whole.
fn id(headers: &HeaderMap, name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    text(headers, &[name]).filter(|value| value.len() <= ID_MAX && value.chars().all(plain))
}

fn text(headers: &HeaderMap, names: &[&str]) -> Option<String> {
    let value = names.iter().find_map(|name| header(headers, name))?.to_str().ok()?.trim();
    (!value.is_empty() && value.len() <= VALUE_MAX).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn betas_are_one_list() {
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers).betas, None);
        headers.append("anthropic-beta", "a-2025-01-01,b-2".parse().expect("a header"));
        headers.append("anthropic-beta", "c".parse().expect("a header"));
        assert_eq!(of(&headers).betas.as_deref(), Some("a-2025-01-01,b-2,c"));
        headers.append("anthropic-beta", "\"x\"".parse().expect("a header"));
        assert_eq!(of(&headers).betas, None);
    }

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
        for (name, value) in [
            ("x-weir-attempt", "2"),
            ("x-weir-run", "r:model:1"),
            ("x-weir-job", "a b"),
            ("x-weir-turn", &"t".repeat(129)),
        ] {
            headers.insert(name, value.parse().expect("a header"));
        }
        let hints = of(&headers);
        let origin = Origin { session: Some("s2".into()), run: Some("r:model:1".into()), ..Origin::default() };
        assert_eq!((hints.attempt, hints.origin), (Some(2), origin));
        headers.insert("x-weir-session", "s".repeat(300).parse().expect("a header"));
        assert_eq!(of(&headers).session, None);
    }
}
