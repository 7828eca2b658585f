//! The engine's answers against the papers' loops written out plainly over whole-window forwards without a cache.

use std::path::Path;

use tokenizers::Tokenizer;
use weir_diffusion_engine::{DecodeSettings, DecoderKind, EngineOptions, logits_for};
use weir_protocol::{DiffusionOptions, FinishReason};

use crate::answers::{Whole, engine, lively_settings, request, whole};
use crate::support::{self, FIRST_SPECIAL};

const VOCAB: usize = 320;
const EOS: u32 = FIRST_SPECIAL + 1;
const MASK: u32 = FIRST_SPECIAL + 2;
const ROLE_END: u32 = FIRST_SPECIAL + 3;

fn is_end(token: u32) -> bool {
    token == EOS || token == ROLE_END
}

/// Argmax and its probability for each of the last block's positions, the mask left out.
fn candidates(dir: &Path, window: &[u32], from: usize, settings: &DecodeSettings) -> Vec<(u32, f64)> {
    let mut logits = logits_for(dir, window, settings.block_length, false).expect("forward");
    for (row, left) in logits.chunks_mut(VOCAB).skip(1).zip(window) {
        row[*left as usize] -= settings.repeat_penalty;
    }
    logits
        .chunks(VOCAB)
        .skip(from)
        .map(|row| {
            let allowed = || (0..VOCAB).filter(|token| *token != MASK as usize);
            let best = allowed().fold(0, |best, token| if row[token] > row[best] { token } else { best });
            let sum: f64 = allowed().map(|token| (f64::from(row[token]) - f64::from(row[best])).exp()).sum();
            (best as u32, 1.0 / sum)
        })
        .collect()
}

/// One block of `x`, which ends at `to`, by the loop of facts §2.1 or §2.2; the number of forwards.
fn block(dir: &Path, x: &mut [u32], prompt: usize, (from, to): (usize, usize), settings: &DecodeSettings) -> u32 {
    let (threshold, editing) = (f64::from(settings.threshold), f64::from(settings.editing_threshold));
    let (mut forwards, mut post) = (0, 0);
    loop {
        let active: Vec<usize> = (from..to).filter(|i| x[*i] == MASK).collect();
        if active.is_empty() {
            post += 1;
            if settings.decoder == DecoderKind::Threshold || post > settings.max_post_steps {
                return forwards;
            }
        }
        let proposed = candidates(dir, &x[..to], from, settings);
        forwards += 1;
        let mut write: Vec<usize> = active.iter().copied().filter(|i| proposed[i - from].1 > threshold).collect();
        if write.is_empty() && !active.is_empty() {
            let best =
                active.iter().copied().reduce(|a, b| if proposed[b - from].1 > proposed[a - from].1 { b } else { a });
            write.extend(best);
        }
        let mut edits = Vec::new();
        if settings.decoder != DecoderKind::Threshold {
            edits.extend((from.max(prompt)..to).filter(|i| {
                let (token, probability) = proposed[i - from];
                x[*i] != MASK && x[*i] != token && probability > editing
            }));
        }
        for i in write.iter().chain(&edits) {
            x[*i] = proposed[i - from].0;
        }
        if active.is_empty() && edits.is_empty() {
            return forwards;
        }
    }
}

/// The first two blocks of a window that starts at position 0 are revisited as one (`decode/multi_block.rs`).
fn revisits(dir: &Path, x: &mut [u32], prompt: usize, settings: &DecodeSettings) -> u32 {
    let length = settings.block_length;
    let large = DecodeSettings { block_length: 2 * length, ..settings.clone() };
    let mut forwards = 0;
    for last in [false, true] {
        let proposed = candidates(dir, &x[..2 * length], 0, &large);
        forwards += 1;
        let editing = f64::from(settings.editing_threshold);
        let edits: Vec<usize> =
            (prompt..length).filter(|i| x[*i] != proposed[*i].0 && proposed[*i].1 > editing).collect();
        for i in &edits {
            x[*i] = proposed[*i].0;
        }
        if last || edits.is_empty() {
            break;
        }
        forwards += block(dir, x, prompt, (length, 2 * length), settings);
    }
    forwards
}

/// The tokens generated, trimmed at the first end token, and the number of forwards.
fn reference(dir: &Path, prompt: &[u32], length: usize, settings: &DecodeSettings) -> (Vec<u32>, u32) {
    let block_length = settings.block_length;
    let blocks = (prompt.len() + length).div_ceil(block_length);
    let mut x = prompt.to_vec();
    x.resize(blocks * block_length, MASK);
    let mut forwards = 0;
    for number in prompt.len() / block_length..blocks {
        let (from, to) = (number * block_length, (number + 1) * block_length);
        forwards += block(dir, &mut x, prompt.len(), (from, to), settings);
        if settings.decoder == DecoderKind::MultiBlock && number == 1 {
            forwards += revisits(dir, &mut x, prompt.len(), settings);
        }
        if x[prompt.len()..to].iter().any(|token| is_end(*token)) {
            break;
        }
    }
    let mut generated = x[prompt.len()..prompt.len() + length].to_vec();
    if let Some(end) = generated.iter().position(|token| is_end(*token)) {
        generated.truncate(end + 1);
    }
    (generated, forwards)
}

