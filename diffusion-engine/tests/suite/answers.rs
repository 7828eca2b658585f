//! Whole answers of the tiny random model: alone and in company, bounded, stopped, refused, cancelled.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_diffusion_engine::{
    DecodeSettings, DecoderKind, Engine, EngineKind, EngineOptions, Generation, GenerationEvent, ModelFiles,
};
use weir_protocol::{
    ChatRequest, DiffusionOptions, EngineError, FinishReason, Message, Part, ResponseFormat, Role, Sampling,
    TokenLogprob, Tool, ToolChoice, Usage,
};

use crate::support;

const KINDS: [&str; 2] = ["llada2_moe", "bailing_moe_v2"];

/// Thresholds at which the random model, unsure of everything, still writes several tokens and edits.
pub(crate) fn lively(decoder: DecoderKind) -> EngineOptions {
    let settings = lively_settings(decoder);
    let defaults = DiffusionOptions {
        decoder: Some(decoder),
        threshold: Some(settings.threshold),
        editing_threshold: Some(settings.editing_threshold),
        max_post_steps: Some(settings.max_post_steps),
        ..DiffusionOptions::default()
    };
    EngineOptions { defaults, ..EngineOptions::default() }
}

/// What [`lively`] makes of an engine.
pub(crate) fn lively_settings(decoder: DecoderKind) -> DecodeSettings {
    DecodeSettings { decoder, threshold: 0.03, editing_threshold: 0.04, max_post_steps: 3, ..DecodeSettings::default() }
}

pub(crate) fn engine(model_type: &str, options: EngineOptions) -> Engine {
    let dir = support::tiny_model(model_type);
    Engine::load(ModelFiles::Dir(dir.path().to_path_buf()), options).expect("the tiny model loads")
}

pub(crate) fn request(text: &str, max_tokens: u32) -> ChatRequest {
    ChatRequest {
        messages: vec![Message::text(Role::User, text)],
        max_tokens: Some(max_tokens),
        ..ChatRequest::default()
    }
}

/// A finished answer. Equal answers may have found different parts of their prompts in the cache.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) reason: FinishReason,
    pub(crate) usage: Usage,
    pub(crate) drafts: Vec<(String, u32, u32)>,
    pub(crate) logprobs: Vec<TokenLogprob>,
}

pub(crate) fn whole(mut generation: Generation) -> Whole {
    let (mut text, mut drafts, mut logprobs) = (String::new(), Vec::new(), Vec::new());
    loop {
        match generation.next_blocking().expect("ends with Done or Failed") {
            GenerationEvent::Text(more) => text.push_str(&more),
            GenerationEvent::Logprobs(more) => logprobs.extend(more),
            GenerationEvent::Draft { snapshot, step, masked } => drafts.push((snapshot, step, masked)),
            GenerationEvent::Step(_) => unreachable!("nobody asked for steps"),
            GenerationEvent::StoppedAt(_) => {}
            GenerationEvent::Done { reason, usage } => return Whole { text, reason, usage, drafts, logprobs },
            GenerationEvent::Failed(error) => unreachable!("the request failed: {error}"),
        }
    }
}

impl PartialEq for Whole {
    fn eq(&self, other: &Self) -> bool {
        let Whole { text, reason, usage, drafts, logprobs } = self;
        let uncached = |usage: &Usage| Usage { cached_tokens: 0, ..usage.clone() };
        (text, reason, drafts, logprobs) == (&other.text, &other.reason, &other.drafts, &other.logprobs)
            && uncached(usage) == uncached(&other.usage)
    }
}

pub(crate) fn ask(engine: &Engine, request: &ChatRequest) -> Whole {
    whole(engine.generate(request).expect("accepted"))
}

/// Each of `requests` gives the same answer alone and together with the others.
#[track_caller]
pub(crate) fn same_in_company(engine: &Engine, requests: &[ChatRequest], what: &str) {
    let alone: Vec<Whole> = requests.iter().map(|request| ask(engine, request)).collect();
    let started: Vec<Generation> = requests.iter().map(|request| engine.generate(request).expect("accepted")).collect();
    let together: Vec<Whole> = started.into_iter().map(whole).collect();
    assert_eq!(alone, together, "{what}");
}

