//! What answers in a simulation, as a file says it: backends, and the processors they share. Must never need more than
//! the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::classify::Family;
use crate::facts::{BackendFacts, BackendRole};

/// Servers at most, all backends together.
const SERVERS_MAX: usize = 100_000;
/// In tables by family: all that have no entry of their own.
pub(super) const ANY: &str = "any";

/// A file of servers alone: for requests that come from a log.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    /// What backends share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processor: Vec<Processor>,
    /// What answers.
    #[serde(default)]
    pub backend: Vec<Fleet>,
}

/// Machines of one kind, on each of which servers of several backends may run.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// As backends name it.
    pub name: String,
    /// How much of `demand` it serves at full speed at once; beyond that all in work on it are equally slower.
    pub capacity: f64,
    /// How many there are: a backend's first server is on the first, and so on, and round again.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub machines: usize,
}

/// Equal servers behind one name.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// As policies name it.
    pub name: String,
    /// `ar` or `diffusion`.
    pub role: String,
    /// Servers.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub replicas: usize,
    /// Requests a server works on at once.
    pub concurrency: u32,
    /// Requests that may wait at a server; beyond it the plan goes on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub queue: u32,
    /// The processor its servers run on; without it each has a machine of its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub processor: Option<String>,
    /// What a request in work takes of the processor.
    #[serde(default = "unit", skip_serializing_if = "is_unit")]
    pub demand: f64,
    /// Window, for the policy.
    #[serde(default = "window")]
    pub context_tokens: u64,
    /// Until the first content, beside prompt and decoding.
    pub overhead_ms: f64,
    /// To read a thousand prompt tokens.
    pub prefill_ms_per_1k: f64,
    /// One token of an AR backend, one denoise step of a diffusion backend, alone on its server.
    pub forward_ms: f64,
    /// What each other request in work on the server adds to the time that all of them take, as a share.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slowdown: f64,
    /// Tokens a denoise step gives, by family, where they differ from the published ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tokens_per_forward: BTreeMap<String, f64>,
    /// Standard deviation of the logarithm of what a request takes.
    #[serde(default = "tenth")]
    pub spread: f64,
    /// By family, or for `any`: equally likely factors of what a request takes, ascending, in place of `spread`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub factors: BTreeMap<String, Vec<f64>>,
    /// Share of attempts that fail before their first content.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures: f64,
    /// The same by family, where it differs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures_by: BTreeMap<String, f64>,
    /// Times in which every attempt fails at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outage: Vec<Outage>,
    /// Whether it keeps the beginnings of conversations.
    #[serde(default, skip_serializing_if = "is_default")]
    pub caches_prefixes: bool,
    /// Money for an hour of one server, to size by.
    #[serde(default, skip_serializing_if = "is_default")]
    pub price_per_hour: f64,
}

/// From when until when, in simulated seconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Begin.
    pub from_s: f64,
    /// End.
    pub until_s: f64,
}

fn one() -> usize {
    1
}

fn unit() -> f64 {
    1.0
}

fn window() -> u64 {
    32_768
}

fn tenth() -> f64 {
    0.1
}

// Serde hands what it asks about over by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(value: &usize) -> bool {
    *value == 1
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_unit(value: &f64) -> bool {
    *value == 1.0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) fn positive(name: &str, value: f64) -> Result<(), String> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(format!("{name} must be a number above 0")) }
}

pub(super) fn share(name: &str, value: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(format!("{name} must be between 0 and 1")) }
}

pub(super) fn not_negative(name: &str, value: f64) -> Result<(), String> {
    if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(format!("{name} must not be below 0")) }
}

impl Servers {
    /// Reads a file. It is checked when it takes the place of others: it may name their processors.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn parse(text: &str) -> Result<Servers, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// The file.
    ///
    /// # Errors
    /// It cannot be written as TOML, which no value that was checked can bring about.
    pub fn written(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|error| error.to_string())
    }

    /// Takes `others` in, in place of those of the same name.
    ///
    /// # Errors
    /// Together they cannot be simulated.
    pub fn replaced_by(&mut self, others: Servers) -> Result<(), String> {
        self.processor.retain(|own| others.processor.iter().all(|other| other.name != own.name));
        self.backend.retain(|own| others.backend.iter().all(|other| other.name != own.name));
        self.processor.extend(others.processor);
        self.backend.extend(others.backend);
        check(&self.processor, &self.backend)
    }
}

/// Finds what cannot be simulated.
pub(super) fn check(processors: &[Processor], backends: &[Fleet]) -> Result<(), String> {
    let mut names: Vec<&str> = Vec::new();
    for processor in processors {
        let of = |field: &str| format!("processor `{}`: {field}", processor.name);
        if names.contains(&processor.name.as_str()) {
            return Err(of("is there twice"));
        }
        names.push(&processor.name);
        positive(&of("capacity"), processor.capacity)?;
        if processor.machines == 0 || processor.machines > SERVERS_MAX {
            return Err(of(&format!("machines must be between 1 and {SERVERS_MAX}")));
        }
    }
    let processors = std::mem::take(&mut names);
    for fleet in backends {
        if names.contains(&fleet.name.as_str()) {
            return Err(format!("backend `{}`: is there twice", fleet.name));
        }
        names.push(&fleet.name);
        fleet.check(&processors)?;
    }
    let servers: usize = backends.iter().map(|fleet| fleet.replicas.min(SERVERS_MAX + 1)).sum();
    if servers > SERVERS_MAX {
        return Err(format!("{servers} servers, at most {SERVERS_MAX}"));
    }
    Ok(())
}

impl Fleet {
    fn check(&self, processors: &[&str]) -> Result<(), String> {
        let of = |field: &str| format!("backend `{}`: {field}", self.name);
        let family = |word: &str| word == ANY || Family::named(word).is_some();
        if !BackendRole::ALL.iter().any(|role| role.as_str() == self.role) {
            return Err(of("role must be `ar` or `diffusion`"));
        }
        if self.replicas == 0 || self.concurrency == 0 {
            return Err(of("replicas and concurrency must be at least 1"));
        }
        if let Some(name) = self.processor.as_deref().filter(|name| !processors.contains(name)) {
            return Err(of(&format!("processor: none is named `{name}`")));
        }
        positive(&of("demand"), self.demand)?;
        not_negative(&of("overhead_ms"), self.overhead_ms)?;
        not_negative(&of("prefill_ms_per_1k"), self.prefill_ms_per_1k)?;
        positive(&of("forward_ms"), self.forward_ms)?;
        not_negative(&of("slowdown"), self.slowdown)?;
        not_negative(&of("price_per_hour"), self.price_per_hour)?;
        share(&of("failures"), self.failures)?;
        if !(0.0..=3.0).contains(&self.spread) {
            return Err(of("spread must be between 0 and 3"));
        }
        for (word, figure) in &self.tokens_per_forward {
            if Family::named(word).is_none() {
                return Err(of(&format!("tokens_per_forward: `{word}` is no family")));
            }
            positive(&of("tokens_per_forward"), *figure)?;
        }
        for (word, figure) in &self.failures_by {
            if Family::named(word).is_none() {
                return Err(of(&format!("failures_by: `{word}` is no family")));
            }
            share(&of(&format!("failures_by.{word}")), *figure)?;
        }
        for (word, factors) in &self.factors {
            let sound = factors.iter().all(|factor| factor.is_finite() && *factor > 0.0) && factors.is_sorted();
            if !family(word) || factors.is_empty() || !sound {
                return Err(of(&format!("factors.{word} must be a family's or `any`, numbers above 0, ascending")));
            }
        }
        Ok(())
    }

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
