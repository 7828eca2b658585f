//! What is simulated, as its file says it. All mistakes are found when it is read, so a [`Scenario`] that exists can be
//! run. Must never need more than the file: no engine, no network.

use serde::Deserialize;

use super::servers::{self, Fleet, Processor, not_negative, positive, share};
use crate::classify::Family;

/// Requests at most: what a counter of 32 bits holds.
const REQUESTS_MAX: u64 = 1 << 31;

/// See the module.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Draws are made from it: the same seed gives the same run.
    #[serde(default = "one")]
    pub seed: u64,
    /// Requests that arrive.
    pub requests: u64,
    /// Simulated seconds after which decisions are made anew from what was learnt: between them requests of one kind
    /// share a plan.
    #[serde(default = "second")]
    pub replan_s: f64,
    /// How requests arrive.
    pub arrivals: Arrivals,
    /// What is asked for.
    pub mix: Vec<Kind>,
    /// What backends share.
    #[serde(default)]
    pub processor: Vec<Processor>,
    /// What answers.
    pub backend: Vec<Fleet>,
}

/// How requests arrive: as a Poisson process, with bursts on top if `every_s` is above 0.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrivals {
    /// Requests a second, outside of bursts.
    pub per_s: f64,
    /// Seconds from one burst's beginning to the next one's; 0: none.
    #[serde(default)]
    pub burst_every_s: f64,
    /// Seconds a burst lasts.
    #[serde(default)]
    pub burst_s: f64,
    /// How many times more requests arrive in a burst.
    #[serde(default = "unit")]
    pub burst_factor: f64,
}

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// In the tables.
    pub name: String,
    /// How often it is asked, beside the others.
    pub share: f64,
    /// An example of what is asked: its features and family are the real ones, found as for any request.
    pub ask: String,
    /// Family to take instead of the classifier's.
    #[serde(default)]
    pub family: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: Spread,
    /// Tokens of the answer.
    pub output_tokens: Spread,
    /// Share of the prompt that backends with `caches_prefixes` have in their cache.
    #[serde(default)]
    pub cached: f64,
}

/// A number that varies: log-normal.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Half are below.
    pub median: f64,
    /// Standard deviation of the logarithm; 0.5: two of three within a factor of 1.65.
    #[serde(default)]
    pub spread: f64,
}

fn one() -> u64 {
    1
}

fn unit() -> f64 {
    1.0
}

fn second() -> f64 {
    1.0
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        if self.requests == 0 || self.requests > REQUESTS_MAX {
            return Err(format!("requests must be between 1 and {REQUESTS_MAX}"));
        }
        positive("replan_s", self.replan_s)?;
        positive("arrivals.per_s", self.arrivals.per_s)?;
        not_negative("arrivals.burst_every_s", self.arrivals.burst_every_s)?;
        not_negative("arrivals.burst_s", self.arrivals.burst_s)?;
        positive("arrivals.burst_factor", self.arrivals.burst_factor)?;
        if self.mix.is_empty() || self.backend.is_empty() {
            return Err("there must be a [[mix]] and a [[backend]]".to_owned());
        }
        for kind in &self.mix {
            let of = |field: &str| format!("mix `{}`: {field}", kind.name);
            positive(&of("share"), kind.share)?;
            share(&of("cached"), kind.cached)?;
            for (field, spread) in [("prompt_tokens", kind.prompt_tokens), ("output_tokens", kind.output_tokens)] {
                positive(&of(field), spread.median)?;
                if !(0.0..=3.0).contains(&spread.spread) {
                    return Err(of(&format!("{field}.spread must be between 0 and 3")));
                }
            }
            if let Some(word) = &kind.family
                && Family::named(word).is_none()
            {
                return Err(of(&format!("`{word}` is no family")));
            }
        }
        servers::check(&self.processor, &self.backend)
    }
}
