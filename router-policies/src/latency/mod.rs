//! How long each backend would take for a request, learnt from the answers it gave: prefill rate, cached prefix, queue,
//! time of a forward, tokens per forward and length of an answer by family, errors; with an interval, and with a record
//! of how wrong the predictions were. Begins with published figures ([`Priors`]), forgets by half-life, survives a
//! restart. Must never look at a clock: whoever calls says what time it is, in seconds since any fixed moment.
//!
//! [`Ask`] and [`Seen`] go in, [`Predicted`] comes out; `backend` holds the arithmetic for one backend, `line` and
//! `fading` what it is made of.

mod backend;
mod fading;
mod line;
mod priors;
mod probing;
mod saved;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use priors::Priors;
pub use saved::SavedError;

use self::backend::Learnt;
use self::probing::Probing;
use crate::classify::Family;
use crate::facts::{BackendFacts, BackendRole};
use crate::features::Features;
use crate::question::Predicted;

/// A request, as far as its time depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask {
    /// What kind of work it is.
    pub family: Family,
    /// Tokens to be read, by estimate.
    pub prompt_tokens: u64,
    /// Tokens of the answer, by estimate; 0: not known.
    pub output_tokens: u64,
    /// Most tokens of the answer; 0: no limit.
    pub max_tokens: u64,
    /// Whether the conversation has gone on for a turn or more, so that its beginning may be in a cache.
    pub continues: bool,
    /// Other attempts under way at the backend.
    pub in_flight: u32,
}

impl Ask {
    /// What is known of a request of this family before anybody was chosen.
    pub fn of(family: Family, features: &Features) -> Ask {
        Ask {
            family,
            prompt_tokens: features.prompt_tokens_estimate,
            output_tokens: features.expected_output_tokens,
            max_tokens: features.max_tokens,
            continues: features.user_turns > 1 || features.tool_rounds > 0,
            in_flight: 0,
        }
    }

    /// As it meets a backend: its own tokens (the estimate is made with four bytes a token), and what is under way there.
    pub fn at(&self, facts: &BackendFacts, in_flight: u32) -> Ask {
        let bytes = f64::from(facts.bytes_per_token);
        let bytes = if bytes.is_finite() && bytes > 0.0 { bytes } else { 4.0 };
        Ask { in_flight, prompt_tokens: (self.prompt_tokens as f64 * 4.0 / bytes) as u64, ..*self }
    }
}

/// An answer that came to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// What was asked, with the attempts that were under way then.
    pub ask: Ask,
    /// Seconds until the first content.
    pub ttft_s: f64,
    /// Seconds until the end.
    pub total_s: f64,
    /// Tokens of the prompt, as the backend counted; 0: it did not say.
    pub prompt_tokens: u64,
    /// Of them from a cache.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Denoise steps, where a diffusion engine answered.
    pub steps: Option<u32>,
}

/// How the model forgets and probes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencySettings {
    /// Seconds after which what was seen counts half.
    pub half_life_s: f64,
    /// Every so many decisions a backend not seen lately is asked first; 0: never.
    pub probe_every: u64,
    /// Seconds without an answer after which a backend counts as not seen lately.
    pub probe_after_s: f64,
}

impl Default for LatencySettings {
    fn default() -> Self {
        LatencySettings { half_life_s: 600.0, probe_every: 0, probe_after_s: 300.0 }
    }
}

/// How wrong the predictions for a backend were lately.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnError {
    /// The backend.
    pub backend: String,
    /// Typical relative error of the time to the first content: 0.2 is a fifth too long or too short.
    pub ttft: f64,
    /// The same of the time to the end.
    pub total: f64,
    /// Share of first contents inside their interval; 0.8 is meant.
    pub ttft_inside: f64,
    /// Share of ends inside their interval.
    pub total_inside: f64,
}

/// Answers without which nothing is predicted of a backend.
const MEASURED: f64 = 3.0;

/// See the module.
#[derive(Debug, Clone)]
pub struct LatencyModel {
    priors: Priors,
    settings: LatencySettings,
    backends: BTreeMap<String, Learnt>,
    probing: Probing,
}

