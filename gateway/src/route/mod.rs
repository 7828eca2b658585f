//! Runs a plan: attempts in order, fallback only before the first content, each under its first-content budget.
//! Must never choose (that is `router-policies`) nor know a dialect (that is `api`).

mod answering;
mod plan;
mod run;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_protocol::{ChatRequest, EngineError};

use crate::backends::{EventStream, Registry};
use crate::metrics::{Flight, Metrics};

/// What became of a request, for headers, logs and metrics: the same data everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteReport {
    /// `auto`, `diffusion`, `ar` or a backend's name: what the plan aims at.
    pub route: String,
    /// Why, one line, never with prompt text.
    pub reason: String,
    /// The backend that answers (or was tried last).
    pub backend: String,
    /// Attempts that failed before this one, as (backend, error kind).
    pub failed: Vec<(String, &'static str)>,
}

/// An answer under way: its first event is known, so the report is true.
pub struct Answer {
    /// How it was routed.
    pub report: RouteReport,
    /// The events, `Started` first. Dropping them cancels the work.
    pub events: EventStream,
}

/// No attempt could answer.
#[derive(Debug)]
pub struct Refusal {
    /// How it was routed, when it came that far.
    pub report: Option<RouteReport>,
    /// The error to show.
    pub error: EngineError,
}

/// Plans requests and runs the plans.
pub struct Router {
    backends: Registry,
    metrics: Arc<Metrics>,
}

impl Router {
    /// A router over these backends.
    pub fn new(backends: Registry, metrics: Arc<Metrics>) -> Self {
        Router { backends, metrics }
    }

    /// The backends behind it.
    pub fn backends(&self) -> &Registry {
        &self.backends
    }

    /// Answers a request: resolves when the first content is known (or the end, or a draft the caller asked for),
    /// so that [`Answer::report`] is true. Dropping the future, or later the events, cancels the work.
    ///
    /// # Errors
    /// The model is unknown, or no attempt could answer.
    pub async fn answer(&self, request: Arc<ChatRequest>) -> Result<Answer, Refusal> {
        let plan = plan::plan(&self.backends, &request).map_err(|error| {
            self.metrics.rejected(error.kind());
            Refusal { report: None, error }
        })?;
        let flight = Flight::start(&self.metrics, &plan.report.route);
        run::run(plan.steps, &request, plan.report, flight).await
    }
}
