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
pub struct Router {}

/// A request with its route, nothing tried yet: lets `api` send headers that name the route before the answer.
pub struct Planned {
    request: Arc<ChatRequest>,
    report: RouteReport,
}

impl Router {
    /// Decides who may answer, without asking anybody. The report's `backend` is the first one that will be tried.
    pub fn plan(&self, request: Arc<ChatRequest>) -> Result<Planned, Refusal> {
        let report = RouteReport { route: String::new(), reason: String::new(), backend: String::new(), failed: Vec::new() };
        Ok(Planned { request, report })
    }

    /// Plans and runs in one go.
    pub async fn answer(&self, request: Arc<ChatRequest>) -> Result<Answer, Refusal> {
        self.plan(request)?.run().await
    }
}

impl Planned {
    /// The route and the first backend to try.
    pub fn report(&self) -> &RouteReport {
        &self.report
    }

    /// Answers: resolves when the first content is known (or the end, or a draft the caller asked for), so that
    /// [`Answer::report`] is true. Dropping the future, or later the events, cancels the work.
    pub async fn run(self) -> Result<Answer, Refusal> {
        let error = EngineError::internal(format!("no route for {} messages", self.request.messages.len()));
        Err(Refusal { report: Some(self.report), error })
    }
}
