//! K/V that requests share changes no answer: with it, without it, after it was thrown out, and beside strangers the
//! same tokens are committed. On the tiny random model, unsure of everything, and on the embedded ones.

use std::cell::Cell;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use weir_diffusion_engine::{
    DecoderKind, Engine, EngineLoad, EngineOptions, Generation, KvType, ModelFiles, SharePrefixes,
};
use weir_protocol::{ChatRequest, DiffusionOptions, Message, Role, Sampling};

use crate::answers::{Whole, ask, lively, request, whole};
use crate::support;

/// Prompts with two beginnings in common, each cut somewhere, with something of its own behind it.
fn requests() -> impl Strategy<Value = Vec<ChatRequest>> {
    let (seed, refresh_every) = (proptest::option::of(0u64..100), proptest::option::of(1u32..5));
    let one = (0usize..2, 0usize..300, "[a-z ]{0,40}", 1u32..60, seed, refresh_every);
    let one = one.prop_map(|(beginning, cut, own, max_tokens, seed, refresh_every)| {
        let beginning = ["Turn off the lights in the kitchen. ", "Sort these words: lemon, apple, mirror. "][beginning];
        let mut system: String = beginning.repeat(8);
        system.truncate(cut);
        let sampling = match seed {
            Some(seed) => Sampling { temperature: Some(0.7), seed: Some(seed), ..Sampling::default() },
            None => Sampling::default(),
        };
        let messages = vec![Message::text(Role::System, system), Message::text(Role::User, own)];
        let diffusion = DiffusionOptions { refresh_every, ..DiffusionOptions::default() };
        ChatRequest { messages, max_tokens: Some(max_tokens), sampling, diffusion, ..ChatRequest::default() }
    });
    proptest::collection::vec(one, 1..7)
}

fn load(files: &ModelFiles, options: EngineOptions) -> Engine {
    Engine::load(files.clone(), options).expect("loads")
}

/// Answers one after the other.
fn one_by_one(engine: &Engine, requests: &[ChatRequest]) -> Vec<Whole> {
    requests.iter().map(|request| ask(engine, request)).collect()
}

fn together(engine: &Engine, requests: &[ChatRequest]) -> Vec<Whole> {
    let started: Vec<Generation> = requests.iter().map(|request| engine.generate(request).expect("accepted")).collect();
    started.into_iter().map(whole).collect()
}

/// The same, but every second one leaves before it has read its prompt, or in the middle.
fn with_leavers(engine: &Engine, requests: &[ChatRequest]) -> Vec<Option<Whole>> {
    let mut started: Vec<Option<Generation>> =
        requests.iter().map(|request| Some(engine.generate(request).expect("accepted"))).collect();
    for (at, generation) in started.iter_mut().enumerate().skip(1).step_by(2) {
        let mut leaving = generation.take().expect("started");
        if at % 4 == 3 {
            leaving.next_blocking();
        }
    }
    started.into_iter().map(|generation| generation.map(whole)).collect()
}

/// What the engine holds once the last place is free: the end of an answer is told before.
fn idle(engine: &Engine) -> EngineLoad {
    loop {
        let load = engine.load_now();
        if load.running + load.queued == 0 {
            return load;
        }
        std::thread::yield_now();
    }
}

/// `few` pages are enough for one request, and too few to keep much.
fn check(files: &ModelFiles, options: &EngineOptions, few: usize) {
    let cases = 4;
    let without = load(files, EngineOptions { share_prefixes: SharePrefixes::Off, ..options.clone() });
    let with = load(files, options.clone());
    let kv_bytes = Some((few * without.info().kv_page_bytes) as u64);
    let tight = load(files, EngineOptions { kv_bytes, ..options.clone() });
    let cached = Cell::new(0);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&requests(), |requests| {
        let plain = one_by_one(&without, &requests);
        prop_assert!(plain.iter().all(|answer| answer.usage.cached_tokens == 0));
        for answers in [one_by_one(&with, &requests), together(&with, &requests), together(&with, &requests)] {
            for answer in &answers {
                prop_assert!(answer.usage.cached_tokens <= answer.usage.prompt_tokens);
                cached.set(cached.get() + answer.usage.cached_tokens);
            }
            prop_assert_eq!(&answers, &plain);
        }
        prop_assert_eq!(&one_by_one(&tight, &requests), &plain);
        prop_assert_eq!(&together(&tight, &requests), &plain);
        for engine in [&with, &tight] {
            let answers = with_leavers(engine, &requests);
            let stayed: Vec<&Whole> = plain.iter().step_by(2).collect();
            prop_assert_eq!(answers.iter().flatten().collect::<Vec<_>>(), stayed);
        }
        // What those that left had read serves the next ones.
        prop_assert_eq!(&together(&tight, &requests), &plain);
        Ok(())
    });
    result.expect("the same answers");
    assert!(cached.get() > 0, "nothing was ever shared");
    let load = idle(&tight);
    assert_eq!(load.free_pages + load.shared_pages, few, "all that is not free is shared");
    assert!(load.evicted_pages > 0, "nothing was ever thrown out");
    println!("{} cached tokens, {} pages thrown out", cached.get(), load.evicted_pages);
}

