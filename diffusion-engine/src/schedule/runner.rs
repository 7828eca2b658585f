//! The engine's thread: at each step border requests leave and join, then one forward serves all. A step that panics
//! fails the requests in it, a request that panics while it joins itself, and nothing else. Must never log what a request
//! says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_protocol::{EngineError, FinishReason};

use crate::cache::PrefixCache;
use crate::checkpoint::tokenizer::TextTokenizer;
use crate::model::forward::Lane as LaneInput;
use crate::model::head::Predictions;

use super::lane::{Lane, Plan};
use super::planner::{Reading, share_out};
use super::queue::Queue;
use super::scorer::Readout;
use super::{Forward, Limits};

/// Runs until the queue is closed and empty and the last answer has ended.
pub(crate) fn run(queue: &Queue, model: &impl Forward, limits: Limits) {
    let mut prefixes = PrefixCache::new(limits.pool);
    queue.stepped(Duration::ZERO, 0, prefixes.pages());
    let mut lanes: Vec<Lane> = Vec::new();
    let mut turn = 0;
    while queue.wait(lanes.len()) {
        let began = Instant::now();
        lanes.retain(|lane| !lane.is_abandoned());
        // Whoever came too far goes with the panic, and is told that it broke off.
        let joined = || join(&mut lanes, queue, &mut prefixes, model.tokenizer());
        if catch_unwind(AssertUnwindSafe(joined)).is_err() {
            tracing::error!("a request panicked before its first step");
        }
        if lanes.is_empty() {
            continue;
        }
        turn += 1;
        let before = lanes.len();
        let grants = plan(&lanes, limits.step_tokens, turn);
        // A lane that a panic left in the middle is not used again, only told.
        match catch_unwind(AssertUnwindSafe(|| step(&mut lanes, &grants, model, &mut prefixes))) {
            Ok(Ok(ended)) => end(&mut lanes, ended),
            Ok(Err(error)) => fail_all(&mut lanes, &error),
            Err(_) => fail_all(&mut lanes, &EngineError::internal("a step of the engine panicked")),
        }
        // Release builds are tested, too; only there the walk through all pages is left out.
        if cfg!(any(debug_assertions, test)) {
            assert!(prefixes.adds_up(lanes.iter().map(|lane| &lane.cache)), "a page is lost or held twice");
        }
        queue.stepped(began.elapsed(), before - lanes.len(), prefixes.pages());
    }
}

/// Lets those join that find a place and the memory they may need.
fn join(lanes: &mut Vec<Lane>, queue: &Queue, prefixes: &mut PrefixCache, tokenizer: &TextTokenizer) {
    loop {
        let tenants: Vec<Arc<str>> = lanes.iter().map(|lane| Arc::clone(&lane.tenant)).collect();
        let Some(job) = queue.next(&tenants) else { return };
        match prefixes.admit(&job.need()) {
            Some(cache) => {
                let mut lane = Lane::new(job, cache);
                match lane.open(tokenizer) {
                    Ok(()) => lanes.push(lane),
                    Err(error) => lane.fail(error),
                }
            }
            // Alone it would fit, or it would have been refused: some of those that run must leave first.
            None if !lanes.is_empty() => return queue.hold(job),
            None => job.answer.fail(EngineError::internal("the request needs more pages than there are")),
        }
    }
}

/// How many prompt tokens each lane reads in this step.
fn plan(lanes: &[Lane], budget: usize, turn: usize) -> Vec<usize> {
    let reading: Vec<Reading<'_>> = lanes.iter().map(Lane::reading).collect();
    share_out(&reading, budget, turn)
}

/// How a lane left a step.
type Outcome = Result<Option<FinishReason>, EngineError>;

/// Plan, run, apply. One outcome per lane; one that waits for its turn to read sits the step out.
fn step(
    lanes: &mut [Lane],
    grants: &[usize],
    model: &impl Forward,
    prefixes: &mut PrefixCache,
) -> Result<Vec<Outcome>, EngineError> {
    let plans: Vec<Option<Plan>> = lanes.iter().zip(grants).map(|(lane, grant)| lane.plan(*grant)).collect();
    let mut inputs: Vec<LaneInput<'_>> =
        lanes.iter_mut().zip(&plans).filter_map(|(lane, plan)| Some(lane.input(plan.as_ref()?))).collect();
    let predictions = model.forward(&mut inputs)?;
    if predictions.len() != plans.iter().flatten().count() {
        return Err(EngineError::internal("the forward lost a request"));
    }
    let (mut predictions, mut spent) = (predictions.into_iter(), Vec::new());
    let outcomes = lanes.iter_mut().zip(&plans).map(|(lane, plan)| {
        let Some((plan, predictions)) = plan.as_ref().and_then(|plan| Some((plan, predictions.next()?))) else {
            return Ok(None);
        };
        let (mut logits, likeliest) = match predictions {
            Predictions::Logits(logits) => (logits, Vec::new()),
            Predictions::Likeliest(likeliest) => (Vec::new(), likeliest),
        };
        let (vocab, kernels, tokenizer) = (model.vocab(), model.kernels(), model.tokenizer());
        let read = Readout { rows: &plan.rows, logits: &mut logits, likeliest: &likeliest, vocab, kernels, tokenizer };
        let outcome = lane.apply(plan, read);
        spent.push(logits);
        let settled = lane.settled();
        prefixes.publish(&mut lane.cache, settled);
        outcome
    });
    let outcomes = outcomes.collect();
    model.take_back(spent);
    Ok(outcomes)
}

/// Lets the lanes that are done leave.
fn end(lanes: &mut Vec<Lane>, outcomes: Vec<Outcome>) {
    let all = std::mem::take(lanes);
    for (lane, outcome) in all.into_iter().zip(outcomes) {
        match outcome {
            Ok(None) => lanes.push(lane),
            Ok(Some(reason)) => lane.complete(reason),
            Err(error) => {
                // Its words may quote the grammar that the caller sent.
                tracing::error!(error = error.kind(), "a request failed");
                lane.fail(error);
            }
        }
    }
}

fn fail_all(lanes: &mut Vec<Lane>, error: &EngineError) {
    tracing::error!(%error, requests = lanes.len(), "a step failed");
    for lane in lanes.drain(..) {
        lane.fail(error.clone());
    }
}