impl LatencyModel {
    /// One that has seen nothing.
    pub fn new(priors: Priors, settings: LatencySettings) -> Self {
        LatencyModel { priors, settings, backends: BTreeMap::new(), probing: Probing::default() }
    }

    /// An answer of `backend` came to its end.
    pub fn seen(&mut self, backend: &str, role: BackendRole, seen: &Seen, now: f64) {
        let learnt = self.backends.entry(backend.to_owned()).or_insert_with(|| Learnt::new(now));
        learnt.seen(role, seen, &self.priors, now, self.settings.half_life_s);
    }

    /// An attempt at `backend` failed by its fault.
    pub fn failed(&mut self, backend: &str, now: f64) {
        let learnt = self.backends.entry(backend.to_owned()).or_insert_with(|| Learnt::new(now));
        learnt.failed(now, self.settings.half_life_s);
    }

    /// What `backend` would do.
    pub fn predict(&self, backend: &str, role: BackendRole, ask: &Ask, now: f64) -> Predicted {
        let learnt = self.backends.get(backend).map_or_else(|| Cow::Owned(Learnt::new(now)), Cow::Borrowed);
        let (ttft, total) = learnt.predict(role, ask, &self.priors);
        Predicted { backend: backend.to_owned(), ttft, total, error_rate: learnt.error_rate() }
    }

    /// Sightings of `backend` that still count; 0: what is predicted of it are priors.
    pub fn weight(&self, backend: &str, now: f64) -> f64 {
        self.backends.get(backend).map_or(0.0, |learnt| learnt.weight(now, self.settings.half_life_s))
    }

    /// What each of `facts` would do; `in_flight` says how many attempts each has under way. Backends of which fewer than
    /// three answers still count are left out: what could be said of them is a guess, and a decision wants more.
    pub fn predictions(
        &self,
        facts: &[BackendFacts],
        ask: &Ask,
        in_flight: impl Fn(&str) -> u32,
        now: f64,
    ) -> Vec<Predicted> {
        let one =
            |facts: &BackendFacts| self.predict(&facts.name, facts.role, &ask.at(facts, in_flight(&facts.name)), now);
        facts.iter().filter(|facts| self.weight(&facts.name, now) >= MEASURED).map(one).collect()
    }

    /// What the published figures, and the little that was seen, say of those of `facts` that [`Self::predictions`] leaves
    /// out: for people to look at, never for a decision.
    pub fn guesses(&self, facts: &[BackendFacts], ask: &Ask, now: f64) -> Vec<Predicted> {
        let unknown = facts.iter().filter(|facts| self.weight(&facts.name, now) < MEASURED);
        unknown.map(|facts| self.predict(&facts.name, facts.role, &ask.at(facts, 0), now)).collect()
    }

    /// A decision is made among `candidates`. Every so many, the one of them that was not seen for the longest time is
    /// named, if that is long enough: it should be asked first, so that its figures stay true.
    pub fn probe(&mut self, candidates: &[&str], now: f64) -> Option<usize> {
        let last = |name: &&str| self.backends.get(*name).map_or(f64::NEG_INFINITY, |learnt| learnt.at);
        let ages: Vec<f64> = candidates.iter().map(last).collect();
        self.probing.due(&ages, now, &self.settings)
    }

    /// How wrong it was lately, by backend.
    pub fn own_errors(&self) -> Vec<OwnError> {
        let judged = self.backends.iter().filter(|(_, learnt)| learnt.is_judged());
        let error = |(backend, learnt): (&String, &Learnt)| {
            let [ttft, total] = learnt.own_error();
            let backend = backend.clone();
            OwnError { backend, ttft: ttft.0, total: total.0, ttft_inside: ttft.1, total_inside: total.1 }
        };
        judged.map(error).collect()
    }

    /// From now on it forgets and probes like this.
    pub fn adopt(&mut self, settings: LatencySettings) {
        self.settings = settings;
    }

    /// Forgets backends that are configured no more.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.backends.retain(|name, _| known(name));
    }
}