#[test]
fn an_answer_is_the_same_alone_and_in_company() {
    for kind in KINDS {
        for decoder in [DecoderKind::Threshold, DecoderKind::Joint, DecoderKind::Hierarchy] {
            let engine = engine(kind, lively(decoder));
            let requests: Vec<ChatRequest> = (0..6u32)
                .map(|i| {
                    let mut request = request(&"hello world ".repeat(1 + 5 * i as usize), 20 + 9 * i);
                    request.diffusion.block_length = Some(8 << (i % 3));
                    if i % 2 == 1 {
                        request.sampling =
                            Sampling { temperature: Some(0.8), seed: Some(i.into()), ..Sampling::default() };
                    }
                    request
                })
                .collect();
            same_in_company(&engine, &requests, &format!("{kind} {decoder:?}"));
        }
    }
}

#[test]
fn usage_counts_what_was_done() {
    for kind in KINDS {
        let engine = engine(kind, lively(DecoderKind::Joint));
        let request = request("hello", 40);
        let answer = ask(&engine, &request);
        let usage = &answer.usage;
        assert_eq!(usage.prompt_tokens, u64::from(engine.count_prompt_tokens(&request).expect("renders")));
        match answer.reason {
            FinishReason::Length => assert_eq!(usage.completion_tokens, 40),
            _ => assert!(usage.completion_tokens <= 40),
        }
        match (engine.info().kind, &usage.diffusion) {
            (EngineKind::Diffusion, Some(stats)) => {
                assert_eq!(u64::from(stats.tokens), usage.completion_tokens);
                assert!(stats.steps > 0 && stats.blocks >= 1, "{stats:?}");
            }
            (EngineKind::Autoregressive, None) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn drafts_come_for_every_step_if_asked_for_and_end_unmasked() {
    let engine = engine("llada2_moe", lively(DecoderKind::Joint));
    let mut request = request("hello", 40);
    assert!(ask(&engine, &request).drafts.is_empty());
    request.diffusion.drafts = true;
    let answer = ask(&engine, &request);
    let steps: Vec<u32> = answer.drafts.iter().map(|(_, step, _)| *step).collect();
    let all = answer.usage.diffusion.expect("diffusion").steps;
    assert_eq!(steps, (1..=all).collect::<Vec<u32>>());
    for (snapshot, _, masked) in &answer.drafts {
        assert_eq!(snapshot.matches('░').count(), *masked as usize);
    }
    assert_eq!(answer.drafts.last().map(|(_, _, masked)| *masked), Some(0));
}

#[test]
fn a_stop_text_ends_the_answer_before_it() {
    for kind in KINDS {
        let engine = engine(kind, lively(DecoderKind::Threshold));
        let mut request = request("hello there", 120);
        let full = ask(&engine, &request);
        let characters: Vec<char> = full.text.chars().collect();
        assert!(characters.len() > 60, "{kind}: the tiny model wrote too little for this test");
        // Across the border of the first blocks too.
        for start in (5..55).step_by(7) {
            let stop: String = characters[start..start + 4].iter().collect();
            let expected = &full.text[..full.text.find(&stop).expect("taken from it")];
            request.sampling.stop = vec![stop.clone(), "never written".into()];
            let stopped = ask(&engine, &request);
            assert_eq!((stopped.text.as_str(), stopped.reason), (expected, FinishReason::Stop), "{kind} {start}");
            assert!(stopped.usage.completion_tokens <= full.usage.completion_tokens);
        }
    }
}

#[test]
fn seeds_repeat_and_differ() {
    for kind in KINDS {
        let engine = engine(kind, lively(DecoderKind::Threshold));
        let sampled = |seed| {
            let mut request = request("hello", 40);
            request.sampling = Sampling { temperature: Some(1.0), top_p: Some(0.9), seed, ..Sampling::default() };
            ask(&engine, &request).text
        };
        assert_eq!(sampled(Some(1)), sampled(Some(1)));
        assert_ne!(sampled(Some(1)), sampled(Some(2)));
        assert_ne!(sampled(None), sampled(None));
    }
}

fn tool(name: &str, parameters: &Value) -> Tool {
    Tool { name: name.into(), description: None, parameters: parameters.clone(), ..Tool::default() }
}

fn refused(engine: &Engine, change: impl FnOnce(&mut ChatRequest)) -> EngineError {
    let mut request = request("hello", 8);
    change(&mut request);
    engine.generate(&request).map(whole).expect_err("must be refused")
}

#[test]
fn what_cannot_be_honoured_is_refused_at_once_with_its_field() {
    for kind in KINDS {
        let engine = engine(kind, EngineOptions::default());
        let field = |error: EngineError| match error {
            EngineError::InvalidRequest { field, .. } => format!("invalid {field}"),
            EngineError::Unsupported { field, .. } => format!("unsupported {field}"),
            EngineError::ContextTooLong { limit, got } => format!("context {limit} {got}"),
            other => format!("{other:?}"),
        };
        let image = Part::image("data:image/png;base64,AAAA");
        let prompt = engine.count_prompt_tokens(&request("hello", 1)).expect("renders");
        let cases = [
            (refused(&engine, |r| r.messages.clear()), "invalid messages".to_owned()),
            (refused(&engine, |r| r.messages[0].content.push(image)), "unsupported messages[0].content[1]".into()),
            (refused(&engine, |r| r.unsupported = vec!["logprobs"]), "unsupported logprobs".into()),
            (refused(&engine, |r| r.tool_choice = ToolChoice::Required), "invalid tool_choice".into()),
            (
                refused(&engine, |r| r.response_format = ResponseFormat::JsonSchema(json!({"type": "nonsense"}))),
                "unsupported response_format.json_schema.schema".into(),
            ),
            (
                refused(&engine, |r| {
                    r.tools = ["fine", "odd"].map(|name| tool(name, &json!({"not": {}}))).to_vec();
                    r.tools[0].parameters = json!({"type": "object"});
                }),
                "unsupported tools[1].function.parameters".into(),
            ),
            (refused(&engine, |r| r.response_format = ResponseFormat::Regex("(".into())), "invalid regex".into()),
            (refused(&engine, |r| r.response_format = ResponseFormat::Grammar("?".into())), "invalid grammar".into()),
            (refused(&engine, |r| r.max_tokens = Some(0)), "invalid max_tokens".into()),
            (refused(&engine, |r| r.sampling.temperature = Some(3.0)), "invalid temperature".into()),
            (
                refused(&engine, |r| {
                    r.diffusion = DiffusionOptions { threshold: Some(1.5), ..DiffusionOptions::default() };
                }),
                "invalid diffusion.threshold".into(),
            ),
            (
                refused(&engine, |r| r.max_tokens = Some(u32::MAX)),
                format!("context 1024 {}", u64::from(prompt) + u64::from(u32::MAX)),
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(field(error), expected);
        }
        let long = refused(&engine, |r| r.messages[0] = Message::text(Role::User, "x".repeat(5_000)));
        assert!(matches!(long, EngineError::ContextTooLong { limit: 1024, got } if got > 5_000), "{long:?}");
    }
}

#[test]
fn the_whole_context_can_be_used_to_its_last_position() {
    for kind in KINDS {
        let engine = engine(kind, lively(DecoderKind::Threshold));
        let mut request = request(&"x".repeat(900), 1);
        let prompt = engine.count_prompt_tokens(&request).expect("renders");
        request.max_tokens = Some(1024 - prompt);
        let answer = ask(&engine, &request);
        assert!(answer.usage.completion_tokens <= u64::from(1024 - prompt));
        assert!(answer.reason == FinishReason::Stop || answer.usage.completion_tokens == u64::from(1024 - prompt));
    }
}

#[test]
fn dropping_an_answer_ends_its_request() {
    for kind in KINDS {
        let engine = engine(kind, lively(DecoderKind::Joint));
        let started: Vec<Generation> =
            (0..20).map(|_| engine.generate(&request("hello", 900)).expect("accepted")).collect();
        drop(started);
        let since = Instant::now();
        while engine.load_now().running + engine.load_now().queued > 0 {
            assert!(since.elapsed() < Duration::from_secs(5), "still busy: {:?}", engine.load_now());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(ask(&engine, &request("hello", 4)).usage.completion_tokens > 0);
    }
}

#[test]
fn an_answer_outlives_its_engine() {
    let engine = engine("llada2_moe", lively(DecoderKind::Joint));
    let generation = engine.generate(&request("hello", 30)).expect("accepted");
    drop(engine);
    assert!(whole(generation).usage.completion_tokens > 0);
}

#[test]
fn embedded_bytes_are_as_good_as_a_folder() {
    let dir = support::tiny_model("llada2_moe");
    let read = |name: &str| -> &'static [u8] { std::fs::read(dir.path().join(name)).expect("written").leak() };
    let files = ModelFiles::Embedded {
        config: read("config.json"),
        tokenizer: read("tokenizer.json"),
        tokenizer_config: read("tokenizer_config.json"),
        weights: read("model.safetensors"),
    };
    let embedded = Engine::load(files, lively(DecoderKind::Joint)).expect("loads");
    assert_eq!(embedded.info().parameters, 313_920);
    let folder = engine("llada2_moe", lively(DecoderKind::Joint));
    assert_eq!(ask(&embedded, &request("hello", 30)), ask(&folder, &request("hello", 30)));
}
