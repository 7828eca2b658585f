//! `[attempts]`, `[exhausted]` and what a `[[backend]]` says about being asked: as typed and as it runs. Must never
//! decide anything about a request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::resolve::Checks;
use super::written::BackendWritten;

/// `[attempts]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttemptsWritten {
    /// Rounds made again when every attempt failed in a way that may pass by itself. Default 1.
    pub retries: u32,
    /// The wait before a retry is drawn between 0 and this, doubled each round. Default 100 ms.
    pub retry_base_ms: u64,
    /// Longest wait before a retry; an upstream that asks for a longer one is not retried. Default 1 s.
    pub retry_max_ms: u64,
    /// Retries and hedges a backend may cost for each request it gets, 0 to 1. Default 0.2.
    pub extra_ratio: f64,
    /// Retries and hedges a backend may cost at once. Default 10.
    pub extra_burst: u32,
    /// Whether the next backend of the plan is started when the first is slower than its own p95. Default false: it
    /// costs a second answer.
    pub hedge: bool,
    /// When to hedge until the p95 is known. Default 0: not until then.
    pub hedge_after_ms: u64,
    /// Earliest hedge, whatever the p95. Default 50 ms.
    pub hedge_min_ms: u64,
    /// What becomes of a stream that is cut after it has said something. Default `error`.
    pub on_cut: OnCut,
    /// What becomes of an answer that ends without a word while the plan has another backend. Default `next`.
    pub on_empty: OnEmpty,
    /// Failures in a row after which a backend is left alone. Default 5.
    pub breaker_failures: u32,
    /// Share of failures in half a minute, of 20 answers or more, that does the same, above 0 to 1. Default 0.5.
    pub breaker_rate: f64,
    /// How long it is left alone before one request tries it; doubled each time, up to `breaker_max_ms`. Default 5 s.
    pub breaker_ms: u64,
    /// Default 60 s.
    pub breaker_max_ms: u64,
}

impl Default for AttemptsWritten {
    fn default() -> Self {
        AttemptsWritten {
            retries: 1,
            retry_base_ms: 100,
            retry_max_ms: 1_000,
            extra_ratio: 0.2,
            extra_burst: 10,
            hedge: false,
            hedge_after_ms: 0,
            hedge_min_ms: 50,
            on_cut: OnCut::Error,
            on_empty: OnEmpty::Next,
            breaker_failures: 5,
            breaker_rate: 0.5,
            breaker_ms: 5_000,
            breaker_max_ms: 60_000,
        }
    }
}

/// What becomes of a stream that is cut after it has said something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCut {
    /// It ends in an error.
    #[default]
    Error,
    /// The next backend of the plan goes on from the text so far; the end says so.
    Continue,
}

/// What becomes of an answer that ends without a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnEmpty {
    /// The plan's next backend is asked; the caller gets the empty answer only if none has more to say.
    #[default]
    Next,
    /// The caller gets it.
    Keep,
}

/// `[exhausted]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExhaustedWritten {
    /// What OpenClaw is told when no backend could answer. Default `retry_later`.
    pub openclaw: Telling,
    /// What every other client is told. Default `plain`.
    pub others: Telling,
    /// The `Retry-After` of `retry_later`. Default 120 s: OpenClaw goes elsewhere at once above 60.
    pub retry_after_s: u64,
    /// How long OpenClaw's streams wait for the first content before their headers are sent: until then an error has
    /// its status, after it OpenClaw retries for a minute. Default 20 s.
    pub openclaw_hold_headers_ms: u64,
}

impl Default for ExhaustedWritten {
    fn default() -> Self {
        ExhaustedWritten {
            openclaw: Telling::RetryLater,
            others: Telling::Plain,
            retry_after_s: 120,
            openclaw_hold_headers_ms: 20_000,
        }
    }
}

/// What a client is told when every attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Telling {
    /// The failure worth most, as it is.
    Plain,
    /// 429 with a long `Retry-After`.
    RetryLater,
    /// 404: this model is not there.
    NotFound,
}

/// `[backend.health]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthWritten {
    /// Path that answers 2xx while the backend is well, from the root of `base_url`'s host. Default empty: not asked.
    pub path: String,
    /// Pause between two checks, a fifth more or less. Default 10 s.
    pub interval_ms: u64,
    /// Most time for a check's answer. Default 2 s.
    pub timeout_ms: u64,
    /// Failed checks in a row that take the backend out. Default 2; one good check brings it back.
    pub failures: u32,
}

