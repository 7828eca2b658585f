//! The engine's thread: at each step border requests leave and join, then one forward serves all. A step that panics
//! fails the requests in it and nothing else. Must never log what a request says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use weir_protocol::{EngineError, FinishReason};

use crate::model::forward::Lane as LaneInput;

use super::Forward;
use super::lane::{Lane, Plan};
use super::queue::Queue;
use super::scorer::Readout;

/// Runs until the queue is closed and empty and the last answer has ended.
pub(crate) fn run(queue: &Queue, model: &impl Forward) {
    let mut lanes: Vec<Lane> = Vec::new();
    while let Some(joining) = queue.admit(lanes.len()) {
        lanes.extend(joining.into_iter().map(|job| Lane::new(job, model.new_cache())));
        lanes.retain(|lane| !lane.is_abandoned());
        if lanes.is_empty() {
            continue;
        }
        // A lane that a panic left in the middle is not used again, only told.
        match catch_unwind(AssertUnwindSafe(|| step(&mut lanes, model))) {
            Ok(Ok(ended)) => end(&mut lanes, ended),
            Ok(Err(error)) => fail_all(&mut lanes, &error),
            Err(_) => fail_all(&mut lanes, &EngineError::internal("a step of the engine panicked")),
        }
    }
}

/// How a lane left a step.
type Outcome = Result<Option<FinishReason>, EngineError>;

/// Plan, run, apply. One outcome per lane.
fn step(lanes: &mut [Lane], model: &impl Forward) -> Result<Vec<Outcome>, EngineError> {
    let plans: Vec<Plan> = lanes.iter().map(Lane::plan).collect();
    let mut inputs: Vec<LaneInput<'_>> = lanes
        .iter_mut()
        .zip(&plans)
        .map(|(lane, plan)| {
            let visibility = lane.visibility();
            LaneInput { tokens: &plan.tokens, logits_from: plan.logits_from, cache: &mut lane.cache, visibility }
        })
        .collect();
    let mut logits = model.forward(&mut inputs)?;
    if logits.len() != lanes.len() {
        return Err(EngineError::internal("the forward lost a request"));
    }
    let outcomes = lanes.iter_mut().zip(&plans).zip(&mut logits).map(|((lane, plan), logits)| {
        let (vocab, kernels, tokenizer) = (model.vocab(), model.kernels(), model.tokenizer());
        lane.apply(plan, Readout { logits, vocab, kernels, tokenizer })
    });
    Ok(outcomes.collect())
}

/// Lets the lanes that are done leave.
fn end(lanes: &mut Vec<Lane>, outcomes: Vec<Outcome>) {
    let all = std::mem::take(lanes);
    for (lane, outcome) in all.into_iter().zip(outcomes) {
        match outcome {
            Ok(None) => lanes.push(lane),
            Ok(Some(reason)) => lane.complete(reason),
            Err(error) => {
                tracing::error!(%error, "a request failed");
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
