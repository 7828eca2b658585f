//! Opens one attempt: calls the backend and waits for the first event the caller would see.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use tower::ServiceExt;
use weir_protocol::{
    ChatRequest, DiffusionOptions, EngineError, Event, FinishReason, TimeoutPhase, TokenChance, Verbatim,
};

use super::standing::{Standing, Ticket};
use crate::backends::{Attempt, BackendService, EventStream};
use crate::metrics::AttemptGuard;

/// Most bytes of events that are held back from their caller: an answer without an end must not fill the memory.
const HELD_MAX: usize = 64 << 20;

/// Names and values.
type Headers = [(HeaderName, HeaderValue)];

/// One backend of a plan.
pub(super) struct Step {
    pub(super) backend: String,
    pub(super) service: BackendService,
    pub(super) standing: Arc<Standing>,
    /// Tries again here before the plan goes on.
    pub(super) retries: u32,
    pub(super) caches_prefixes: bool,
    pub(super) model: Option<String>,
    pub(super) decoding: DiffusionOptions,
    pub(super) first_content: Option<Duration>,
    /// What it gets instead of the caller's request: a condensed one, or one without some tools.
    pub(super) instead: Option<Arc<ChatRequest>>,
    /// Whether tools that a server runs were left out for it.
    pub(super) left_out: bool,
}

impl Step {
    /// What it gets of a caller's request.
    pub(super) fn given(&self, request: &Arc<ChatRequest>) -> Arc<ChatRequest> {
        Arc::clone(self.instead.as_ref().unwrap_or(request))
    }
}

/// An attempt under way. Dropping it cancels it.
pub(super) struct Racer {
    pub(super) step: Arc<Step>,
    /// Which try at this backend it is, from 0.
    pub(super) tried: u32,
    pub(super) is_hedge: bool,
    pub(super) counted: AttemptGuard,
    pub(super) ticket: Ticket,
}

/// What it opened.
pub(super) struct Opened {
    /// Events up to the first one the caller sees.
    pub(super) head: Vec<Event>,
    /// What the backend says about its rate limits, as headers.
    pub(super) limits: Vec<(String, String)>,
    /// When the first content came, if it did.
    pub(super) first_content: Option<Instant>,
    pub(super) rest: EventStream,
}

impl Opened {
    fn at(head: Vec<Event>, limits: Vec<(String, String)>, rest: EventStream) -> Self {
        let first_content = head.last().is_some_and(Event::is_content).then(Instant::now);
        Opened { head, limits, first_content, rest }
    }

    /// Whether the model ended its turn without a word.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.head.last(), Some(Event::Finished { reason: FinishReason::Stop }))
    }

    /// Reads on to the end. For a caller who gets the answer as a whole nothing was sent before, so another backend may
    /// still take over from one that breaks off.
    pub(super) async fn read_to_end(mut self) -> Result<Self, EngineError> {
        let mut bytes = 0;
        while !matches!(self.head.last(), Some(Event::Finished { .. })) {
            match self.rest.next().await {
                // Neither is part of a whole answer; `Started` counts once.
                Some(Ok(Event::Started { .. } | Event::Draft { .. })) => {}
                Some(Ok(event)) => hold(event, &mut self.head, &mut bytes)?,
                Some(Err(error)) => return Err(error),
                None => return Err(cut()),
            }
        }
        Ok(self)
    }
}

/// Opens the attempt, and lets the backend's standing know.
pub(super) async fn race(mut racer: Racer, request: Arc<ChatRequest>) -> (Racer, Result<Opened, EngineError>) {
    let result = within_budget(&racer.step, &request, &racer.counted.trace).await;
    let now = Instant::now();
    let result = match result {
        Ok(result) => {
            match &result {
                Ok(_) => racer.ticket.answered(now),
                Err(error) => racer.ticket.failed(error, now),
            }
            result
        }
        Err(OverBudget(error)) => {
            racer.ticket.over_budget(&error, now);
            Err(error)
        }
    };
    (racer, result)
}

/// The plan's time for the first content ran out.
struct OverBudget(EngineError);

