//! What is asked for in a simulation, and when: kinds with an example each, as a scenario says them, or the requests of a
//! log. Must never decide.

use super::scenario::{Arrivals, Scenario, Spread};
use crate::classify::{Classifier, Family, Judged};
use crate::features::Features;
use crate::latency::Ask;
use crate::question::{CondensedSize, JudgedFamily};
use crate::unwrap;
use weir_protocol::{ChatRequest, Message, Role};

/// One request, or one that stands for all of its kind.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The row of the report it counts in.
    pub(super) kind: usize,
    pub(super) features: Features,
    pub(super) judged: Option<JudgedFamily>,
    pub(super) family: Family,
    pub(super) tenant: String,
    /// The conversation's number; `None`: another one at each decision.
    pub(super) conversation: Option<u64>,
    pub(super) condensed: Option<CondensedSize>,
    /// The backends planned for a model that the caller named: no policy is asked.
    pub(super) pinned: Option<Vec<String>>,
    /// What the latency model is asked.
    pub(super) ask: Ask,
    pub(super) prompt_tokens: Spread,
    pub(super) output_tokens: Spread,
    pub(super) cached: f64,
    /// How it was seen to be answered.
    pub(super) own: Option<Own>,
}

/// An answer that was seen.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) backend: String,
    /// What it took over what the backend's figures say.
    pub(super) factor: f64,
    /// Denoise steps, or tokens of an AR answer.
    pub(super) steps: f64,
}

/// When they come, and which.
#[derive(Debug, Clone)]
pub(super) enum Coming {
    /// At random; up to which of a draw below the last number each is meant.
    Drawn(Arrivals, Vec<f64>),
    /// At these seconds, ascending, in the order of the list; then all again, so many seconds later.
    Recorded(Vec<f64>, f64),
}

impl Coming {
    pub(super) fn drawn(arrivals: Arrivals, shares: impl Iterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let up_to = shares.map(|share| {
            sum += share;
            sum
        });
        Coming::Drawn(arrivals, up_to.collect())
    }
}

/// The kinds of a scenario, one after the other.
pub(super) fn of_scenario(scenario: &Scenario) -> Vec<Asked> {
    let kinds = scenario.mix.iter().enumerate().map(|(kind, says)| {
        let turn = Message::text(Role::User, says.ask.clone());
        let request = ChatRequest { messages: vec![turn], ..ChatRequest::default() };
        let asked = unwrap::asked(&request);
        let mut features = Features::of_asked(&request, &asked);
        let judged = Classifier::embedded().classify(&asked, &features);
        let judged = says.family.as_deref().and_then(Family::named).map_or(judged, Judged::named);
        features.prompt_tokens_estimate = says.prompt_tokens.median as u64;
        features.prompt_bytes = features.prompt_tokens_estimate.saturating_mul(4);
        let ask = Ask {
            family: judged.family,
            prompt_tokens: features.prompt_tokens_estimate,
            output_tokens: says.output_tokens.median as u64,
            max_tokens: 0,
            continues: says.cached > 0.0,
            in_flight: 0,
        };
        Asked {
            kind,
            features,
            judged: Some(judged.into()),
            family: judged.family,
            tenant: String::new(),
            conversation: None,
            condensed: None,
            pinned: None,
            ask,
            prompt_tokens: says.prompt_tokens,
            output_tokens: says.output_tokens,
            cached: says.cached,
            own: None,
        }
    });
    kinds.collect()
}
