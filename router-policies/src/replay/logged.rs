//! A line of the request log, as far as a replay needs it. Reads leniently: fields it does not know are skipped, and
//! features a log does not have yet are those of a request that asks nothing. Must never need a prompt.

use serde::Deserialize;
use serde_json::Value as Json;

use crate::features::Features;
use crate::question::{CondensedSize, JudgedFamily, Moment, Predicted};

/// The version of lines that is understood.
const VERSION: u64 = 1;

/// One recorded request.
#[derive(Debug, Clone, Deserialize)]
pub struct Logged {
    v: u64,
    #[serde(default)]
    time: String,
    /// The tenant's name.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The model asked for.
    #[serde(default)]
    pub model: Option<String>,
    /// Who answered, or was tried last.
    #[serde(default)]
    pub backend: Option<String>,
    /// `finished`, `cancelled`, or the kind of error.
    #[serde(default)]
    pub outcome: String,
    /// Milliseconds from the request's head to its last byte.
    #[serde(default)]
    pub body_ms: Option<f64>,
    /// Milliseconds until the first content.
    #[serde(default)]
    pub ttft_ms: Option<f64>,
    /// Milliseconds until the end.
    #[serde(default)]
    pub total_ms: Option<f64>,
    /// Tokens in and out.
    #[serde(default)]
    pub usage: Option<LoggedUsage>,
    /// What was tried, in order of start.
    #[serde(default)]
    pub attempts: Vec<LoggedTry>,
    /// The decision.
    #[serde(default)]
    pub plan: Option<LoggedPlan>,
}

/// Tokens of a recorded request.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct LoggedUsage {
    /// Of the prompt.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Of the answer.
    #[serde(default)]
    pub completion_tokens: u64,
    /// Of the prompt, those from a cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Where a diffusion engine answered.
    #[serde(default)]
    pub diffusion: Option<LoggedSteps>,
}

/// How a recorded answer was denoised.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct LoggedSteps {
    /// Denoise steps.
    #[serde(default)]
    pub steps: u64,
}

/// A recorded attempt.
#[derive(Debug, Clone, Deserialize)]
pub struct LoggedTry {
    /// Who was asked.
    pub backend: String,
    /// Milliseconds from the request's last byte to its start.
    #[serde(default)]
    pub start_ms: f64,
    /// Milliseconds it took.
    #[serde(default)]
    pub ms: f64,
    /// Milliseconds from its start to its first content.
    #[serde(default)]
    pub first_content_ms: Option<f64>,
    /// `finished`, `lost`, `cancelled`, or the kind of error.
    #[serde(default)]
    pub outcome: String,
}

/// A recorded decision.
#[derive(Debug, Clone, Deserialize)]
pub struct LoggedPlan {
    /// The rule that decided.
    #[serde(default)]
    pub rule: String,
    /// What was planned, in order.
    #[serde(default)]
    pub attempts: Vec<LoggedAttempt>,
    /// What was known.
    pub features: Features,
    /// What the classifier said.
    #[serde(default)]
    pub family: Option<JudgedFamily>,
    /// What was expected of backends.
    #[serde(default)]
    pub predicted: Vec<Predicted>,
    /// The conversation's number.
    #[serde(default)]
    pub conversation: u64,
    /// What condensing came down to.
    #[serde(default)]
    pub condensed: Option<CondensedSize>,
}

/// A planned attempt.
#[derive(Debug, Clone, Deserialize)]
pub struct LoggedAttempt {
    /// The backend's name.
    pub backend: String,
}

/// Why a line is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// A line that was cut, for instance.
    #[error("no JSON")]
    NoJson,
    /// Something else than a request's line.
    #[error("no version `v`: not a line of a request log")]
    NoVersion,
    /// Of a version that is not known.
    #[error("version {0}, where {VERSION} is understood")]
    Version(u64),
    /// It has not the shape of a line: the field and what is wrong with it.
    #[error("not a line's shape: {0}")]
    Shape(String),
}

impl Logged {
    /// Reads a line.
    ///
    /// # Errors
    /// It is none, or of another version.
    pub fn read(line: &[u8]) -> Result<Logged, Unread> {
        let value: Json = serde_json::from_slice(line).map_err(|_| Unread::NoJson)?;
        match value.get("v").and_then(Json::as_u64) {
            Some(VERSION) => {}
            Some(other) => return Err(Unread::Version(other)),
            None => return Err(Unread::NoVersion),
        }
        let logged: Logged = serde_json::from_value(value).map_err(|error| Unread::Shape(error.to_string()))?;
        debug_assert_eq!(logged.v, VERSION);
        Ok(logged)
    }

    /// Seconds since 1970 when its head came; `None` where the line does not say.
    pub fn unix_s(&self) -> Option<f64> {
        // Of the second: `.123Z`, however many digits.
        let part = self.time.get(19..).and_then(|rest| rest.trim_end_matches('Z').parse::<f64>().ok());
        let part = part.filter(|part| (0.0..1.0).contains(part));
        unix(&self.time).map(|seconds| seconds as f64 + part.unwrap_or(0.0))
    }

    /// When it came, as policies see it.
    pub fn moment(&self) -> Moment {
        unix(&self.time).map(Moment::of_unix).unwrap_or_default()
    }
}

/// Seconds since 1970 of `2026-11-23T08:33:00…Z`.
fn unix(time: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // Days from civil, after Hinnant's "chrono-Compatible Low-Level Date Algorithms": March is the first month.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_leniently_but_not_of_other_versions() {
        let line = r#"{"v":1,"time":"2026-11-23T08:33:00.123Z","new_field":1,"outcome":"finished","plan":{"rule":"r","features":{"trigger":"cron"}}}"#;
        let logged = Logged::read(line.as_bytes()).unwrap();
        assert_eq!((logged.moment().hour, logged.moment().weekday()), (8, "mon"));
        let plan = logged.plan.as_ref().unwrap();
        assert_eq!((plan.features.trigger.as_str(), plan.features.max_tokens), ("cron", 0));
        assert!((logged.unix_s().unwrap() - 1_795_422_780.123).abs() < 1e-3);
        let why = |line: &[u8]| Logged::read(line).unwrap_err();
        assert_eq!(why(br#"{"v":2}"#), Unread::Version(2));
        for wrong in [&b""[..], br#"{"v":1"#, b"\xff\xfe"] {
            assert_eq!(why(wrong), Unread::NoJson);
        }
        for wrong in [&b"{}"[..], b"[1]"] {
            assert_eq!(why(wrong), Unread::NoVersion);
        }
        let shape = why(br#"{"v":1,"plan":{"rule":"r"}}"#).to_string();
        assert!(shape.contains("features"), "{shape}");
    }
}