#[test]
fn the_tiny_model_answers_the_same_with_and_without_shared_pages() {
    for (kind, decoder) in [
        ("llada2_moe", DecoderKind::Joint),
        ("llada2_moe", DecoderKind::Threshold),
        ("bailing_moe_v2", DecoderKind::Joint),
    ] {
        for kv_type in [KvType::F32, KvType::Bf16, KvType::Int8] {
            let dir = support::tiny_model(kind);
            let options = EngineOptions { kv_type, ..lively(decoder) };
            check(&ModelFiles::Dir(dir.path().to_path_buf()), &options, 16);
        }
    }
}

#[test]
fn the_embedded_models_answer_the_same_with_and_without_shared_pages() {
    for name in ["diffusion", "ar"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano").join(name);
        check(&ModelFiles::Dir(dir), &EngineOptions::default(), 10);
    }
}

#[test]
fn tenants_share_with_themselves_unless_told_otherwise() {
    let dir = support::tiny_model("llada2_moe");
    let files = ModelFiles::Dir(dir.path().to_path_buf());
    let asked = |tenant: Option<&str>| {
        let mut request = request(&"hello world ".repeat(20), 8);
        request.tenant = tenant.map(Into::into);
        request
    };
    for (share_prefixes, others) in
        [(SharePrefixes::Tenant, false), (SharePrefixes::All, true), (SharePrefixes::Off, false)]
    {
        let engine = load(&files, EngineOptions { share_prefixes, ..lively(DecoderKind::Joint) });
        let first = ask(&engine, &asked(Some("a")));
        let cached = |tenant| ask(&engine, &asked(tenant)).usage.cached_tokens;
        assert_eq!(first.usage.cached_tokens, 0);
        let whole = first.usage.prompt_tokens / 32 * 32;
        assert_eq!(cached(Some("a")), if share_prefixes == SharePrefixes::Off { 0 } else { whole });
        assert_eq!(cached(Some("b")), if others { whole } else { 0 });
        assert_eq!(cached(None), if others { whole } else { 0 });
    }
}

#[test]
fn too_little_memory_is_said_and_what_never_fits_is_refused() {
    let dir = support::tiny_model("llada2_moe");
    let files = ModelFiles::Dir(dir.path().to_path_buf());
    let engine = |kv_bytes| Engine::load(files.clone(), EngineOptions { kv_bytes, ..lively(DecoderKind::Joint) });
    let error = engine(Some(100)).expect_err("no page").to_string();
    assert!(error.contains("kv_bytes") && error.contains("100"), "{error}");
    let page = engine(None).expect("loads").info().kv_page_bytes as u64;
    let small = engine(Some(4 * page)).expect("four pages");
    assert_eq!((small.info().kv_pages, small.info().context), (4, 128));
    let error = small.generate(&request(&"hello ".repeat(50), 8)).expect_err("never fits");
    assert!(matches!(error, weir_protocol::EngineError::ContextTooLong { limit: 128, .. }), "{error:?}");
    // Three that need most of the memory: one after the other, none dies.
    let answers = together(&small, &[request("hello", 60), request("hello you", 60), request("you", 60)]);
    assert!(answers.iter().all(|answer| answer.usage.completion_tokens > 0));
}

#[test]
fn a_warmed_beginning_is_there_for_everybody() {
    for kind in ["llada2_moe", "bailing_moe_v2"] {
        let dir = support::tiny_model(kind);
        let files = ModelFiles::Dir(dir.path().to_path_buf());
        let engine = load(&files, lively(DecoderKind::Joint));
        let cold = load(&files, EngineOptions { share_prefixes: SharePrefixes::Off, ..lively(DecoderKind::Joint) });
        let system = Message::text(Role::System, "You keep a house. ".repeat(9));
        let known = ChatRequest { messages: vec![system.clone()], ..ChatRequest::default() };
        let kept = engine.warm(&known).expect("reads");
        assert!(kept >= 160 && kept.is_multiple_of(32), "{kept}");
        assert_eq!(cold.warm(&known), Ok(0));
        for tenant in [None, Some("a"), Some("b")] {
            let mut asked = request("hello", 40);
            asked.messages.insert(0, system.clone());
            asked.tenant = tenant.map(Into::into);
            let answer = ask(&engine, &asked);
            assert_eq!(answer.usage.cached_tokens, u64::from(kept), "{kind} {tenant:?}");
            assert_eq!(answer, ask(&cold, &asked));
        }
    }
}
