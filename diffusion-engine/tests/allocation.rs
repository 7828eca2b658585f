//! A denoise step allocates nothing once its memory has grown: the forward, the reading of its predictions, the decoder,
//! and what the engine's thread does between two steps. Seen from outside: the same answers, made in many more steps,
//! cost no more allocations. The only test of its binary, since it counts what every thread allocates.
//!
//! What may be allocated is once an answer or once a block: the lane, its pages of K/V, a block's tokens and its text for
//! the caller's stream, and, the first time a position is reached, its angles. Not covered: the masks of a demanded form
//! (llguidance makes each as a list of its own), penalties that count tokens, log-probabilities, drafts, the levenshtein
//! and credit decoders' memories, blocks of more than 32 tokens, reading a prompt, and an autoregressive token, which
//! leaves as text at once.

#[path = "../../kernels/tests/support/allocations.rs"]
mod allocations;

use std::path::Path;

use allocations::allocations;
use serde_json::Value;
use weir_diffusion_engine::{Engine, EngineOptions, Generation, GenerationEvent, KvType, ModelFiles, Recipe};
use weir_protocol::{ChatRequest, DecoderKind, DiffusionOptions, Message, Role};

/// Prompts that run at once.
const TOGETHER: usize = 3;

/// A held-out prompt, asked `TOGETHER` times at once.
struct Asked {
    text: String,
    steps: usize,
    allocations: usize,
}

fn ask(engine: &Engine, request: &ChatRequest) -> Asked {
    let before = allocations();
    let all: Vec<Generation> = (0..TOGETHER).map(|_| engine.generate(request).expect("accepted")).collect();
    let mut asked = Asked { text: String::with_capacity(4096), steps: 0, allocations: 0 };
    for mut generation in all {
        loop {
            match generation.next_blocking().expect("ends with Done or Failed") {
                GenerationEvent::Text(more) => asked.text.push_str(&more),
                GenerationEvent::Done { usage, .. } => {
                    asked.steps += usage.diffusion.expect("a diffusion model").steps as usize;
                    break;
                }
                other => unreachable!("{other:?}"),
            }
        }
    }
    // The end of an answer is told before its lane is gone.
    while engine.load_now().running > 0 {
        std::thread::yield_now();
    }
    asked.allocations = allocations() - before;
    asked
}

/// Held-out prompts of the embedded model that offer no tools, which would demand a form.
fn prompts() -> Vec<Vec<Message>> {
    let text = std::fs::read_to_string(nano().join("heldout.jsonl")).expect("held-out prompts");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let plain = lines.filter(|entry| entry["tools"].as_array().is_none_or(Vec::is_empty));
    let message = |message: &Value| {
        let role: Role = serde_json::from_value(message["role"].clone()).expect("role");
        Message::text(role, message["content"].as_str().expect("text"))
    };
    let messages = |entry: Value| entry["messages"].as_array().expect("messages").iter().map(message).collect();
    plain.step_by(70).map(messages).collect()
}

fn nano() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano")
}

#[test]
fn an_answer_in_more_steps_allocates_no_more() {
    let prompts = prompts();
    let plain = ChatRequest::default();
    let mut biased = ChatRequest::default();
    // Logits are made, and changed, where a bias is asked for.
    biased.sampling.logit_bias.insert(0, -1.0);
    let engines = [
        (Recipe::EXACT, None, KvType::F32),
        (Recipe::DEFAULT, None, KvType::Int8),
        (Recipe::EXACT, Some(8), KvType::Bf16),
        (Recipe::DEFAULT, Some(8), KvType::Int8),
    ];
    for (recipe, expert_pool, kv_type) in engines {
        let options = EngineOptions { recipe, expert_pool, kv_type, ..EngineOptions::default() };
        let engine = Engine::load(ModelFiles::Dir(nano().join("diffusion")), options).expect("the nano model loads");
        for (decoder, refresh_every, sampling) in [
            (DecoderKind::Threshold, 1, &plain),
            (DecoderKind::Joint, 1, &plain),
            (DecoderKind::Threshold, 1, &biased),
            (DecoderKind::Hierarchy, 1, &plain),
            (DecoderKind::Threshold, 8, &plain),
        ] {
            let at = |threshold: f32, prompt: &[Message]| {
                let diffusion = DiffusionOptions {
                    decoder: Some(decoder),
                    threshold: Some(threshold),
                    refresh_every: Some(refresh_every),
                    ..DiffusionOptions::default()
                };
                ask(&engine, &ChatRequest { messages: prompt.to_vec(), diffusion, ..sampling.clone() })
            };
            // Memory grows, and each thread meets the largest part of everything.
            prompts.iter().for_each(|prompt| drop((at(0.5, prompt), at(1.0, prompt))));
            let (mut same, mut steps, mut allocations) = (0, 0, 0);
            for prompt in &prompts {
                let (few, many) = (at(0.5, prompt), at(1.0, prompt));
                if few.text == many.text {
                    same += 1;
                    steps += many.steps as i64 - few.steps as i64;
                    allocations += many.allocations as i64 - few.allocations as i64;
                }
            }
            let what = format!(
                "{recipe:?}, pool {expert_pool:?}, {decoder:?}, {refresh_every}: {same} answers, {steps} more steps, {allocations} more allocations"
            );
            println!("{what}");
            assert!(steps > 60, "{what}");
            assert!(allocations < steps / 8, "{what}");
        }
    }
}
