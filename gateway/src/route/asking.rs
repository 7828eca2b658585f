//! From a request to the question a policy answers: everything that is known at this moment. Must never decide.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use weir_protocol::ChatRequest;
use weir_router_policies::classify::Classifier;
use weir_router_policies::condense::{Condensed, condense};
use weir_router_policies::latency::Ask;
use weir_router_policies::unwrap::{self, Asked};
use weir_router_policies::{BackendFacts, Features, JudgedFamily, Moment, Policy, Predicted, Question, Turn};

/// What the gateway knows beside the request.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    /// The tenant's name; empty without tenants.
    pub(super) tenant: &'a str,
    pub(super) now: Moment,
    /// Who answered last in a turn.
    pub(super) stays_with: &'a dyn Fn(Turn) -> Option<Arc<str>>,
    /// What backends would need for it.
    pub(super) predicts: &'a dyn Fn(&Ask) -> Vec<Predicted>,
}

/// The time as policies see it.
pub fn now() -> Moment {
    Moment::of_unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// All that is known of one request.
pub(super) struct Asking<'a> {
    pub(super) asked: Asked<'a>,
    pub(super) features: Features,
    pub(super) family: Option<JudgedFamily>,
    pub(super) predicted: Vec<Predicted>,
    pub(super) condensed: Option<Condensed>,
    pub(super) turn: Turn,
    /// As far as its time depends on it.
    pub(super) ask: Ask,
    stay: Option<Arc<str>>,
    owner: Option<&'a str>,
    now: Moment,
    tenant: &'a str,
}

impl<'a> Asking<'a> {
    /// `owner`: the backend or group that alone has the model.
    pub(super) fn of(request: &'a ChatRequest, owner: Option<&'a str>, beside: Beside<'a>) -> Self {
        let asked = unwrap::asked(request);
        let features = Features::of_asked(request, &asked);
        let turn = Turn::of(request, &asked, &features);
        let judged = Classifier::embedded().classify(&asked, &features);
        let ask = Ask::of(judged.family, &features);
        Asking {
            family: Some(judged.into()),
            predicted: (beside.predicts)(&ask),
            ask,
            condensed: None,
            turn,
            stay: (beside.stays_with)(turn),
            owner,
            now: beside.now,
            tenant: beside.tenant,
            asked,
            features,
        }
    }

    /// Condenses the request as this policy wants it, if it does.
    pub(super) fn condense_for(&mut self, request: &ChatRequest, policy: &Policy) {
        let settings = policy.condenses();
        self.condensed = settings.and_then(|settings| condense(request, &self.features, settings));
    }

    /// The question, to be asked of the policy it was condensed for.
    pub(super) fn question<'b>(&'b self, request: &'b ChatRequest, facts: &'b [BackendFacts]) -> Question<'b> {
        Question {
            model: &request.model,
            owner: self.owner,
            features: self.features.clone(),
            backends: facts,
            family: self.family.clone(),
            predicted: &self.predicted,
            tenant: self.tenant,
            now: self.now,
            conversation: self.turn.conversation,
            decodes_itself: !request.diffusion.is_silent(),
            condensed: self.condensed.as_ref().map(|condensed| condensed.size),
            stay: self.stay.as_deref(),
        }
    }
}
