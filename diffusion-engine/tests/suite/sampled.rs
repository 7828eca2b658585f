//! What a request may ask of sampling, on every decoder and the AR engine: the answer is a function of the request, and
//! each setting does what it says.

use serde_json::json;
use weir_diffusion_engine::{DecoderKind, Engine, EngineOptions, ModelFiles, logits_for};
use weir_protocol::{ChatRequest, EngineError, FinishReason, Sampling};

use crate::answers::{Whole, ask, lively, request, same_in_company, whole};
use crate::support::{self, FIRST_SPECIAL};

const VOCAB: usize = 320;
const EOS: u32 = FIRST_SPECIAL + 1;
const ROLE_END: u32 = FIRST_SPECIAL + 3;
/// Of the tiny model made into a LLaDA2.2.
const DELETE: u32 = 300;
const SPLIT: u32 = 301;

const DECODERS: [DecoderKind; 6] = [
    DecoderKind::Threshold,
    DecoderKind::Joint,
    DecoderKind::MultiBlock,
    DecoderKind::Levenshtein,
    DecoderKind::Hierarchy,
    DecoderKind::Credit,
];

fn dir(kind: &str) -> tempfile::TempDir {
    let dir = support::tiny_model(kind);
    let mut config = support::config_json(kind);
    config["delete_token_id"] = json!(DELETE);
    config["split_token_id"] = json!(SPLIT);
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
    dir
}

fn engine(kind: &str) -> Engine {
    controlled(kind, lively(DecoderKind::Joint))
}

/// The tiny model with LLaDA2.2's control tokens, so that every decoder runs on it.
pub(crate) fn controlled(kind: &str, options: EngineOptions) -> Engine {
    let dir = dir(kind);
    Engine::load(ModelFiles::Dir(dir.path().to_path_buf()), options).expect("loads")
}

/// Both engines, the diffusion one once with each decoder.
fn everyone() -> Vec<(Engine, Option<DecoderKind>)> {
    let diffusion = engine("llada2_moe");
    let mut all: Vec<(Engine, Option<DecoderKind>)> =
        DECODERS.into_iter().map(|decoder| (diffusion.clone(), Some(decoder))).collect();
    all.push((engine("bailing_moe_v2"), None));
    all
}

/// The random model never wants to delete or insert by itself.
fn moving() -> Sampling {
    Sampling { logit_bias: [(DELETE, 3.0), (SPLIT, 3.0)].into(), ..Sampling::default() }
}

#[test]
fn the_same_request_gives_the_same_bytes_whatever_runs_beside_it() {
    for (engine, decoder) in everyone() {
        let requests: Vec<ChatRequest> = (0..6u32)
            .map(|i| {
                let mut request = request(&"hello world ".repeat(1 + 3 * i as usize), 20 + 9 * i);
                request.diffusion.decoder = decoder;
                request.sampling = Sampling {
                    temperature: Some(0.3 * i as f32),
                    top_p: (i == 2).then_some(0.9),
                    top_k: (i == 3).then_some(30),
                    min_p: (i == 4).then_some(0.05),
                    frequency_penalty: Some(0.1 * i as f32),
                    repetition_penalty: Some(1.0 + 0.05 * i as f32),
                    seed: Some(i.into()),
                    logprobs: Some(i),
                    ..moving()
                };
                request
            })
            .collect();
        same_in_company(&engine, &requests, &format!("{decoder:?}"));
    }
}

