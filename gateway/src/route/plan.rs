//! From the model id to steps: an id that names a backend means that backend and no other; `auto` asks the policy.

use weir_protocol::{ChatRequest, EngineError};

use super::RouteReport;
use super::run::Step;
use crate::backends::{Backend, Registry};
use crate::config::nearest;

/// What to do, and what to say about it.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) report: RouteReport,
}

/// Plans `request`.
pub(super) fn plan(backends: &Registry, request: &ChatRequest) -> Result<Plan, EngineError> {
    if request.model == "auto" {
        let steps = backends.iter().map(|backend| pinned(backend, None)).collect();
        return Ok(Plan { steps, report: report("auto", "policy not in place".into()) });
    }
    if let Some(backend) = backends.by_name(&request.model) {
        let reason = format!("the request names `{}`", backend.name);
        return Ok(Plan { steps: vec![pinned(backend, None)], report: report(&backend.name, reason) });
    }
    if let Some(backend) = backends.by_model(&request.model) {
        let reason = format!("the request names a model of `{}`", backend.name);
        let steps = vec![pinned(backend, Some(request.model.clone()))];
        return Ok(Plan { steps, report: report(&backend.name, reason) });
    }
    Err(unknown(backends, &request.model))
}

fn pinned(backend: &Backend, model: Option<String>) -> Step {
    Step { backend: backend.name.clone(), service: backend.service.clone(), model, mode: None, first_content: None }
}

fn report(route: &str, reason: String) -> RouteReport {
    RouteReport { route: route.to_owned(), reason, backend: String::new(), failed: Vec::new() }
}

fn unknown(backends: &Registry, model: &str) -> EngineError {
    let known = backends.models();
    let near = nearest(model, known.iter().map(|entry| entry.id.as_str()));
    let hint = match near {
        Some(near) => format!(" (did you mean `{near}`?)"),
        None => " (`GET /v1/models` lists the known ones)".to_owned(),
    };
    // Echoed only as far as an id can reasonably reach: it is the caller's text.
    EngineError::UnknownModel { model: model.chars().take(64).collect(), hint }
}