impl Default for HealthWritten {
    fn default() -> Self {
        HealthWritten { path: String::new(), interval_ms: 10_000, timeout_ms: 2_000, failures: 2 }
    }
}

/// `[attempts]` and `[exhausted]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptSettings {
    /// Rounds made again.
    pub retries: u32,
    /// First wait is drawn below this.
    pub retry_base: Duration,
    /// Longest wait.
    pub retry_max: Duration,
    /// What becomes of a cut stream.
    pub on_cut: OnCut,
    /// What becomes of an empty answer.
    pub on_empty: OnEmpty,
    /// When to start a second backend; `None`: never.
    pub hedge: Option<HedgeSettings>,
    /// What a backend's standing is judged by.
    pub standing: StandingSettings,
    /// The words when nobody could answer.
    pub exhausted: ExhaustedWritten,
}

/// When to hedge.
#[derive(Debug, Clone, PartialEq)]
pub struct HedgeSettings {
    /// Until the p95 is known; `None`: not until then.
    pub unknown: Option<Duration>,
    /// Earliest.
    pub earliest: Duration,
}

/// What a backend's standing is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct StandingSettings {
    /// Retries and hedges per request.
    pub extra_ratio: f64,
    /// Retries and hedges at once.
    pub extra_burst: u32,
    /// Failures in a row.
    pub failures: u32,
    /// Share of failures.
    pub rate: f64,
    /// First pause.
    pub open: Duration,
    /// Longest pause.
    pub open_max: Duration,
}

impl Default for AttemptSettings {
    fn default() -> Self {
        settings(&AttemptsWritten::default(), &ExhaustedWritten::default())
    }
}

/// What a `[[backend]]` says about being asked, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AskingSettings {
    /// Backends of one group are equals.
    pub group: Option<String>,
    /// Attempts under way at once; `None`: no limit.
    pub max_in_flight: Option<usize>,
    /// Tries again at this backend before the plan goes on.
    pub retries: u32,
    /// Whether a conversation comes back to the same member of the group.
    pub caches_prefixes: bool,
    /// The check, if there is one.
    pub health: Option<HealthSettings>,
}

/// An active health check.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthSettings {
    /// What is asked.
    pub url: String,
    /// Mean pause.
    pub interval: Duration,
    /// Most time for an answer.
    pub timeout: Duration,
    /// Failures in a row that count.
    pub failures: u32,
}

impl Checks<'_> {
    pub(super) fn attempts(&mut self, typed: &AttemptsWritten, exhausted: &ExhaustedWritten) -> AttemptSettings {
        for (key, value) in [("retry_base_ms", typed.retry_base_ms), ("breaker_ms", typed.breaker_ms)] {
            self.at_least_one(&["attempts", key], value);
        }
        self.at_least_one(&["attempts", "breaker_failures"], u64::from(typed.breaker_failures));
        if typed.retries > 5 {
            self.say(&["attempts", "retries"], "must lie between 0 and 5", "more only feeds an outage");
        }
        if !(0.0..=1.0).contains(&typed.extra_ratio) {
            self.say(&["attempts", "extra_ratio"], "must lie between 0 and 1", "");
        }
        if !(typed.breaker_rate > 0.0 && typed.breaker_rate <= 1.0) {
            self.say(&["attempts", "breaker_rate"], "must lie above 0 and up to 1", "");
        }
        if typed.retry_max_ms < typed.retry_base_ms {
            self.say(&["attempts", "retry_max_ms"], "must not be less than `retry_base_ms`", "");
        }
        if typed.breaker_max_ms < typed.breaker_ms {
            self.say(&["attempts", "breaker_max_ms"], "must not be less than `breaker_ms`", "");
        }
        settings(typed, exhausted)
    }

    pub(super) fn asking(&mut self, index: &str, typed: &BackendWritten, base_url: Option<&str>) -> AskingSettings {
        if typed.retries > 5 {
            self.say(&["backend", index, "retries"], "must lie between 0 and 5", "more only feeds an outage");
        }
        AskingSettings {
            group: Some(typed.group.clone()).filter(|group| !group.is_empty()),
            max_in_flight: Some(typed.max_in_flight).filter(|most| *most > 0),
            retries: typed.retries,
            caches_prefixes: typed.caches_prefixes,
            health: self.health(index, &typed.health, base_url),
        }
    }

    fn health(&mut self, index: &str, typed: &HealthWritten, base_url: Option<&str>) -> Option<HealthSettings> {
        for (key, value) in
            [("interval_ms", typed.interval_ms), ("timeout_ms", typed.timeout_ms), ("failures", typed.failures.into())]
        {
            self.at_least_one(&["backend", index, "health", key], value);
        }
        if typed.path.is_empty() {
            return None;
        }
        let url = base_url.and_then(|base| reqwest::Url::parse(base).ok()?.join(&typed.path).ok());
        if !typed.path.starts_with('/') || typed.path.starts_with("//") {
            self.say(&["backend", index, "health", "path"], "not a path", "write it like `/health`");
            return None;
        }
        Some(HealthSettings {
            url: url?.into(),
            interval: Duration::from_millis(typed.interval_ms),
            timeout: Duration::from_millis(typed.timeout_ms),
            failures: typed.failures,
        })
    }

    /// Groups share a name space with backends, and their members must be of one kind.
    pub(super) fn groups(&mut self, typed: &[BackendWritten], reserved: &[&str]) {
        for (index, one) in typed.iter().enumerate().filter(|(_, one)| !one.group.is_empty()) {
            let at = index.to_string();
            let path = ["backend", &at, "group"];
            let name_is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if one.group.len() > 64 || !one.group.bytes().all(name_is_plain) {
                self.say(&path, "a group needs a plain name", "up to 64 letters, digits, `-`, `_`, `.`");
            }
            let ids = |other: &BackendWritten| other.name == one.group || other.model == one.group;
            if reserved.contains(&one.group.as_str()) || typed.iter().any(ids) {
                self.say(&path, "a backend, a model or Weir itself has this name", "names must differ");
            }
            let first = typed.iter().find(|other| other.group == one.group);
            if first.is_some_and(|first| first.role != one.role) {
                self.say(&path, "members of a group must have the same `role`", "they stand in for each other");
            }
        }
    }
}