/// Asks an engine with other defaults than the settings checked, so that they come from the request.
fn check(user: &str, length: u32, decoder: DecoderKind, block_length: usize, repeat_penalty: f32) -> Whole {
    let dir = support::tiny_model("llada2_moe");
    let mut settings = lively_settings(decoder);
    settings.block_length = block_length;
    settings.repeat_penalty = repeat_penalty;
    let tokenizer: Tokenizer = support::tokenizer_json().to_string().parse().expect("tokenizer");
    let rendered = format!(
        "<role>SYSTEM</role>detailed thinking off<|role_end|><role>HUMAN</role>{user}<|role_end|><role>ASSISTANT</role>"
    );
    let prompt = tokenizer.encode(rendered, false).expect("encodes");
    let (tokens, forwards) = reference(dir.path(), prompt.get_ids(), length as usize, &settings);
    let mut request = request(user, length);
    request.diffusion = DiffusionOptions {
        decoder: Some(decoder),
        threshold: Some(settings.threshold),
        editing_threshold: Some(settings.editing_threshold),
        max_post_steps: Some(settings.max_post_steps),
        block_length: Some(block_length as u32),
        repeat_penalty: Some(repeat_penalty),
        ..DiffusionOptions::default()
    };
    let engine = engine("llada2_moe", EngineOptions::default());
    let answer = whole(engine.generate(&request).expect("accepted"));
    let what = format!("{decoder:?} {user} {length} {block_length}");
    assert_eq!(answer.text, tokenizer.decode(&tokens, true).expect("decodes"), "{what}");
    assert_eq!(answer.usage.completion_tokens, tokens.len() as u64, "{what}");
    let ended = tokens.last().is_some_and(|token| is_end(*token));
    assert_eq!(answer.reason, if ended { FinishReason::Stop } else { FinishReason::Length }, "{what}");
    let steps = answer.usage.diffusion.as_ref().expect("diffusion").steps;
    if decoder != DecoderKind::Threshold {
        assert_eq!(steps, forwards, "{what}");
    } else {
        // A finished block is committed by the next block's first forward, and nothing after the end is computed.
        assert!(steps <= forwards, "{what}: {steps} steps, reference {forwards}");
    }
    answer
}

#[test]
fn threshold_equals_the_report() {
    for (user, length, block) in [("hello", 70, 32), ("a somewhat longer question", 33, 8), ("hi", 1, 64)] {
        check(user, length, DecoderKind::Threshold, block, 0.0);
    }
}

#[test]
fn joint_equals_the_report() {
    let mut edits = 0;
    for (user, length, block, penalty) in
        [("hello", 70, 32, 0.0), ("a somewhat longer question", 33, 16, 0.0), ("hi", 5, 32, 0.0), ("hi", 70, 32, 2.0)]
    {
        let answer = check(user, length, DecoderKind::Joint, block, penalty);
        edits += answer.usage.diffusion.expect("diffusion").edits;
    }
    assert!(edits > 0, "no edit happened: the thresholds do not exercise the decoder");
}

#[test]
fn multi_block_equals_its_design() {
    let (mut edits, mut plain) = (0, 0);
    for user in ["hello", "tell me", "hi", "what", "why not"] {
        for length in [64, 60, 40] {
            let answer = check(user, length, DecoderKind::MultiBlock, 64, 0.0);
            edits += answer.usage.diffusion.expect("diffusion").edits;
            plain += check(user, length, DecoderKind::Joint, 64, 0.0).usage.diffusion.expect("diffusion").edits;
        }
    }
    assert!(edits > plain, "no revisit changed anything: {edits} edits, {plain} without revisits");
}

/// Where no token is sure enough to be replaced, a revisit leaves nothing behind: the K/V that it overwrote is made anew.
#[test]
fn a_revisit_leaves_no_trace_in_the_cache() {
    let engine = engine("llada2_moe", EngineOptions::default());
    for window in 2..=4 {
        let ask = |decoder| {
            let mut request = request("hello there", 250);
            request.diffusion = DiffusionOptions {
                decoder: Some(decoder),
                threshold: Some(0.03),
                editing_threshold: Some(1.0),
                multi_block_window: Some(window),
                ..DiffusionOptions::default()
            };
            whole(engine.generate(&request).expect("accepted"))
        };
        let (open, closed) = (ask(DecoderKind::MultiBlock), ask(DecoderKind::Joint));
        assert_eq!((&open.text, open.reason), (&closed.text, closed.reason), "window {window}");
        let (open, closed) = (open.usage.diffusion.expect("stats"), closed.usage.diffusion.expect("stats"));
        assert!(closed.blocks >= 4, "too short for this test: {closed:?}");
        assert_eq!((open.blocks, open.steps), (closed.blocks, closed.steps + closed.blocks - 1), "one revisit a block");
    }
}

#[test]
fn autoregressive_equals_whole_window_greedy() {
    let dir = support::tiny_model("bailing_moe_v2");
    let tokenizer: Tokenizer = support::tokenizer_json().to_string().parse().expect("tokenizer");
    let user = "hello ".repeat(20);
    let rendered = format!(
        "<role>SYSTEM</role>detailed thinking off<|role_end|><role>HUMAN</role>{user}<|role_end|><role>ASSISTANT</role>"
    );
    let mut window = tokenizer.encode(rendered, false).expect("encodes").get_ids().to_vec();
    let prompt = window.len();
    assert!(prompt > 64, "the prompt must take more than one chunk");
    while window.len() < prompt + 30 && !window[prompt..].last().is_some_and(|token| is_end(*token)) {
        let next = candidates(dir.path(), &window, window.len() - 1, &DecodeSettings::default());
        window.push(next[0].0);
    }
    let answer =
        whole(engine("bailing_moe_v2", EngineOptions::default()).generate(&request(&user, 30)).expect("accepted"));
    assert_eq!(answer.text, tokenizer.decode(&window[prompt..], true).expect("decodes"));
    assert_eq!(answer.usage.completion_tokens as usize, window.len() - prompt);
}
