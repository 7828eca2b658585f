//! The scheduler with a scripted model: limits, cancellation, failures; [`order`] has who goes first,
//! [`partial`] what is not computed again. No weights.

mod order;
mod partial;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use weir_kernels::{AttentionShape, registry};
use weir_protocol::Sampling;

use super::answer::Answer;
use super::lane::{DiffusionJob, Job, Lane, Plan};
use super::queue::Queue;
use super::scorer::{Readout, Scorer};
use super::watch::Wish;
use super::*;
use crate::cache::{KvShape, PrefixCache, Sharing};
use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::source::{Bytes, Named};
use crate::decode::rules::LogitRules;
use crate::decode::settings::DecodeSettings;
use crate::generation::{Generation, GenerationEvent};
use crate::model::head::{Wanted, likeliest};
use crate::options::{DecoderKind, EngineLoad, KvType};
use crate::test_files::{self, FIRST_SPECIAL};

const VOCAB: usize = 320;
const MASK: u32 = FIRST_SPECIAL + 2;
const ROLE_END: u32 = FIRST_SPECIAL + 3;

fn tokenizer() -> TextTokenizer {
    let named =
        |value: serde_json::Value| Named { name: "test".into(), bytes: Bytes::Owned(value.to_string().into_bytes()) };
    let config = ModelConfig::parse(&named(test_files::config_json("llada2_moe"))).expect("config");
    TextTokenizer::parse(&named(test_files::tokenizer_json()), &config).expect("tokenizer")
}

/// What the scripted model wants at a position, given the lane's first token in this forward.
type Script = fn(position: usize, first: u32) -> f32;

/// Proposes token `script(..)` at each position with near certainty; NaN makes the logits NaN, a negative number
/// panics. Runs a forward only when the test sends a permit, if it has a gate.
struct Scripted {
    script: Script,
    tokenizer: TextTokenizer,
    gate: Option<Mutex<Receiver<()>>>,
    forwards: Arc<AtomicUsize>,
    widest: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Forward for Scripted {
    fn forward(&self, lanes: &mut [LaneInput<'_>]) -> Result<Predictions, EngineError> {
        if let Some(gate) = &self.gate {
            let _ = gate.lock().expect("one thread").recv();
        }
        self.forwards.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(lanes.len(), Ordering::SeqCst);
        let mut all = Predictions::default();
        all.make_room(lanes, VOCAB);
        for (index, lane) in lanes.iter_mut().enumerate() {
            self.widest.fetch_max(lane.tokens.len(), Ordering::SeqCst);
            let start = lane.cache.committed();
            lane.cache.reserve(start + lane.tokens.len()).expect("promised");
            let (mut logits, kernels) = (Vec::new(), self.kernels());
            for row in lane.rows() {
                let wanted = (self.script)(start + row, lane.tokens[0]);
                assert!(wanted.is_nan() || wanted >= 0.0, "scripted panic");
                let token = |t: usize| if t as f32 == wanted { 30.0 } else { wanted * 0.0 };
                logits.extend((0..VOCAB).map(token));
            }
            let (own, best) = all.of_lane(index);
            match lane.wanted {
                Wanted::All | Wanted::Logits(_) => own.copy_from_slice(&logits),
                Wanted::Likeliest { never, .. } => {
                    for (row, best) in logits.chunks_exact_mut(VOCAB).zip(best) {
                        *best = likeliest(kernels, row, never);
                    }
                }
            }
        }
        Ok(all)
    }

    fn kernels(&self) -> &'static Kernels {
        registry::best()
    }

    fn vocab(&self) -> usize {
        VOCAB
    }

    fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }
}