fn settings(typed: &AttemptsWritten, exhausted: &ExhaustedWritten) -> AttemptSettings {
    let ms = Duration::from_millis;
    let unknown = (typed.hedge_after_ms > 0).then(|| ms(typed.hedge_after_ms));
    AttemptSettings {
        retries: typed.retries,
        retry_base: ms(typed.retry_base_ms),
        retry_max: ms(typed.retry_max_ms),
        on_cut: typed.on_cut,
        on_empty: typed.on_empty,
        hedge: typed.hedge.then(|| HedgeSettings { unknown, earliest: ms(typed.hedge_min_ms) }),
        standing: StandingSettings {
            extra_ratio: typed.extra_ratio,
            extra_burst: typed.extra_burst,
            failures: typed.breaker_failures,
            rate: typed.breaker_rate,
            open: ms(typed.breaker_ms),
            open_max: ms(typed.breaker_max_ms),
        },
        exhausted: exhausted.clone(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::check_error;

    fn backends(first: &str, second: &str) -> String {
        let one = |name: &str, rest: &str| {
            format!("[[backend]]\nname = \"{name}\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n{rest}\n")
        };
        one("a", first) + &one("b", second)
    }

    #[test]
    fn figures_that_would_feed_an_outage_are_refused() {
        check_error(
            "[attempts]\nretries = 6\nextra_ratio = 1.5\nbreaker_rate = 0.0\nretry_max_ms = 1\nbreaker_max_ms = 1",
            "FILE: `attempts.retries`: must lie between 0 and 5\n  help: more only feeds an outage\n\
             FILE: `attempts.extra_ratio`: must lie between 0 and 1\n\
             FILE: `attempts.breaker_rate`: must lie above 0 and up to 1\n\
             FILE: `attempts.retry_max_ms`: must not be less than `retry_base_ms`\n\
             FILE: `attempts.breaker_max_ms`: must not be less than `breaker_ms`",
        );
    }

    #[test]
    fn a_group_is_of_one_kind_and_has_a_name_of_its_own() {
        check_error(
            &backends("group = \"pool\"", "group = \"pool\"\nrole = \"diffusion\""),
            "FILE: `backend[1].group`: members of a group must have the same `role`\n  help: they stand in for each other",
        );
        check_error(
            &backends("group = \"b\"", ""),
            "FILE: `backend[0].group`: a backend, a model or Weir itself has this name\n  help: names must differ",
        );
    }

    #[test]
    fn a_health_check_is_a_path() {
        check_error(
            &backends("health = { path = \"http://x/health\", interval_ms = 0 }", ""),
            "FILE: `backend[0].health.interval_ms`: must not be 0\n\
             FILE: `backend[0].health.path`: not a path\n  help: write it like `/health`",
        );
    }
}
