//! From a request to steps: the policy's plan with each name replaced by its service, or the reason there is none.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use weir_protocol::{ChatRequest, Denial, EngineError};
use weir_router_policies::canary::Arm;
use weir_router_policies::condense::Condensed;
use weir_router_policies::latency::Ask;
use weir_router_policies::policy::PIN;
use weir_router_policies::{BackendFacts, BackendRole, RoutePlan, Turn};

use super::RouteReport;
use super::asking::{Asking, Beside};
use super::balance::{self, Member};
use super::dice::Dice;
use super::offers::{self, Offers};
use super::open::Step;
use super::policies::Policies;
use super::standing::Class;
use crate::backends::{Backend, Registry};
use crate::config::nearest;

/// The id that leaves the choice to the policy.
const AUTO: &str = "auto";
/// Most characters of an unknown model id that are said back.
const ECHO_MAX: usize = 64;

/// What to do, and what to say about it.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) report: RouteReport,
    /// The policy's decision, whole.
    pub(super) decision: Arc<RoutePlan>,
    /// Requests that should take about as long.
    pub(super) class: Class,
    /// Whether nobody waits for the answer.
    pub(super) background: bool,
    /// Which turn of which conversation it is.
    pub(super) turn: Turn,
    /// As far as its time depends on it.
    pub(super) ask: Ask,
    /// Whose policy decided.
    pub(super) arm: Arm,
    /// What the shadow decided. Rare, and large.
    pub(super) shadow: Option<Box<ShadowDecision>>,
}

/// The shadow's decision, with the condensed request it was made about.
pub(super) struct ShadowDecision {
    pub(super) plan: RoutePlan,
    pub(super) condensed: Option<Condensed>,
}

/// Plans `request`.
pub(super) fn plan(
    backends: &Registry,
    facts: &[BackendFacts],
    policies: &Policies,
    request: &ChatRequest,
    (dice, beside): (&Dice, Beside<'_>),
) -> Result<Plan, EngineError> {
    let model = request.model.as_str();
    let owner = owner(backends, facts, model)?;
    let offers = Offers::of(request);
    // Nobody could take them up: they are no reason to keep the request from anybody.
    let request = match &offers {
        Some(offers) if !offers.are_run(backends, facts) => offers.without(),
        _ => request,
    };
    let mut asking = Asking::of(request, owner, beside);
    let (arm, policy) = policies.deciding(asking.turn.conversation);
    asking.condense_for(request, policy);
    let plan = policy.decide(&asking.question(request, facts));
    let shadow = policies.shadow(&plan).map(|policy| {
        let live = asking.condensed.take();
        asking.condense_for(request, policy);
        let plan = policy.decide(&asking.question(request, facts));
        Box::new(ShadowDecision { plan, condensed: std::mem::replace(&mut asking.condensed, live) })
    });
    let background = request.background || plan.features.trigger.is_background();
    let condensed = asking.condensed.map(|one| {
        let request = ChatRequest { background, ..one.request };
        // No upstream gets the caller's own words here, which alone name such tools.
        Arc::new(if offers.is_some() { offers::left_out(request) } else { request })
    });
    // The id is the owner's word, or its group's: whoever else stands in gets asked for its own default.
    let model_for = |backend: &Backend| {
        let theirs =
            owner.is_some_and(|owner| backend.facts.answers_to(owner)) && backend.models.iter().any(|own| own == model);
        theirs.then(|| model.to_owned())
    };
    let steps = plan.attempts.iter().filter_map(|attempt| {
        let backend = backends.by_name(&attempt.backend)?;
        let (instead, left_out) = match (&condensed, &offers) {
            (Some(condensed), _) if attempt.condensed => (Some(Arc::clone(condensed)), offers.is_some()),
            (_, Some(offers)) if !offers.are_run_by(backend) => (Some(offers.without_in(background)), true),
            _ => (None, false),
        };
        let step = Step {
            backend: backend.name.clone(),
            service: backend.service.clone(),
            standing: Arc::clone(&backend.standing),
            retries: backend.asking.retries,
            caches_prefixes: backend.asking.caches_prefixes,
            model: model_for(backend),
            decoding: attempt.decoding.clone(),
            first_content: attempt.first_content_ms.map(Duration::from_millis),
            instead,
            left_out,
        };
        // Whoever is named is asked first, all the same.
        let is_last = left_out && plan.rule != PIN && !backend.server_tools.may_go;
        Some((is_last, (attempt.group.as_deref(), step)))
    });
    let mut steps: Vec<_> = steps.collect();
    steps.sort_by_key(|(is_last, _)| *is_last);
    let steps = steps.into_iter().map(|(_, step)| step).collect();
    let steps = balanced(steps, asking.turn.conversation, dice);
    let Some(first) = steps.first() else {
        if facts.len() < backends.iter().count() {
            return Err(forbidden());
        }
        return Err(EngineError::internal(format!("rule `{}` of the policy finds no backend", plan.rule)));
    };
    let (first, left_out) = (first.backend.clone(), first.left_out);
    for note in &plan.notes {
        tracing::warn!(rule = %plan.rule, note = %note, "routing");
    }
    let (route, reason) = (plan.route.clone(), plan.reason.clone());
    let report = RouteReport { route, reason, backend: first, failed: Vec::new(), left_out };
    let class = Class::new(&plan.rule, plan.features.prompt_tokens_estimate);
    let background = plan.features.trigger.is_background();
    Ok(Plan {
        steps,
        report,
        decision: Arc::new(plan),
        class,
        background,
        turn: asking.turn,
        ask: asking.ask,
        arm,
        shadow,
    })
}

/// The backend or group that alone has this model; `None` where it is a name that policies know.
///
/// # Errors
/// Nobody has it.
pub(super) fn owner<'a>(
    backends: &'a Registry,
    facts: &[BackendFacts],
    model: &str,
) -> Result<Option<&'a str>, EngineError> {
    find_owner(backends, facts, model).ok_or_else(|| unknown(backends, facts, model))
}