struct Bench {
    queue: Arc<Queue>,
    permits: Sender<()>,
    forwards: Arc<AtomicUsize>,
    widest: Arc<AtomicUsize>,
    /// Most requests in one forward.
    most: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// Pages enough for every test that does not count them.
const PAGES: usize = 1000;

fn limits(pages: usize) -> Limits {
    let attention = AttentionShape { heads: 1, kv_heads: 1, head_dim: 2 };
    let pool = Pool::new(KvShape { layers: 1, attention }, KvType::F32, pages);
    Limits { pool, step_tokens: 64 }
}

fn bench(script: Script, gated: bool, max_running: usize, queue_limit: usize) -> Bench {
    bench_with(script, gated, (max_running, queue_limit), PAGES)
}

fn bench_with(script: Script, gated: bool, (max_running, queue_limit): (usize, usize), pages: usize) -> Bench {
    let (permits, gate) = channel();
    let (forwards, widest, most) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let model = Scripted {
        script,
        tokenizer: tokenizer(),
        gate: gated.then(|| Mutex::new(gate)),
        forwards: forwards.clone(),
        widest: widest.clone(),
        most: most.clone(),
    };
    let queue = Arc::new(Queue::new(max_running, queue_limit));
    let shared = queue.clone();
    let thread = std::thread::spawn(move || runner::run(&shared, &model, limits(pages)));
    Bench { queue, permits, forwards, widest, most, thread }
}

fn job(prompt: Vec<u32>, limit: usize, diffusion: bool) -> (Job, Generation) {
    let (events, generation) = Generation::channel(prompt.len() as u32);
    let settings = DecodeSettings { decoder: DecoderKind::Threshold, ..DecodeSettings::default() };
    let rules = LogitRules::new(&Sampling::default(), &prompt, &[ROLE_END], vec![MASK], VOCAB as u32).expect("none");
    let job = Job {
        prompt,
        answer: Answer::new(events, &[], vec![ROLE_END], limit),
        scorer: Scorer::new(&Sampling::default(), None, rules).expect("greedy"),
        constraint: None,
        diffusion: diffusion.then_some(DiffusionJob {
            settings,
            mask: MASK,
            control: None,
            wish: Wish::default(),
            start_from: [].into(),
        }),
        context: 4096,
        tenant: "".into(),
        background: false,
        sharing: Some(Sharing { salt: None, block: if diffusion { 32 } else { 1 } }),
    };
    (job, generation)
}

fn last(mut generation: Generation) -> GenerationEvent {
    let mut last = None;
    while let Some(event) = generation.next_blocking() {
        last = Some(event);
    }
    last.expect("ends with an event")
}

fn is_done(event: &GenerationEvent) -> bool {
    matches!(event, GenerationEvent::Done { .. })
}

#[test]
fn a_panicking_step_fails_its_requests_and_the_engine_goes_on() {
    for diffusion in [false, true] {
        let bench = bench(|position, _| if position == 100 { -1.0 } else { 97.0 }, false, 4, 4);
        let (bad, failing) = job(vec![1; 60], 90, diffusion);
        bench.queue.push(bad).expect("room");
        let GenerationEvent::Failed(EngineError::Internal { message }) = last(failing) else {
            unreachable!("position 100 panics");
        };
        assert!(message.contains("panicked"), "{message}");
        let (good, working) = job(vec![1; 10], 20, diffusion);
        bench.queue.push(good).expect("room");
        assert!(is_done(&last(working)));
        bench.queue.close();
        bench.thread.join().expect("the thread ends in peace");
    }
}

#[test]
fn a_request_that_panics_before_its_first_step_takes_nobody_with_it() {
    let bench = bench(|_, _| 97.0, false, 4, 4);
    let (mut bad, failing) = job(vec![1; 8], 5, true);
    bad.diffusion.as_mut().expect("diffusion").settings.block_length = 0; // nothing can be divided by it
    let (good, working) = job(vec![1; 8], 5, true);
    bench.queue.push(bad).expect("room");
    bench.queue.push(good).expect("room");
    bench.queue.close();
    bench.thread.join().expect("the engine goes on");
    assert!(matches!(last(failing), GenerationEvent::Failed(EngineError::Internal { .. })));
    assert!(is_done(&last(working)));
}

#[test]
fn logits_that_are_not_numbers_fail_their_own_request_only() {
    let bench = bench(|_, first| if first == 7 { f32::NAN } else { 97.0 }, false, 4, 4);
    let (bad, failing) = job(vec![7; 8], 20, true);
    let (good, working) = job(vec![8; 8], 20, true);
    bench.queue.push(good).expect("room");
    bench.queue.push(bad).expect("room");
    assert!(matches!(last(failing), GenerationEvent::Failed(EngineError::Internal { .. })));
    assert!(is_done(&last(working)));
    bench.queue.close();
}

#[test]
fn a_dropped_answer_costs_at_most_the_step_it_is_in() {
    for diffusion in [false, true] {
        let bench = bench(|_, _| 97.0, true, 1, 4);
        let (left, mut leaving) = job(vec![1; 8], 3000, diffusion);
        let (other, staying) = job(vec![1; 8], 3, diffusion);
        bench.queue.push(left).expect("room");
        bench.queue.push(other).expect("room");
        let mut permitted = 0;
        loop {
            bench.permits.send(()).expect("the engine waits");
            permitted += 1;
            if matches!(leaving.next_blocking(), Some(GenerationEvent::Text(_))) {
                break;
            }
        }
        drop(leaving);
        for _ in 0..8 {
            bench.permits.send(()).expect("the engine waits");
        }
        assert!(is_done(&last(staying)));
        // At most one more step for the one that left, and three tokens for the other.
        let forwards = bench.forwards.load(Ordering::SeqCst);
        assert!(forwards <= permitted + 1 + 3, "{forwards} forwards, {permitted} before the drop");
        bench.queue.close();
    }
}

#[test]
fn beyond_the_limit_is_refused_and_the_rest_goes_in_order() {
    let bench = bench(|_, _| ROLE_END as f32, true, 1, 2);
    let (jobs, generations): (Vec<Job>, Vec<Generation>) = (0..4).map(|_| job(vec![1; 8], 5, true)).unzip();
    let refused: Vec<bool> = jobs.into_iter().map(|job| bench.queue.push(job).is_err()).collect();
    assert_eq!(refused, [false, false, false, true], "one place and two waiting");
    let EngineError::Overloaded { limit: 2, .. } = bench.queue.push(job(vec![1; 8], 5, true).0).expect_err("full")
    else {
        unreachable!("the only reason");
    };
    let mut generations = generations.into_iter();
    for _ in 0..3 {
        // Every permit ends exactly the one that came first.
        bench.permits.send(()).expect("the engine waits");
        assert!(is_done(&last(generations.next().expect("three were taken"))));
    }
    // The last event leaves before its place does.
    while bench.queue.load().running > 0 {
        std::thread::yield_now();
    }
    // Those that wait for nobody make room.
    let (jobs, waiting): (Vec<Job>, Vec<Generation>) = (0..3).map(|_| job(vec![1; 8], 5, true)).unzip();
    jobs.into_iter().for_each(|job| bench.queue.push(job).expect("room"));
    drop(waiting);
    let (job, answered) = job(vec![1; 8], 5, true);
    bench.queue.push(job).expect("the abandoned ones do not count");
    (0..4).for_each(|_| bench.permits.send(()).expect("the engine waits"));
    assert!(is_done(&last(answered)));
    bench.queue.close();
    bench.thread.join().expect("ends");
    let EngineLoad { queued, running, free_pages, shared_pages, .. } = bench.queue.load();
    assert_eq!((queued, running, free_pages + shared_pages), (0, 0, PAGES), "every page was given back");
}

#[test]
fn a_long_prompt_is_fed_in_chunks() {
    for diffusion in [false, true] {
        let bench = bench(|_, _| ROLE_END as f32, false, 4, 4);
        let (job, generation) = job(vec![1; 1000], 5, diffusion);
        bench.queue.push(job).expect("room");
        assert!(is_done(&last(generation)));
        assert_eq!(bench.widest.load(Ordering::SeqCst), 64);
        // 1000 = 15 * 64 + 40; the diffusion prompt's 8 tokens beyond 31 blocks share the canvas.
        assert_eq!(bench.forwards.load(Ordering::SeqCst), 16);
        bench.queue.close();
    }
}

#[test]
fn blocks_tile_from_position_zero_and_are_committed_once_final() {
    let model = Scripted {
        script: |position, _| if position < 100 { 97.0 } else { ROLE_END as f32 },
        tokenizer: tokenizer(),
        gate: None,
        forwards: Arc::default(),
        widest: Arc::default(),
        most: Arc::default(),
    };
    let (job, generation) = job(vec![5; 70], 64, true);
    let mut prefixes = PrefixCache::new(limits(PAGES).pool);
    let cache = prefixes.admit(&job.need()).expect("room");
    let mut lane = Lane::new(job, cache);
    let mut seen = Vec::new();
    let reason = loop {
        let mut plan = Plan::default();
        lane.plan(32, &mut plan);
        let masked = plan.tokens.iter().filter(|token| **token == MASK).count();
        seen.push((lane.cache.committed(), plan.finals, plan.tokens.len() - plan.finals, masked));
        let mut predictions = model.forward(&mut [lane.input(&plan)]).expect("scripted");
        let (logits, likeliest) = predictions.of_lane(0);
        let (kernels, tokenizer, rows) = (model.kernels(), model.tokenizer(), &*plan.rows);
        let read = Readout { rows, logits, likeliest, vocab: VOCAB, kernels, tokenizer };
        let end = lane.apply(&plan, read).expect("finite");
        if let Some(reason) = end {
            break reason;
        }
    };
    // committed, final tokens fed, canvas fed, masks in it: the prompt's 6 tokens beyond two blocks lie in the canvas,
    // and block 2 rides along, final, with the first step of block 3.
    assert_eq!(seen, [(0, 32, 0, 0), (32, 32, 32, 26), (64, 32, 32, 32)]);
    lane.complete(reason);
    let GenerationEvent::Done { usage, .. } = last(generation) else { unreachable!("complete") };
    let stats = usage.diffusion.expect("diffusion");
    assert_eq!((usage.completion_tokens, stats.blocks, stats.steps, stats.edits), (31, 2, 2, 0));
}
