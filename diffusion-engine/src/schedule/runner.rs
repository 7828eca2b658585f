//! The engine's thread: at each step border requests leave and join, then one forward serves all. A step that panics
//! fails the requests in it, a request that panics while it joins itself, and nothing else. Must never log what a request
//! says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use weir_protocol::{EngineError, FinishReason};

use crate::cache::PrefixCache;
use crate::checkpoint::tokenizer::TextTokenizer;
use crate::model::forward::Lane as LaneInput;
use crate::model::scratch::emptied;

use super::lane::{Lane, Plan};
use super::planner::{Reading, share_out};
use super::queue::Queue;
use super::scorer::Readout;
use super::{Forward, Limits};

/// Runs until the queue is closed and empty and the last answer has ended.
pub(crate) fn run(queue: &Queue, model: &impl Forward, limits: Limits) {
    let mut prefixes = PrefixCache::new(limits.pool);
    queue.stepped(Duration::ZERO, 0, prefixes.pages());
    let (mut lanes, mut memory): (Vec<Lane>, _) = (Vec::new(), Memory::default());
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
        plan(&lanes, limits.step_tokens, turn, &mut memory);
        // A lane that a panic left in the middle is not used again, only told.
        match catch_unwind(AssertUnwindSafe(|| step(&mut lanes, model, &mut prefixes, &mut memory))) {
            Ok(Ok(())) => end(&mut lanes, &mut memory.outcomes),
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
        let Some(job) = queue.next(lanes.iter().map(|lane| &lane.tenant)) else { return };
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

/// How a lane left a step.
type Outcome = Result<Option<FinishReason>, EngineError>;

/// Lists about the lanes, kept from step to step.
#[derive(Default)]
struct Memory {
    /// Tokens of the prompt that each may read.
    grants: Vec<usize>,
    plans: Vec<Plan>,
    /// Of those that do not sit the step out.
    inputs: Vec<LaneInput<'static>>,
    outcomes: Vec<Outcome>,
}

/// What each lane does in this step.
fn plan(lanes: &[Lane], budget: usize, turn: usize, memory: &mut Memory) {
    let Memory { grants, plans, .. } = memory;
    grants.clear();
    // Lists are made only where somebody reads its prompt.
    if lanes.iter().any(|lane| lane.reading().left > 0) {
        let reading: Vec<Reading<'_>> = lanes.iter().map(Lane::reading).collect();
        grants.extend(share_out(&reading, budget, turn));
    }
    plans.resize_with(lanes.len().max(plans.len()), Plan::default);
    for (at, (lane, plan)) in lanes.iter().zip(plans).enumerate() {
        lane.plan(grants.get(at).copied().unwrap_or(0), plan);
    }
}

/// Run and apply. One outcome per lane; one that waits for its turn to read sits the step out.
fn step(
    lanes: &mut [Lane],
    model: &impl Forward,
    prefixes: &mut PrefixCache,
    memory: &mut Memory,
) -> Result<(), EngineError> {
    let Memory { plans, inputs: kept, outcomes, .. } = memory;
    outcomes.clear();
    let mut inputs = emptied(std::mem::take(kept));
    let fed = |plan: &Plan| !plan.tokens.is_empty();
    let pairs = lanes.iter_mut().zip(&*plans).filter(|(_, plan)| fed(plan));
    inputs.extend(pairs.map(|(lane, plan)| lane.input(plan)));
    let (mut predictions, count) = (model.forward(&mut inputs)?, inputs.len());
    *kept = emptied(inputs);
    if predictions.count() != count {
        return Err(EngineError::internal("the forward lost a request"));
    }
    let (vocab, kernels, tokenizer) = (model.vocab(), model.kernels(), model.tokenizer());
    let mut at = 0;
    for (lane, plan) in lanes.iter_mut().zip(plans) {
        if !fed(plan) {
            outcomes.push(Ok(None));
            continue;
        }
        let (logits, likeliest) = predictions.of_lane(at);
        at += 1;
        outcomes.push(lane.apply(plan, Readout { rows: &plan.rows, logits, likeliest, vocab, kernels, tokenizer }));
        let settled = lane.settled();
        prefixes.publish(&mut lane.cache, settled);
    }
    model.take_back(predictions);
    Ok(())
}

/// Lets the lanes that are done leave.
fn end(lanes: &mut Vec<Lane>, outcomes: &mut Vec<Outcome>) {
    let mut at = 0;
    for outcome in outcomes.drain(..) {
        match outcome {
            Ok(None) => at += 1,
            Ok(Some(reason)) => lanes.remove(at).complete(reason),
            Err(error) => {
                // Its words may quote the grammar that the caller sent.
                tracing::error!(error = error.kind(), "a request failed");
                lanes.remove(at).fail(error);
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
