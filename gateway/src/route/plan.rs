//! From a request to steps: the policy's plan with each name replaced by its service, or the reason there is none.

use std::time::Duration;

use weir_protocol::{ChatRequest, EngineError};
use weir_router_policies::{BackendFacts, BackendRole, Policy};

use super::RouteReport;
use super::run::Step;
use crate::backends::Registry;
use crate::config::nearest;

/// The id that leaves the choice to the policy.
const AUTO: &str = "auto";
/// Most characters of an unknown model id that are said back.
const ECHO_MAX: usize = 64;

/// What to do, and what to say about it.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) report: RouteReport,
    /// Whether nobody waits for the answer.
    pub(super) background: bool,
}

/// Plans `request`.
pub(super) fn plan(
    backends: &Registry,
    facts: &[BackendFacts],
    policy: &Policy,
    request: &ChatRequest,
) -> Result<Plan, EngineError> {
    let model = request.model.as_str();
    let means_backend = model == AUTO
        || backends.by_name(model).is_some()
        || BackendRole::ALL.into_iter().any(|role| role.as_str() == model && facts.iter().any(|one| one.role == role));
    let (plan, owner) = if means_backend {
        (policy.plan(request, facts), None)
    } else {
        let owner = backends.by_model(model).ok_or_else(|| unknown(backends, model))?;
        (policy.plan_pinned(request, &owner.name, facts), Some(owner.name.as_str()))
    };
    // The id is the owner's word: whoever stands in for it gets asked for its own default.
    let model_for = |backend: &str| (owner == Some(backend)).then(|| model.to_owned());
    let steps = plan.attempts.iter().filter_map(|attempt| {
        let backend = backends.by_name(&attempt.backend)?;
        Some(Step {
            backend: backend.name.clone(),
            service: backend.service.clone(),
            model: model_for(&backend.name),
            mode: attempt.mode,
            first_content: attempt.first_content_ms.map(Duration::from_millis),
        })
    });
    let steps: Vec<Step> = steps.collect();
    let Some(first) = steps.first() else {
        return Err(EngineError::internal(format!("rule `{}` of the policy finds no backend", plan.rule)));
    };
    let first = first.backend.clone();
    for note in &plan.notes {
        tracing::warn!(rule = %plan.rule, note = %note, "routing");
    }
    let report = RouteReport { route: plan.route, reason: plan.reason, backend: first, failed: Vec::new() };
    Ok(Plan { steps, report, background: plan.features.trigger.is_background() })
}

fn unknown(backends: &Registry, model: &str) -> EngineError {
    let known = backends.models();
    let near = nearest(model, known.iter().map(|entry| entry.id.as_str()));
    let hint = match near {
        Some(near) => format!(" (did you mean `{near}`?)"),
        None => " (`GET /v1/models` lists the known ones)".to_owned(),
    };
    EngineError::UnknownModel { model: model.chars().take(ECHO_MAX).collect(), hint }
}