/// The text that an answer's log-probabilities spell.
pub(crate) fn spelt(told: &Whole) -> String {
    let bytes = told.logprobs.iter().flat_map(|entry| entry.chosen.bytes.clone().unwrap_or_default());
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

#[test]
fn log_probabilities_come_for_each_token_of_the_text() {
    for (engine, decoder) in everyone() {
        for temperature in [0.0, 1.0] {
            let mut request = request("hello there", 70);
            request.diffusion.decoder = decoder;
            request.sampling = Sampling { temperature: Some(temperature), seed: Some(3), ..moving() };
            let silent = ask(&engine, &request);
            assert!(silent.logprobs.is_empty());
            request.sampling.logprobs = Some(2);
            let told = ask(&engine, &request);
            assert_eq!(told.text, silent.text, "asking changes nothing");
            let ends = u64::from(told.reason == FinishReason::Stop);
            assert_eq!(told.logprobs.len() as u64, told.usage.completion_tokens - ends, "{decoder:?}");
            for entry in &told.logprobs {
                assert!(entry.chosen.logprob <= 0.0 && entry.top.len() == 2, "{entry:?}");
                assert!(entry.top[0].logprob >= entry.top[1].logprob);
                assert!(entry.chosen.logprob <= entry.top[0].logprob + 1e-6, "nothing is likelier than the likeliest");
                assert!(temperature > 0.0 || decoder.is_some() || entry.chosen == entry.top[0], "{entry:?}");
            }
            assert_eq!(spelt(&told), told.text, "{decoder:?}");
        }
    }
}

#[test]
fn log_probabilities_are_the_models_own() {
    let (dir, user) = (support::tiny_model("bailing_moe_v2"), "hello there");
    let mut request = request(user, 6);
    request.sampling.logprobs = Some(0);
    let files = ModelFiles::Dir(dir.path().to_path_buf());
    let answer = ask(&Engine::load(files, EngineOptions::default()).expect("loads"), &request);
    let tokenizer: tokenizers::Tokenizer = support::tokenizer_json().to_string().parse().expect("tokenizer");
    let rendered = format!(
        "<role>SYSTEM</role>detailed thinking off<|role_end|><role>HUMAN</role>{user}<|role_end|><role>ASSISTANT</role>"
    );
    let mut window = tokenizer.encode(rendered, false).expect("encodes").get_ids().to_vec();
    for entry in &answer.logprobs {
        let logits = logits_for(dir.path(), &window, 32, false).expect("forward");
        let row = &logits[(window.len() - 1) * VOCAB..];
        let allowed = |id: &usize| *id != FIRST_SPECIAL as usize + 2;
        let best = (0..VOCAB).filter(allowed).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("some");
        let sum: f64 = (0..VOCAB).filter(allowed).map(|id| f64::from(row[id]).exp()).sum();
        let expected = f64::from(row[best]) - sum.ln();
        assert!((f64::from(entry.chosen.logprob) - expected).abs() < 1e-3, "{entry:?} {expected}");
        window.push(best as u32);
    }
    assert!(!answer.logprobs.is_empty());
}

#[test]
fn a_stop_text_is_not_told_by_its_log_probabilities() {
    for (engine, decoder) in everyone() {
        let mut request = request("hello there", 60);
        request.diffusion.decoder = decoder;
        let full = ask(&engine, &request);
        let characters: Vec<char> = full.text.chars().collect();
        for length in [1, 4] {
            let stop: String = characters[20..20 + length].iter().collect();
            request.sampling = Sampling { stop: vec![stop], logprobs: Some(0), ..Sampling::default() };
            let stopped = ask(&engine, &request);
            let told = spelt(&stopped);
            assert!(stopped.text.starts_with(&told), "{decoder:?}: {told:?} told, {:?} sent", stopped.text);
        }
    }
}

#[test]
fn biases_rule_and_min_tokens_hold_ends_back() {
    for (engine, decoder) in everyone() {
        let mut request = request("hello", 50);
        request.diffusion.decoder = decoder;
        request.sampling = Sampling { logit_bias: [(ROLE_END, 100.0)].into(), ..Sampling::default() };
        let answer = ask(&engine, &request);
        assert_eq!((answer.reason, answer.usage.completion_tokens), (FinishReason::Stop, 1), "{decoder:?}");
        request.sampling.min_tokens = Some(37);
        request.sampling.logit_bias.extend([(DELETE, 90.0), (SPLIT, 3.0)]);
        let answer = ask(&engine, &request);
        assert!(answer.usage.completion_tokens > 37, "{decoder:?} {:?}", answer.usage);
        request.sampling = Sampling {
            logit_bias: [(u32::from(b'x'), 100.0), (ROLE_END, -100.0), (EOS, -100.0)].into(),
            ..Sampling::default()
        };
        assert_eq!(ask(&engine, &request).text, "x".repeat(50), "{decoder:?}");
        request.sampling.presence_penalty = Some(2.0);
        request.sampling.logit_bias.insert(u32::from(b'y'), 99.0);
        // All at once would be written without having seen each other.
        (request.diffusion.threshold, request.diffusion.editing_threshold) = (Some(1.0), Some(1.0));
        let text = ask(&engine, &request).text;
        assert!(text.contains('x') && text.contains('y'), "once written, x is no likelier than y: {decoder:?} {text}");
    }
}

#[test]
fn a_repeat_penalty_keeps_a_token_from_following_itself() {
    for (engine, decoder) in everyone().into_iter().filter(|(_, decoder)| decoder.is_some()) {
        let mut request = request("hello", 40);
        request.diffusion.decoder = decoder;
        request.diffusion.max_post_steps = Some(64);
        let (x, y) = (u32::from(b'x'), u32::from(b'y'));
        request.sampling.logit_bias = [(x, 57.0), (y, 50.0)].into();
        assert_eq!(ask(&engine, &request).text, "x".repeat(40), "{decoder:?}");
        request.diffusion.repeat_penalty = Some(10.0);
        // All at once would be written without having seen each other.
        request.diffusion.threshold = Some(1.0);
        request.diffusion.editing_threshold = Some(1.0);
        // Across the border of blocks, too.
        for block_length in [32, 1] {
            request.diffusion.block_length = Some(block_length);
            let text = ask(&engine, &request).text;
            assert!(text.contains('x') && text.contains('y'), "{decoder:?} {block_length} {text}");
        }
    }
}

#[test]
fn penalties_count_the_blocks_before() {
    for (engine, decoder) in everyone() {
        let mut request = request("hello", 90);
        request.diffusion.decoder = decoder;
        request.diffusion.block_length = Some(8);
        // One after the other, or a block would be written without having seen itself.
        (request.diffusion.threshold, request.diffusion.editing_threshold) = (Some(1.0), Some(1.0));
        request.sampling = Sampling {
            logit_bias: [(u32::from(b'x'), 60.0), (ROLE_END, -100.0), (EOS, -100.0)].into(),
            frequency_penalty: Some(2.0),
            ..Sampling::default()
        };
        let text = ask(&engine, &request).text;
        let count = text.matches('x').count();
        assert!((20..=45).contains(&count), "{decoder:?}: {count} in {text}");
    }
}

#[test]
fn what_the_token_limit_cuts_off_is_not_waited_for() {
    let engine = controlled("llada2_moe", lively(DecoderKind::Threshold));
    let steps = |prompt: usize| {
        let mut request = request(&"a".repeat(prompt), 1);
        request.diffusion.threshold = Some(1.0);
        ask(&engine, &request).usage.diffusion.expect("diffusion").steps
    };
    // A token a step, so that a block takes up to 32.
    let all: Vec<u32> = (0..8).map(|at| steps(4 * at)).collect();
    assert!(all.iter().sum::<u32>() < 8 * 14, "{all:?}");
}

#[test]
fn an_answer_can_begin_from_another() {
    let engine = engine("llada2_moe");
    let mut request = request("hello", 90);
    request.diffusion.start_from = Some("What was there <|role_end|> stays. ".repeat(2));
    request.diffusion.editing_threshold = Some(1.0);
    for decoder in [DecoderKind::Joint, DecoderKind::Levenshtein] {
        request.diffusion.decoder = Some(decoder);
        let answer = ask(&engine, &request);
        let stats = answer.usage.diffusion.as_ref().expect("diffusion");
        assert_eq!((Some(&answer.text), stats.edits), (request.diffusion.start_from.as_ref(), 0), "{decoder:?}");
        assert_eq!(answer.reason, FinishReason::Stop);
        // Nothing can be surer than 1: one forward a block, and masks only behind the end.
        assert!(stats.blocks >= 2, "{stats:?}");
        request.sampling.logprobs = Some(1);
        let told = ask(&engine, &request);
        assert_eq!(spelt(&told), answer.text, "{decoder:?}");
        request.sampling.logprobs = None;
    }
    // What the request forbids does not stand because it stood there before.
    let (banned, least) = (u32::from(b'W'), 80);
    let mut demanding = request.clone();
    demanding.diffusion.decoder = Some(DecoderKind::Joint);
    demanding.sampling.logit_bias = [(banned, -100.0)].into();
    let text = ask(&engine, &demanding).text;
    assert!(!text.contains('W') && text.ends_with("stays. ") && text.contains("hat was"), "{text}");
    demanding.sampling.min_tokens = Some(least);
    assert!(ask(&engine, &demanding).usage.completion_tokens > u64::from(least));
    request.diffusion.editing_threshold = Some(0.0);
    let edited = ask(&engine, &request);
    assert!(edited.usage.diffusion.as_ref().expect("diffusion").edits > 0, "{edited:?}");
    let mut refused = |field: &str, change: &dyn Fn(&mut ChatRequest)| {
        change(&mut request);
        let error = engine.generate(&request).map(whole).expect_err("refused");
        assert!(matches!(&error, EngineError::InvalidRequest { field: named, .. } if named == field), "{error:?}");
    };
    refused("diffusion.start_from", &|request| request.max_tokens = Some(10));
    refused("diffusion.start_from", &|request| request.diffusion.decoder = Some(DecoderKind::Threshold));
}

#[test]
fn a_model_that_cannot_delete_refuses_levenshtein_and_others_never_write_its_tokens() {
    let plain = support::tiny_model("llada2_moe");
    let load = |decoder| Engine::load(ModelFiles::Dir(plain.path().to_path_buf()), lively(decoder));
    let mut request = request("hello", 20);
    request.diffusion.decoder = Some(DecoderKind::Levenshtein);
    let refused = load(DecoderKind::Joint).expect("loads").generate(&request).map(whole).expect_err("refused");
    assert!(
        matches!(&refused, EngineError::InvalidRequest { field, .. } if field == "diffusion.decoder"),
        "{refused:?}"
    );
    assert!(load(DecoderKind::Levenshtein).is_err_and(|error| error.to_string().contains("field `decoder`")));
    for (engine, decoder) in everyone() {
        request.diffusion.decoder = decoder;
        request.sampling.logit_bias.clear();
        let without = ask(&engine, &request);
        request.sampling.logit_bias = [(DELETE, 100.0), (SPLIT, 100.0)].into();
        let with = ask(&engine, &request);
        match decoder {
            Some(DecoderKind::Levenshtein) => {
                let edits = with.usage.diffusion.as_ref().expect("diffusion").edits;
                assert!(edits > 0 && with.usage.completion_tokens == 20, "{with:?}");
            }
            _ => assert_eq!(without, with, "{decoder:?}"),
        }
    }
}

#[test]
fn extremes_are_taken_at_their_word() {
    for (engine, decoder) in everyone() {
        for sampling in [
            Sampling { repetition_penalty: Some(f32::MIN_POSITIVE), ..Sampling::default() },
            Sampling { repetition_penalty: Some(1e-38), temperature: Some(1.0), ..Sampling::default() },
            Sampling { temperature: Some(1e-30), top_k: Some(1), ..Sampling::default() },
            Sampling { temperature: Some(f32::from_bits(1)), ..Sampling::default() },
            Sampling { temperature: Some(2.0), top_p: Some(0.0), min_p: Some(1.0), ..Sampling::default() },
            Sampling { top_k: Some(u32::MAX), temperature: Some(1.0), seed: Some(u64::MAX), ..Sampling::default() },
            Sampling { logit_bias: (0..VOCAB as u32).map(|token| (token, -100.0)).collect(), ..Sampling::default() },
            Sampling { min_tokens: Some(40), ..Sampling::default() },
        ] {
            for (block_length, max_tokens) in [(1, 1), (1, 40), (256, 40), (32, 40)] {
                if sampling.min_tokens > Some(max_tokens) {
                    continue;
                }
                let mut request = request("hello there", max_tokens);
                request.diffusion.decoder = decoder;
                request.diffusion.block_length = Some(block_length);
                request.sampling = Sampling { logprobs: Some(1), ..sampling.clone() };
                let answer = ask(&engine, &request);
                assert!((1..=u64::from(max_tokens)).contains(&answer.usage.completion_tokens), "{answer:?}");
                assert_eq!(spelt(&answer), answer.text, "{decoder:?} {block_length} {sampling:?}");
            }
        }
    }
}
