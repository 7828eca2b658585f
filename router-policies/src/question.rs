//! All that a decision about one request is made from, as data: the same question always has the same plan, today, in a
//! test, or replayed from a log. Must never hold prompt text.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use weir_protocol::ChatRequest;

use crate::classify::Judged;
use crate::facts::{BackendFacts, BackendRole};
use crate::features::Features;

/// The days, Monday first.
pub const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What a request asks of a policy.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The `model` field as the caller wrote it.
    pub model: &'a str,
    /// The backend or group that alone has this model; `None` where the model is a name of Weir's own.
    pub owner: Option<&'a str>,
    /// What is known about the request.
    pub features: Features,
    /// What could answer, in the order configured.
    pub backends: &'a [BackendFacts],
    /// What the classifier says.
    pub family: Option<JudgedFamily>,
    /// What is expected of backends that could be measured.
    pub predicted: &'a [Predicted],
    /// Whose key it is; empty without tenants.
    pub tenant: &'a str,
    /// When it came.
    pub now: Moment,
    /// The same number for all turns of one conversation; weights and canaries draw by it.
    pub conversation: u64,
    /// Whether the caller says itself how a diffusion engine shall decode.
    pub decodes_itself: bool,
    /// Bytes and tools of the condensed request, where the policy condenses and this one can be.
    pub condensed: Option<CondensedSize>,
    /// The backend that answered last in this user turn.
    pub stay: Option<&'a str>,
}

/// A task family with how sure the classifier is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedFamily {
    /// Its word.
    pub name: Cow<'static, str>,
    /// Calibrated, 0 to 1.
    pub probability: f64,
}

impl From<Judged> for JudgedFamily {
    fn from(judged: Judged) -> Self {
        JudgedFamily { name: judged.family.as_str().into(), probability: judged.probability.into() }
    }
}

/// What a condensed request comes down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CondensedSize {
    /// Bytes of messages and tools.
    pub bytes: u64,
    /// Tools kept.
    pub tools: u64,
}

/// A moment as policies see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Moment {
    /// 0 to 23, UTC.
    pub hour: u8,
    /// 0 is Monday.
    pub day: u8,
}

impl Moment {
    /// From seconds since 1970.
    pub fn of_unix(seconds: u64) -> Self {
        // 1970-01-01 was a Thursday.
        let day = (seconds / 86_400 + 3) % 7;
        Moment { hour: (seconds / 3600 % 24) as u8, day: day as u8 }
    }

    /// The word of the day.
    pub fn weekday(self) -> &'static str {
        WEEKDAYS[usize::from(self.day) % WEEKDAYS.len()]
    }
}

/// What is expected of one backend for this request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// Its name.
    pub backend: String,
    /// Until the first content.
    pub ttft: Interval,
    /// Until the end of the answer.
    pub total: Interval,
    /// Share of recent attempts that failed.
    #[serde(default)]
    pub error_rate: f64,
}

/// An expected time and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The expected value, in milliseconds.
    pub expected_ms: f64,
    /// Lower end.
    pub low_ms: f64,
    /// Upper end.
    pub high_ms: f64,
}

impl<'a> Question<'a> {
    /// A question about a request with nothing known beside it.
    pub fn of(request: &'a ChatRequest, backends: &'a [BackendFacts]) -> Self {
        Question {
            model: &request.model,
            decodes_itself: !request.diffusion.is_silent(),
            ..Question::about(Features::of(request), backends)
        }
    }

    /// A question about features alone, for `auto`.
    pub fn about(features: Features, backends: &'a [BackendFacts]) -> Self {
        Question {
            model: "auto",
            owner: None,
            features,
            backends,
            family: None,
            predicted: &[],
            tenant: "",
            now: Moment::default(),
            conversation: 0,
            decodes_itself: false,
            condensed: None,
            stay: None,
        }
    }

    /// What is predicted of `subject`: a role's word means the quickest of that role that can take the request, any
    /// other name the backend or, of a group, its quickest member.
    pub fn predicted_of(&self, subject: &str) -> Option<Predicted> {
        let role = BackendRole::ALL.into_iter().find(|role| role.as_str() == subject);
        let means = |facts: &&BackendFacts| match role {
            Some(role) => facts.role == role && facts.obstacle(&self.features).is_none(),
            None => facts.answers_to(subject),
        };
        let named = self.backends.iter().filter(means);
        let known = named.filter_map(|facts| self.predicted.iter().find(|one| one.backend == facts.name));
        known.min_by(|a, b| a.total.expected_ms.total_cmp(&b.total.expected_ms)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_from_the_clock() {
        // 2026-11-23 08:33 UTC, a Monday.
        let moment = Moment::of_unix(1_795_422_780);
        assert_eq!((moment.hour, moment.weekday()), (8, "mon"));
        assert_eq!((Moment::of_unix(0).hour, Moment::of_unix(0).weekday()), (0, "thu"));
    }
}
