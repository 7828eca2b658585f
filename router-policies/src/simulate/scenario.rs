//! What is simulated, as its file says it. All mistakes are found when it is read, so a [`Scenario`] that exists can be
//! run. Must never need more than the file: no engine, no network.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::classify::Family;
use crate::facts::{BackendFacts, BackendRole};

/// Requests at most: what a counter of 32 bits holds.
const REQUESTS_MAX: u64 = 1 << 31;
/// Servers at most, all backends together.
const SERVERS_MAX: usize = 100_000;

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

/// Equal servers behind one name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// As policies name it.
    pub name: String,
    /// `ar` or `diffusion`.
    pub role: String,
    /// Servers.
    #[serde(default = "one_server")]
    pub replicas: usize,
    /// Requests a server works on at once.
    pub concurrency: u32,
    /// Requests that may wait at a server; beyond it the plan goes on.
    #[serde(default)]
    pub queue: u32,
    /// Window, for the policy.
    #[serde(default = "window")]
    pub context_tokens: u64,
    /// Until the first content, beside prompt and decoding.
    pub overhead_ms: f64,
    /// To read a thousand prompt tokens.
    pub prefill_ms_per_1k: f64,
    /// One token of an AR backend, one denoise step of a diffusion backend, alone on its server.
    pub forward_ms: f64,
    /// How much each other request in work slows a forward down, as a share of `forward_ms`.
    #[serde(default)]
    pub slowdown: f64,
    /// How much each request in work at another backend slows a forward down, as a share of `forward_ms`, by that
    /// backend's name: for backends on one machine.
    #[serde(default)]
    pub slowed_by: BTreeMap<String, f64>,
    /// Tokens a denoise step gives, by family, where they differ from the published ones.
    #[serde(default)]
    pub tokens_per_forward: BTreeMap<String, f64>,
    /// Standard deviation of the logarithm of what a request takes.
    #[serde(default = "tenth")]
    pub spread: f64,
    /// Share of attempts that fail before their first content.
    #[serde(default)]
    pub failures: f64,
    /// Times in which every attempt fails at once.
    #[serde(default)]
    pub outage: Vec<Outage>,
    /// Whether it keeps the beginnings of conversations.
    #[serde(default)]
    pub caches_prefixes: bool,
    /// Money for an hour of one server, to size by.
    #[serde(default)]
    pub price_per_hour: f64,
}

/// From when until when, in simulated seconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Begin.
    pub from_s: f64,
    /// End.
    pub until_s: f64,
}

fn one() -> u64 {
    1
}

fn one_server() -> usize {
    1
}

fn unit() -> f64 {
    1.0
}

fn second() -> f64 {
    1.0
}

fn window() -> u64 {
    32_768
}

fn tenth() -> f64 {
    0.1
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
        let positive = |name: &str, value: f64| {
            if value.is_finite() && value > 0.0 { Ok(()) } else { Err(format!("{name} must be a number above 0")) }
        };
        let share = |name: &str, value: f64| {
            if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(format!("{name} must be between 0 and 1")) }
        };
        let not_negative = |name: &str, value: f64| {
            if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(format!("{name} must not be below 0")) }
        };
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
        let mut names: Vec<&str> = Vec::new();
        for fleet in &self.backend {
            let of = |field: &str| format!("backend `{}`: {field}", fleet.name);
            if names.contains(&fleet.name.as_str()) {
                return Err(of("is there twice"));
            }
            names.push(&fleet.name);
            if !BackendRole::ALL.iter().any(|role| role.as_str() == fleet.role) {
                return Err(of("role must be `ar` or `diffusion`"));
            }
            if fleet.replicas == 0 || fleet.concurrency == 0 {
                return Err(of("replicas and concurrency must be at least 1"));
            }
            not_negative(&of("overhead_ms"), fleet.overhead_ms)?;
            not_negative(&of("prefill_ms_per_1k"), fleet.prefill_ms_per_1k)?;
            positive(&of("forward_ms"), fleet.forward_ms)?;
            not_negative(&of("slowdown"), fleet.slowdown)?;
            not_negative(&of("price_per_hour"), fleet.price_per_hour)?;
            share(&of("failures"), fleet.failures)?;
            if !(0.0..=3.0).contains(&fleet.spread) {
                return Err(of("spread must be between 0 and 3"));
            }
            for (word, figure) in &fleet.tokens_per_forward {
                if Family::named(word).is_none() {
                    return Err(of(&format!("tokens_per_forward: `{word}` is no family")));
                }
                positive(&of("tokens_per_forward"), *figure)?;
            }
        }
        for fleet in &self.backend {
            for (name, figure) in &fleet.slowed_by {
                let of = format!("backend `{}`: slowed_by.{name}", fleet.name);
                if !names.contains(&name.as_str()) || *name == fleet.name {
                    return Err(format!("{of}: no other backend has this name"));
                }
                not_negative(&of, *figure)?;
            }
        }
        let servers: usize = self.backend.iter().map(|fleet| fleet.replicas.min(SERVERS_MAX + 1)).sum();
        if servers > SERVERS_MAX {
            return Err(format!("{servers} servers, at most {SERVERS_MAX}"));
        }
        Ok(())
    }
}

impl Fleet {
    /// How it answers.
    pub(super) fn role(&self) -> BackendRole {
        // Checked when the file was read: what is not diffusion is AR.
        if self.role == BackendRole::Diffusion.as_str() { BackendRole::Diffusion } else { BackendRole::Ar }
    }

    /// As a policy sees it.
    pub fn facts(&self) -> BackendFacts {
        BackendFacts {
            name: self.name.clone(),
            group: None,
            role: self.role(),
            context_tokens: self.context_tokens,
            takes_images: false,
            takes_tools: true,
            honours_unsupported: self.role() == BackendRole::Ar,
            local: true,
            bytes_per_token: 4.0,
        }
    }
}
