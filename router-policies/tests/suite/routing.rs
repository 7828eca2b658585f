//! The default policy: request → rule and attempts.

use weir_protocol::{ChatRequest, DecodeMode, DiffusionOptions, Message, Part, ResponseFormat, Role, ToolChoice};
use weir_router_policies::{BackendFacts, BackendRole, Obstacle, Policy, RoutePlan};

use crate::openclaw::{self, tool};

const DEFAULT: &str = include_str!("../../../config/policies/balanced.toml");

pub(crate) fn default_policy() -> Policy {
    Policy::parse(DEFAULT, "config/policies/balanced.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn built_in(role: BackendRole) -> BackendFacts {
    BackendFacts {
        name: role.as_str().to_owned(),
        group: None,
        role,
        context_tokens: 1024,
        takes_images: false,
        takes_tools: true,
        honours_unsupported: false,
        local: true,
        bytes_per_token: 3.0,
    }
}

fn upstream(name: &str) -> BackendFacts {
    BackendFacts {
        name: name.to_owned(),
        context_tokens: 32_768,
        takes_images: true,
        honours_unsupported: true,
        local: false,
        bytes_per_token: 4.0,
        ..built_in(BackendRole::Ar)
    }
}

pub(crate) fn backends() -> Vec<BackendFacts> {
    vec![built_in(BackendRole::Diffusion), built_in(BackendRole::Ar), upstream("gpu")]
}

fn names(plan: &RoutePlan) -> Vec<&str> {
    plan.attempts.iter().map(|attempt| attempt.backend.as_str()).collect()
}

/// One row of the table: what the default policy does with a request.
fn check(request: &ChatRequest, rule: &str, attempts: &[&str]) -> RoutePlan {
    let plan = default_policy().plan(request, &backends());
    assert_eq!((plan.rule.as_str(), names(&plan).as_slice()), (rule, attempts), "plan: {plan:#?}");
    plan
}

const DIFFUSION_FIRST: &[&str] = &["diffusion", "gpu", "ar"];
const AR_FIRST: &[&str] = &["gpu", "ar", "diffusion"];

#[test]
fn plain_requests() {
    for (text, rule, attempts) in [
        ("hi", "otherwise", AR_FIRST),
        ("Tell me about the history of bread.", "otherwise", AR_FIRST),
        ("what is a sudoku?", "otherwise", AR_FIRST),
        ("reverse a linked list in python", "otherwise", AR_FIRST),
        ("how do i turn csv into json in python", "otherwise", AR_FIRST),
        ("sort out my life", "otherwise", AR_FIRST),
        ("Sort these words: pear, apple, fig", "transform", DIFFUSION_FIRST),
        ("reverse: one, two, three", "transform", DIFFUSION_FIRST),
        ("Remove duplicates from kiwi, plum, kiwi", "transform", DIFFUSION_FIRST),
        ("each word once: a, b, a, c", "transform", DIFFUSION_FIRST),
        ("sort pear, fig, plum", "transform", DIFFUSION_FIRST),
        ("extract name and age as json: Anna, 31, lives in Oslo", "structure", DIFFUSION_FIRST),
        ("json with city: Bob is from Rome", "structure", DIFFUSION_FIRST),
        ("Solve this sudoku: 1..4/3.../.14./..21", "planning", DIFFUSION_FIRST),
        ("is 1.25/3.50/2.75/4.00 a fair split?", "otherwise", AR_FIRST),
        ("solve this sudoku:\n1.3.\n..1.\n.1..\n...2", "planning", DIFFUSION_FIRST),
        (
            "53..7....\n6..195...\n.98....6.\n8...6...3\n4..8.3..1\n7...2...6\n.6....28.\n...419..5\n....8..79",
            "planning",
            DIFFUSION_FIRST,
        ),
        ("find a path from A to D: A>B B>D A>C", "planning", DIFFUSION_FIRST),
        ("how do i get from K to P: K>M M>P K>A A>B", "planning", DIFFUSION_FIRST),
        ("Schedule 3 talks: Ann must speak before Bob, and Cleo cannot be last", "planning", DIFFUSION_FIRST),
        ("My phone number is 555-0100, call me from 9-10 to 11-12", "otherwise", AR_FIRST),
    ] {
        check(&openclaw::plain(text), rule, attempts);
    }
}

#[test]
fn a_needed_tool_goes_to_diffusion_with_the_speed_preset() {
    let mut request = openclaw::plain("turn off the kitchen lights");
    request.tools = vec![tool("set_light", "", &["room", "on"])];
    let plan = check(&request, "tool-call", DIFFUSION_FIRST);
    assert_eq!(plan.route, "diffusion");
    assert_eq!(plan.attempts[0].decoding.mode, Some(DecodeMode::Speed));
    assert_eq!(plan.attempts[0].first_content_ms, Some(4000));
    assert_eq!((&plan.attempts[1].decoding, plan.attempts[1].first_content_ms), (&DiffusionOptions::default(), None));
    request.diffusion.mode = Some(DecodeMode::Quality);
    let plan = check(&request, "tool-call", DIFFUSION_FIRST);
    assert_eq!(plan.attempts[0].decoding, DiffusionOptions::default(), "the caller's wish wins");
}

#[test]
fn demanded_structure() {
    let mut request = openclaw::plain("Describe Oslo.");
    request.response_format = ResponseFormat::JsonObject;
    check(&request, "structure", DIFFUSION_FIRST);
    request.max_tokens = Some(4096);
    check(&request, "otherwise", AR_FIRST);
    let mut request = openclaw::plain("hi");
    request.tool_choice = ToolChoice::Function("set_light".into());
    request.tools = vec![tool("set_light", "", &["room", "on"])];
    check(&request, "tool-call", DIFFUSION_FIRST);
}

#[test]
fn an_agent_request_is_routed_by_its_text_and_sent_where_it_fits() {
    let request = openclaw::request("hi");
    let plan = check(&request, "otherwise", &["gpu"]);
    assert!(
        plan.features.prompt_bytes > 50_000,
        "the generator makes OpenClaw's size, got {}",
        plan.features.prompt_bytes
    );
    assert!(!plan.features.tool_needed && !plan.features.transform_shape && !plan.features.structure_demanded);

    let plan = check(&openclaw::request("sort these words: pear, fig, plum"), "transform", &["gpu"]);
    assert_eq!(plan.passed_over[0].backend, "diffusion");
    assert!(matches!(plan.passed_over[0].why, Obstacle::OverContext { needs, limit: 1024 } if needs > 10_000));
    let said = plan.reason.split_once("; diffusion passed over: needs about ").map(|(_, said)| said);
    assert!(said.is_some_and(|said| said.ends_with(" tokens, takes 1024")), "{}", plan.reason);

    check(&openclaw::request("search the web for cheap flights to rome"), "tool-call", &["gpu"]);
}

#[test]
fn hard_rules_hold_whatever_the_policy_says() {
    let puzzle = "find a path from A to D: A>B B>D A>C";
    let mut image = openclaw::plain(puzzle);
    image.messages[0].content.push(Part::image("data:,"));
    let plan = check(&image, "planning", &["gpu"]);
    assert!(plan.passed_over.iter().all(|passed| passed.why == Obstacle::Images));
    assert_eq!(plan.passed_over.len(), 2);

    let mut audio = openclaw::plain(puzzle);
    audio.messages[0].content.push(Part::Other { kind: "input_audio".into() });
    check(&audio, "planning", &["gpu"]);
    audio.messages[0].content.pop();
    audio.messages[0].content.push(Part::File { url: "data:,".into(), name: None });
    check(&audio, "planning", &["gpu"]);

    let mut logprobs = openclaw::plain(puzzle);
    logprobs.unsupported = vec!["logprobs", "n"];
    let plan = check(&logprobs, "planning", &["gpu"]);
    assert!(plan.reason.ends_with("; diffusion passed over: cannot honour logprobs, n"), "{}", plan.reason);

    let mut tail = openclaw::plain(puzzle);
    tail.messages.push(Message::text(Role::Tool, "ok"));
    let plan = check(&tail, "planning", &["gpu", "ar"]);
    assert_eq!(plan.passed_over[0].why, Obstacle::ToolResultTail);

    let mut required = openclaw::plain("hi");
    required.tool_choice = ToolChoice::Required;
    let mut deaf = backends();
    deaf[0].takes_tools = false;
    let plan = default_policy().plan(&required, &deaf);
    assert_eq!(names(&plan), ["gpu", "ar"]);
}

#[test]
fn when_nobody_can_the_last_ar_backend_refuses_in_its_own_words() {
    let only_built_in = [built_in(BackendRole::Diffusion), built_in(BackendRole::Ar)];
    let plan = default_policy().plan(&openclaw::request("hi"), &only_built_in);
    assert_eq!(names(&plan), ["ar"]);
    assert_eq!(plan.notes, ["no backend can take this request; ar is asked so that the refusal is its own"]);
    assert_eq!(plan.passed_over.len(), 2);
    let plan = default_policy().plan(&openclaw::request("hi"), &[]);
    assert!(plan.attempts.is_empty());
    assert!(plan.passed_over.iter().all(|passed| passed.why == Obstacle::NotConfigured));
}

#[test]
fn pins() {
    let mut request = openclaw::plain("hi");
    for (model, attempts) in [("diffusion", DIFFUSION_FIRST), ("ar", &["ar", "gpu"][..]), ("gpu", &["gpu", "ar"][..])] {
        model.clone_into(&mut request.model);
        let plan = check(&request, "pin", attempts);
        assert_eq!((plan.route.as_str(), plan.reason), (model, format!("the caller asked for {model}")));
    }
    let plan = default_policy().plan_pinned(&request, "gpu", &backends());
    assert_eq!(names(&plan), ["gpu", "ar"]);
    // Too long for the pinned engine: the fallback answers, and the reason says so.
    let mut long = openclaw::request("hi");
    "diffusion".clone_into(&mut long.model);
    let plan = check(&long, "pin", &["gpu"]);
    assert!(plan.reason.starts_with("the caller asked for diffusion; diffusion passed over: needs about "));
    // Without fallbacks the pinned backend refuses itself.
    let strict = DEFAULT.replace("fallback = [{ backend = \"role:ar\" }]", "");
    let plan = Policy::parse(&strict, "strict").unwrap().plan(&long, &backends());
    assert_eq!(names(&plan), ["diffusion"]);
    // A role without a backend of its name means all of the role.
    "ar".clone_into(&mut request.model);
    let plan = default_policy().plan(&request, &[upstream("a"), upstream("b")]);
    assert_eq!(names(&plan), ["a", "b"]);
}

#[test]
fn the_plan_is_data() {
    let plan = check(&openclaw::request("sort these words: pear, fig, plum"), "transform", &["gpu"]);
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["passed_over"][0]["backend"], "diffusion");
    assert_eq!(json["passed_over"][0]["why"]["kind"], "over_context");
    assert_eq!(json["features"]["transform_shape"], true);
    assert_eq!(json["features"]["trigger"], "user");
    assert!(!json.to_string().contains("plum"), "a plan holds no prompt text");
}

