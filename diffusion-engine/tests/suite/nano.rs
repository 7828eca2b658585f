//! The embedded models themselves: they load, answer held-out prompts with the right structure, and their steps take
//! as long as printed. How often they are right is measured by `cargo xtask bench`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use weir_diffusion_engine::{Engine, EngineKind, EngineOptions, ModelFiles};
use weir_protocol::{ChatRequest, DecodeMode, DecoderKind, DiffusionOptions, FinishReason, Message, Role, Tool};

use crate::answers::whole;

fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano")
}

fn load(name: &str) -> Engine {
    Engine::load(ModelFiles::Dir(nano().join(name)), EngineOptions::default()).expect("the nano model loads")
}

#[test]
fn thresholds_are_those_of_the_decoder_that_decodes() {
    let load = |threshold| {
        let defaults =
            DiffusionOptions { decoder: Some(DecoderKind::Threshold), threshold, ..DiffusionOptions::default() };
        let options = EngineOptions { defaults, ..EngineOptions::default() };
        Engine::load(ModelFiles::Dir(nano().join("diffusion")), options).expect("the nano model loads")
    };
    let (published, operators) = (load(None), load(Some(0.8)));
    let asked = |engine: &Engine, decoder, mode| {
        let diffusion = DiffusionOptions { decoder, mode, ..DiffusionOptions::default() };
        let settings = engine.decoding_of(&ChatRequest { diffusion, ..ChatRequest::default() }).expect("in range");
        (settings.decoder, settings.threshold)
    };
    let (joint, speed) = (Some(DecoderKind::Joint), Some(DecodeMode::Speed));
    assert_eq!(asked(&published, None, None), (DecoderKind::Threshold, 0.95));
    assert_eq!(asked(&published, joint, None), (DecoderKind::Joint, 0.7), "not the engine's 0.95");
    assert_eq!(asked(&operators, joint, None), (DecoderKind::Joint, 0.8), "the operator's word stands");
    assert_eq!(asked(&operators, None, speed), (DecoderKind::Threshold, 0.85), "a preset is no other decoder");
    assert_eq!(asked(&operators, joint, speed), (DecoderKind::Joint, 0.5));
}

/// Every `step`-th held-out prompt as a request.
fn held_out(step: usize) -> impl Iterator<Item = ChatRequest> {
    let text = std::fs::read_to_string(nano().join("heldout.jsonl")).expect("held-out prompts");
    let lines: Vec<Value> = text.lines().step_by(step).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    lines.into_iter().map(|entry| {
        let messages = entry["messages"].as_array().expect("messages").iter().map(|message| {
            let role: Role = serde_json::from_value(message["role"].clone()).expect("role");
            Message::text(role, message["content"].as_str().expect("text"))
        });
        let tools = entry["tools"].as_array().into_iter().flatten().map(|tool| Tool {
            name: tool["function"]["name"].as_str().expect("name").to_owned(),
            description: tool["function"]["description"].as_str().map(str::to_owned),
            parameters: tool["function"]["parameters"].clone(),
            ..Tool::default()
        });
        ChatRequest {
            messages: messages.collect(),
            tools: tools.collect(),
            max_tokens: Some(96),
            ..ChatRequest::default()
        }
    })
}

/// What is written after a partial forward may differ, and seldom does; forms hold, and decoders that edit end.
#[test]
fn blocks_that_are_seldom_computed_whole_are_answered_nearly_alike() {
    let engine = load("diffusion");
    for decoder in [DecoderKind::Threshold, DecoderKind::Joint] {
        let (mut same, mut all) = (0, 0);
        for mut request in held_out(20) {
            request.diffusion.decoder = Some(decoder);
            let exact = whole(engine.generate(&request).expect("accepted"));
            request.diffusion.refresh_every = Some(256);
            let answer = whole(engine.generate(&request).expect("accepted"));
            assert_eq!(answer.reason, exact.reason);
            (same, all) = (same + usize::from(answer.text == exact.text), all + 1);
        }
        assert!(10 * same >= 9 * all, "{decoder:?}: {same} of {all}");
    }
}

#[test]
fn both_models_answer_held_out_prompts() {
    for (name, kind) in [("diffusion", EngineKind::Diffusion), ("ar", EngineKind::Autoregressive)] {
        let engine = load(name);
        assert_eq!(engine.info().kind, kind);
        assert!(engine.info().weights_bytes <= 8 << 20, "{} bytes", engine.info().weights_bytes);
        let (mut tokens, mut steps, started) = (0, 0, Instant::now());
        for mut request in held_out(50) {
            request.diffusion.mode = Some(DecodeMode::Speed);
            let answer = whole(engine.generate(&request).expect("accepted"));
            assert!(!answer.text.contains("<|") && !answer.text.contains("<role>"), "a control token came out as text");
            assert!(answer.usage.completion_tokens >= 1);
            assert!(answer.reason == FinishReason::Stop || answer.usage.completion_tokens == 96);
            tokens += answer.usage.completion_tokens;
            steps += answer.usage.diffusion.map_or(answer.usage.completion_tokens, |stats| stats.steps.into());
        }
        let seconds = started.elapsed().as_secs_f64();
        let kernels = engine.info().kernels;
        println!(
            "{name} ({kernels}): {tokens} tokens, {steps} steps in {seconds:.2} s, {:.0} us a step, {:.2} tokens a step",
            seconds * 1e6 / steps as f64,
            tokens as f64 / steps as f64
        );
    }
}
