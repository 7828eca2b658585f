//! A decision that is explained instead of run: what was understood, what each rule came to and why, and the plan. Must
//! never run anything, and shows no text of the prompt.

use std::sync::Arc;

use serde::Serialize;
use weir_protocol::ChatRequest;
use weir_router_policies::canary::{Arm, RolledBack};
use weir_router_policies::condense::LeftOut;
use weir_router_policies::latency::Ask;
use weir_router_policies::plan::{PassedOver, PlannedAttempt, Stay};
use weir_router_policies::policy::{Explanation, RuleOutcome};
use weir_router_policies::question::CondensedSize;
use weir_router_policies::{BackendFacts, Features, JudgedFamily, Moment, Policy, Predicted, Turn};

use super::asking::{Asking, Beside};
use super::foresight::Foresight;

/// See the module.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The policy, by the file or profile it is from.
    pub policy: String,
    /// The model the caller named.
    pub model: String,
    /// The agent, where something names it.
    pub agent: Option<String>,
    /// The conversation, where something names it.
    pub session: Option<String>,
    /// What was understood.
    pub features: Features,
    /// The task family with its probability.
    pub family: Option<JudgedFamily>,
    /// What is expected of backends, as measured; the rules see this.
    pub predicted: Vec<Predicted>,
    /// Outside of a gateway: what the published figures say of backends without measurements. No rule sees it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub guessed: Vec<Predicted>,
    /// Every rule, in order.
    pub rules: Vec<RuleOutcome>,
    /// What would be done.
    pub plan: Planned,
    /// The condensed request, where the policy condenses and this one can be.
    pub condensed: Option<CondensedShown>,
    /// Whether a canary decides, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryShown>,
    /// What the shadow policy would do, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowShown>,
}

/// Which policy this conversation has.
#[derive(Debug, Clone, Serialize)]
pub struct CanaryShown {
    /// `live` or `canary`.
    pub arm: Arm,
    /// Why the canary was given up.
    pub rolled_back: Option<RolledBack>,
}

/// The shadow's decision.
#[derive(Debug, Clone, Serialize)]
pub struct ShadowShown {
    /// The policy.
    pub policy: String,
    /// Its rule.
    pub rule: String,
    /// What it aims at.
    pub route: String,
    /// Whom it would ask first.
    pub first: Option<String>,
    /// `same`, `rule` or `backend`.
    pub difference: &'static str,
}

/// The plan.
#[derive(Debug, Clone, Serialize)]
pub struct Planned {
    /// What it aims at.
    pub route: String,
    /// The deciding rule, or `pin`.
    pub rule: String,
    /// One line.
    pub reason: String,
    /// In order.
    pub attempts: Vec<PlannedAttempt>,
    /// Wanted, but cannot take the request.
    pub passed_over: Vec<PassedOver>,
    /// Whether the backend of this user turn goes on.
    pub stay: Option<Stay>,
    /// Trouble.
    pub notes: Vec<String>,
}

/// What the diffusion engine would get.
#[derive(Debug, Clone, Serialize)]
pub struct CondensedShown {
    /// Its size.
    #[serde(flatten)]
    pub size: CondensedSize,
    /// What it lacks.
    pub left_out: LeftOut,
}

impl Explained {
    /// For a request that nobody makes, outside of a gateway: nothing is under way. `foresight`: what a gateway has kept.
    pub fn of(
        request: &ChatRequest,
        policy: &Policy,
        (facts, foresight): (&[BackendFacts], &Foresight),
        owner: Option<&str>,
        (tenant, now): (&str, Moment),
    ) -> Self {
        let nobody = |_: Turn| -> Option<Arc<str>> { None };
        let predicts = |ask: &Ask| foresight.predicted(facts, ask, |_| 0);
        let mut asking = Asking::of(request, owner, Beside { tenant, now, stays_with: &nobody, predicts: &predicts });
        asking.condense_for(request, policy);
        let guessed = foresight.guessed(facts, &asking.ask);
        Explained { guessed, ..Explained::told(request, policy, facts, asking) }
    }

    pub(super) fn told(request: &ChatRequest, policy: &Policy, facts: &[BackendFacts], asking: Asking<'_>) -> Self {
        let Explanation { policy: origin, predicted, rules, plan } = policy.explain(&asking.question(request, facts));
        Explained {
            policy: origin,
            model: request.model.clone(),
            agent: asking.asked.agent.map(|agent| agent.into_owned()),
            session: asking.asked.session.map(|session| session.into_owned()),
            features: plan.features,
            family: plan.family,
            predicted,
            guessed: Vec::new(),
            rules,
            plan: Planned {
                route: plan.route,
                rule: plan.rule,
                reason: plan.reason,
                attempts: plan.attempts,
                passed_over: plan.passed_over,
                stay: plan.stay,
                notes: plan.notes,
            },
            condensed: asking.condensed.map(|one| CondensedShown { size: one.size, left_out: one.left_out }),
            canary: None,
            shadow: None,
        }
    }
}