async fn within_budget(
    step: &Step,
    request: &Arc<ChatRequest>,
    trace: &Headers,
) -> Result<Result<Opened, EngineError>, OverBudget> {
    let Some(limit) = step.first_content else { return Ok(open(step, request, trace).await) };
    match tokio::time::timeout(limit, open(step, request, trace)).await {
        Ok(opened) => Ok(opened),
        Err(_) => {
            let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            Err(OverBudget(EngineError::Timeout { phase: TimeoutPhase::FirstContent, waited_ms }))
        }
    }
}

/// A draft the caller asked for ends the waiting, too: after it, another backend's answer would contradict what is on
/// the screen.
async fn open(step: &Step, request: &Arc<ChatRequest>, trace: &Headers) -> Result<Opened, EngineError> {
    let (asked, model) = (with_decoding(request, &step.decoding), step.model.clone());
    let attempt = Attempt { request: asked, model, trace: trace.to_vec() };
    let mut rest = step.service.clone().oneshot(attempt).await?;
    let (mut head, mut bytes, mut limits) = (Vec::new(), 0, Vec::new());
    loop {
        let event = match rest.next().await {
            Some(event) => event?,
            None => return Err(cut()),
        };
        match event {
            Event::RateLimits(said) => limits = said,
            Event::Started { .. }
            | Event::Verbatim(_)
            | Event::Logprobs(_)
            | Event::ReasoningSignature(_)
            | Event::StoppedAt(_)
            | Event::Usage(_) => hold(event, &mut head, &mut bytes)?,
            Event::Draft { .. } if request.diffusion.drafts => {
                head.push(event);
                return Ok(Opened::at(head, limits, rest));
            }
            event if event.is_content() || matches!(event, Event::Finished { .. }) => {
                head.push(event);
                return Ok(Opened::at(head, limits, rest));
            }
            // Nothing to show yet (an empty delta): not kept, so that a backend cannot make us hoard.
            _ => {}
        }
    }
}

/// Holds an event back behind others that take so many bytes.
fn hold(event: Event, held: &mut Vec<Event>, bytes: &mut usize) -> Result<(), EngineError> {
    *bytes += size_of::<Event>()
        + match &event {
            Event::TextDelta(text)
            | Event::RefusalDelta(text)
            | Event::ReasoningDelta(text)
            | Event::ReasoningSignature(text)
            | Event::ToolCallDelta { arguments: text, .. }
            | Event::Verbatim(Verbatim::Piece(text) | Verbatim::Document(text)) => text.len(),
            Event::Logprobs(tokens) => {
                tokens.iter().map(|token| (1 + token.top.len()) * size_of::<TokenChance>()).sum()
            }
            _ => 0,
        };
    if *bytes > HELD_MAX {
        return Err(EngineError::StreamCut { message: "the backend's answer is too long to be held back".into() });
    }
    held.push(event);
    Ok(())
}

pub(super) fn cut() -> EngineError {
    EngineError::StreamCut { message: "the backend's stream ended without a finish".into() }
}

/// The plan's word on decoding, where the caller said nothing about it at all: half a preset is not a preset.
pub(super) fn with_decoding(request: &Arc<ChatRequest>, decoding: &DiffusionOptions) -> Arc<ChatRequest> {
    if *decoding == DiffusionOptions::default() || !request.diffusion.is_silent() {
        return Arc::clone(request);
    }
    let mut changed = ChatRequest::clone(request);
    let own = std::mem::replace(&mut changed.diffusion, decoding.clone());
    changed.diffusion.seed = own.seed.or(decoding.seed);
    changed.diffusion.drafts = own.drafts;
    Arc::new(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_without_an_end_is_not_held_for_ever() {
        let endless = futures::stream::repeat_with(|| Ok(Event::TextDelta("x".repeat(1 << 20))));
        let opened = Opened::at(vec![Event::TextDelta("x".into())], Vec::new(), Box::pin(endless));
        let error = opened.read_to_end().await.err();
        assert_eq!(error.map(|error| error.kind()), Some("stream_cut"));
    }
}