/// Those of the backends and groups of these names; of none, all.
pub(super) fn named<'a>(facts: &'a [BackendFacts], names: &[String]) -> Cow<'a, [BackendFacts]> {
    if names.is_empty() {
        return Cow::Borrowed(facts);
    }
    let is_named = |one: &&BackendFacts| names.iter().any(|name| one.answers_to(name));
    Cow::Owned(facts.iter().filter(is_named).cloned().collect())
}

/// Whether one of the backends and groups of these `names` (empty: all) may answer who asks for `model`.
pub(crate) fn serves(backends: &Registry, names: &[String], model: &str) -> bool {
    find_owner(backends, &named(&backends.facts(), names), model).is_some()
}

/// The same; `None`: nobody has it.
pub(super) fn find_owner<'a>(backends: &'a Registry, facts: &[BackendFacts], model: &str) -> Option<Option<&'a str>> {
    let means_backend = model == AUTO
        || facts.iter().any(|one| one.answers_to(model))
        || BackendRole::ALL.into_iter().any(|role| role.as_str() == model && facts.iter().any(|one| one.role == role));
    if means_backend {
        return Some(None);
    }
    let mut theirs = facts.iter().filter_map(|one| backends.by_name(&one.name));
    let owner = theirs.find(|backend| backend.models.iter().any(|own| own == model))?;
    Some(Some(owner.facts.group.as_deref().unwrap_or(&owner.name)))
}

/// For a tenant whose backends do not include the one that could.
fn forbidden() -> EngineError {
    let message = "no backend that this key may use can take this request".to_owned();
    EngineError::Denied { denial: Denial::Forbidden, message, retry_after: None }
}

/// Puts the members of each group into the order in which they stand now.
fn balanced(steps: Vec<(Option<&str>, Step)>, conversation: u64, dice: &Dice) -> Vec<Step> {
    let now = Instant::now();
    let mut out = Vec::with_capacity(steps.len());
    let mut steps = steps.into_iter().peekable();
    while let Some((group, step)) = steps.next() {
        let mut place = vec![step];
        while group.is_some()
            && let Some((_, step)) = steps.next_if(|(other, _)| *other == group)
        {
            place.push(step);
        }
        if place.len() == 1 {
            out.append(&mut place);
            continue;
        }
        let member = |step: &Step| Member {
            name: step.standing.name().to_owned(),
            is_in: step.standing.is_in(now),
            in_flight: step.standing.in_flight(),
            cost: step.standing.cost(now),
            caches: step.caches_prefixes,
        };
        let members: Vec<Member> = place.iter().map(member).collect();
        let mut place: Vec<Option<Step>> = place.into_iter().map(Some).collect();
        let order = balance::order(&members, conversation, dice);
        out.extend(order.into_iter().filter_map(|at| place.get_mut(at)?.take()));
    }
    out
}

fn unknown(backends: &Registry, facts: &[BackendFacts], model: &str) -> EngineError {
    if facts.len() < backends.iter().count()
        && (backends.by_model(model).is_some() || backends.by_name(model).is_some())
    {
        return forbidden();
    }
    let known = backends.models();
    let theirs = known.iter().map(|entry| entry.id.as_str()).filter(|id| find_owner(backends, facts, id).is_some());
    let near = nearest(model, theirs);
    let hint = match near {
        Some(near) => format!(" (did you mean `{near}`?)"),
        None => " (`GET /v1/models` lists the known ones)".to_owned(),
    };
    EngineError::UnknownModel { model: model.chars().take(ECHO_MAX).collect(), hint }
}