#[test]
fn conditions_see_features_and_backends_and_their_failures_are_notes() {
    let text = r#"
        [[rule]]
        name = "broken"
        when = "100 / tools_count > 50"
        route = "ar"
        reason = "r"
        attempts = [{ backend = "role:ar" }]
        [[rule]]
        name = "facts"
        when = "backends.diffusion.can_take && !backends.ar.takes_images && backends.ar.context_tokens == 1024 && trigger in ['user', 'cron']"
        route = "facts"
        reason = "r"
        attempts = [{ backend = "diffusion" }, { backend = "gone" }]
        [[rule]]
        name = "fields"
        when = "'logprobs' in unsupported || size(unsupported) > 1"
        route = "fields"
        reason = "r"
        attempts = [{ backend = "ar" }]
        [[rule]]
        name = "last"
        route = "last"
        reason = "r"
        attempts = [{ backend = "ar" }]
    "#;
    let policy = Policy::parse(text, "test").unwrap_or_else(|error| panic!("{error}"));
    let local = [built_in(BackendRole::Diffusion), built_in(BackendRole::Ar)];
    let plan = policy.plan(&openclaw::plain("hi"), &local);
    assert_eq!(plan.rule, "facts");
    assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);
    assert!(plan.notes[0].starts_with("rule `broken` did not match: Division by zero"), "{:?}", plan.notes);
    assert_eq!(plan.reason, "r", "a later attempt that is missing does not explain the first");
    assert_eq!(plan.passed_over[0].backend, "gone");

    let mut logprobs = openclaw::plain("hi");
    logprobs.unsupported = vec!["logprobs"];
    assert_eq!(policy.plan(&logprobs, &local).rule, "fields");
    assert_eq!(policy.plan(&openclaw::request("hi"), &local).rule, "last");
}
