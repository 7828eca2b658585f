//! `[policy.shadow]` and `[policy.canary]`: policies tried beside the live one. Must never judge a rule.

use serde::{Deserialize, Serialize};
use weir_router_policies::canary::GuardRails;

use super::policy::{PolicySource, PolicyWritten};
use super::resolve::Checks;

/// `[policy.shadow]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowWritten {
    /// File or profile that decides beside the live policy. Default empty: none.
    pub policy: String,
    /// Share of the requests it decides otherwise that are really sent there once the live answer is over, 0 to 1; the
    /// answers are compared and never shown. Default 0.
    pub sample: f64,
}

/// `[policy.canary]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanaryWritten {
    /// File or profile that decides for a share of the conversations. Default empty: none.
    pub policy: String,
    /// That share, 0 to 1. Default 0.05.
    pub share: f64,
    /// Most by which its share of failures may exceed the live one's, 0 to 1. Default 0.02.
    pub error_rise: f64,
    /// Most times the live time to the first content, 1 or more. Default 1.5.
    pub ttft_ratio: f64,
    /// Most by which its share of answers that break a demanded form may exceed the live one's, 0 to 1. Default 0.02.
    pub invalid_rise: f64,
    /// Requests on each side before anything is judged. Default 50.
    pub min_requests: u64,
}

impl Default for CanaryWritten {
    fn default() -> Self {
        CanaryWritten {
            policy: String::new(),
            share: 0.05,
            error_rise: 0.02,
            ttft_ratio: 1.5,
            invalid_rise: 0.02,
            min_requests: 50,
        }
    }
}

/// Both, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrialSettings {
    /// What looks on.
    pub shadow: Option<ShadowSettings>,
    /// What decides for a share.
    pub canary: Option<CanarySettings>,
}

/// `[policy.shadow]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowSettings {
    /// Its rules.
    pub policy: PolicySource,
    /// Share of what it decides otherwise that is sent.
    pub sample: f64,
}

/// `[policy.canary]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CanarySettings {
    /// Its rules.
    pub policy: PolicySource,
    /// Share of the conversations.
    pub share: f64,
    /// When it is given up.
    pub rails: GuardRails,
}

impl Checks<'_> {
    /// The policies beside the live one.
    pub(super) fn trials(&mut self, typed: &PolicyWritten) -> TrialSettings {
        let (shadow, canary) = (&typed.shadow, &typed.canary);
        self.share(&["policy", "shadow", "sample"], shadow.sample);
        for (key, value) in
            [("share", canary.share), ("error_rise", canary.error_rise), ("invalid_rise", canary.invalid_rise)]
        {
            self.share(&["policy", "canary", key], value);
        }
        if !(canary.ttft_ratio >= 1.0 && canary.ttft_ratio.is_finite()) {
            self.say(&["policy", "canary", "ttft_ratio"], "must be 1 or more", "1.5 allows half as long again");
        }
        self.at_least_one(&["policy", "canary", "min_requests"], canary.min_requests);
        let rails = GuardRails {
            error_rise: canary.error_rise,
            ttft_ratio: canary.ttft_ratio,
            invalid_rise: canary.invalid_rise,
            min_requests: canary.min_requests,
        };
        TrialSettings {
            shadow: self
                .beside("shadow", &shadow.policy)
                .map(|policy| ShadowSettings { policy, sample: shadow.sample }),
            canary: self.beside("canary", &canary.policy).map(|policy| CanarySettings {
                policy,
                share: canary.share,
                rails,
            }),
        }
    }

    fn share(&mut self, path: &[&str], value: f64) {
        if !(0.0..=1.0).contains(&value) {
            self.say(path, "must be between 0 and 1", "");
        }
    }

    /// A profile by its name, anything else a file.
    fn beside(&mut self, key: &str, name: &str) -> Option<PolicySource> {
        if name.is_empty() {
            return None;
        }
        let path = ["policy", key, "policy"];
        PolicySource::profile(name).or_else(|| {
            let file = self.base_dir(&path).join(name);
            PolicySource::read_by(&file, |path| self.read(path))
                .map_err(|error| {
                    let message = format!("`{}` is no profile and cannot be read: {error}", file.display());
                    self.say(&path, message, "name a policy file or a profile");
                })
                .ok()
        })
    }
}
