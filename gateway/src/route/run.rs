//! Runs the steps of a plan, one after another, until one has something to show. Knows no names and no rules: whether
//! a failure may be followed by another step is the error's own word.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tower::ServiceExt;
use weir_protocol::{ChatRequest, DecodeMode, EngineError, Event, TimeoutPhase};

use super::answering::Answering;
use super::ending::Ended;
use super::{Answer, Refusal, RouteReport};
use crate::backends::{Attempt, BackendService, EventStream};
use crate::metrics::Flight;

/// One attempt to make.
pub(super) struct Step {
    pub(super) backend: String,
    pub(super) service: BackendService,
    pub(super) model: Option<String>,
    pub(super) mode: Option<DecodeMode>,
    pub(super) first_content: Option<Duration>,
}

/// Makes the attempts in order. `flight` counts the request however this future or the answer ends.
pub(super) async fn run(
    steps: Vec<Step>,
    request: &Arc<ChatRequest>,
    mut report: RouteReport,
    mut flight: Flight,
    ended: Ended,
) -> Result<Answer, Refusal> {
    let mut failures: Vec<EngineError> = Vec::new();
    let mut steps = steps.into_iter().peekable();
    while let Some(step) = steps.next() {
        report.backend.clone_from(&step.backend);
        let guard = flight.attempt(&step.backend);
        let error = match open(&step, request).await {
            Ok(opened) => {
                let named = step.model.unwrap_or(step.backend);
                let events =
                    Answering::new(opened.head, opened.rest, named, request.diffusion.drafts, (flight, guard), ended);
                return Ok(Answer { report, limits: opened.limits, events: Box::pin(events) });
            }
            Err(error) => error,
        };
        drop(guard);
        let go_on = error.may_try_another();
        let kind = error.kind();
        match steps.peek() {
            Some(next) if go_on => flight.fell_back(&step.backend, &next.backend, &error),
            _ => {}
        }
        tracing::info!(backend = %step.backend, error = kind, another = go_on, "attempt failed before its first content");
        report.failed.push((step.backend, kind));
        failures.push(error);
        if !go_on {
            break;
        }
    }
    let error = most_useful(failures);
    flight.failed(&error);
    Err(Refusal { report: Some(report), error })
}

struct Opened {
    /// Events up to the first one the caller sees.
    head: Vec<Event>,
    limits: Vec<(String, String)>,
    rest: EventStream,
}

/// Calls the backend and waits for the first event the caller would see. A draft the caller asked for is one: after
/// it, another backend's answer would contradict what is on the screen.
async fn open(step: &Step, request: &Arc<ChatRequest>) -> Result<Opened, EngineError> {
    let attempt = Attempt { request: with_mode(request, step.mode), model: step.model.clone() };
    let opening = async {
        let mut rest = step.service.clone().oneshot(attempt).await?;
        let (mut head, mut limits) = (Vec::new(), Vec::new());
        loop {
            let event = match rest.next().await {
                Some(event) => event?,
                None => return Err(cut()),
            };
            match event {
                Event::RateLimits(said) => limits = said,
                Event::Started { .. }
                | Event::Logprobs(_)
                | Event::ReasoningSignature(_)
                | Event::StoppedAt(_)
                | Event::Usage(_) => head.push(event),
                Event::Draft { .. } if request.diffusion.drafts => {
                    head.push(event);
                    return Ok(Opened { head, limits, rest });
                }
                event if event.is_content() || matches!(event, Event::Finished { .. }) => {
                    head.push(event);
                    return Ok(Opened { head, limits, rest });
                }
                // Nothing to show yet (an empty delta): not kept, so that a backend cannot make us hoard.
                _ => {}
            }
        }
    };
    let Some(limit) = step.first_content else { return opening.await };
    match tokio::time::timeout(limit, opening).await {
        Ok(opened) => opened,
        Err(_) => {
            let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            Err(EngineError::Timeout { phase: TimeoutPhase::FirstContent, waited_ms })
        }
    }
}

pub(super) fn cut() -> EngineError {
    EngineError::StreamCut { message: "the backend's stream ended without a finish".into() }
}

/// The plan's decode mode, where the caller said nothing about decoding at all: half a preset is not a preset.
fn with_mode(request: &Arc<ChatRequest>, mode: Option<DecodeMode>) -> Arc<ChatRequest> {
    if mode.is_none() || !request.diffusion.is_silent() {
        return Arc::clone(request);
    }
    let mut changed = ChatRequest::clone(request);
    changed.diffusion.mode = mode;
    Arc::new(changed)
}

/// Which of several failures helps the caller most: one that no other attempt could mend; else the last that may
/// pass by itself, since trying again is worth it; else the last the caller can mend; else the last.
fn most_useful(failures: Vec<EngineError>) -> EngineError {
    let worth = |error: &EngineError| match error {
        EngineError::InvalidRequest { .. }
        | EngineError::UnknownModel { .. }
        | EngineError::Exhausted { .. }
        | EngineError::Cancelled => 3,
        EngineError::RateLimited { .. }
        | EngineError::Overloaded { .. }
        | EngineError::Timeout { .. }
        | EngineError::Upstream { .. }
        | EngineError::StreamCut { .. } => 2,
        EngineError::ContextTooLong { .. } | EngineError::Unsupported { .. } => 1,
        EngineError::Unauthorized { .. } | EngineError::Internal { .. } => 0,
    };
    // Of equals, `max_by_key` gives the last.
    failures.into_iter().max_by_key(worth).unwrap_or_else(|| EngineError::internal("the plan has no attempts"))
}
