//! Within a user turn the backend that answered goes on, unless a fact is against it.

use proptest::prelude::*;
use weir_router_policies::{Features, Obstacle, Policy, Question};

fn policy() -> Policy {
    let text = include_str!("../../../config/policies/balanced.toml").replace(
        "attempts = [\n  { backend = \"role:ar\" },\n  { backend = \"role:diffusion\", mode = \"quality\" },\n]",
        "attempts = [{ backend = \"big\" }, { backend = \"ar\" }]",
    );
    assert!(text.contains("\"big\""), "the last rule was found");
    Policy::parse(&text, "staying").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn who_answered_is_asked_first_and_the_reason_says_so() {
    let policy = policy();
    let backends = policy.test_backends();
    let question = Question { stay: Some("ar"), ..Question::about(Features::default(), &backends) };
    let plan = policy.decide(&question);
    assert_eq!(plan.attempts.iter().map(|one| one.backend.as_str()).collect::<Vec<_>>(), ["ar", "big"]);
    assert!(plan.reason.ends_with("; ar goes on until the user speaks again"), "{}", plan.reason);
    assert_eq!(plan.stay.map(|stay| (stay.backend, stay.against)), Some(("ar".to_owned(), None)));
    // One that no attempt of the rule names goes on, too.
    let question = Question { stay: Some("diffusion"), ..question };
    assert_eq!(policy.decide(&question).attempts[0].backend, "diffusion");
    let question = Question { stay: Some("gone"), ..question };
    let plan = policy.decide(&question);
    assert_eq!((plan.attempts[0].backend.as_str(), plan.stay), ("big", None));
}

#[test]
fn a_fact_is_stronger() {
    let policy = policy();
    let backends = policy.test_backends();
    let features = Features { tail_is_tool_result: true, ..Features::default() };
    let question = Question { stay: Some("diffusion"), ..Question::about(features, &backends) };
    let plan = policy.decide(&question);
    assert_eq!(plan.attempts[0].backend, "big");
    assert_eq!(plan.stay.and_then(|stay| stay.against), Some(Obstacle::ToolResultTail));
    assert!(!plan.reason.contains("goes on"), "{}", plan.reason);
}

#[test]
fn a_named_model_is_not_kept_from_its_caller() {
    let policy = policy();
    let backends = policy.test_backends();
    let question = Question { model: "diffusion", stay: Some("ar"), ..Question::about(Features::default(), &backends) };
    assert_eq!(policy.decide(&question).attempts[0].backend, "diffusion");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_it_is_the_same_backend_or_a_fact_is_named(
        stay in prop::sample::select(vec!["diffusion", "ar", "big"]),
        tool_needed: bool,
        planning_shape: bool,
        tail_is_tool_result: bool,
        has_images: bool,
        prompt_bytes in 0_u64..1_000_000,
        conversation: u64,
    ) {
        let policy = policy();
        let backends = policy.test_backends();
        let features =
            Features { tool_needed, planning_shape, tail_is_tool_result, has_images, prompt_bytes, ..Features::default() };
        let question = Question { stay: Some(stay), conversation, ..Question::about(features.clone(), &backends) };
        let plan = policy.decide(&question);
        let obstacle = backends.iter().find(|one| one.name == stay).and_then(|one| one.obstacle(&features));
        let told = plan.stay.clone().expect("the backend is configured");
        if obstacle.is_none() {
            prop_assert_eq!(&plan.attempts[0].backend, stay);
            prop_assert_eq!(told.against, None);
        } else if plan.attempts.len() > 1 || plan.attempts[0].backend != stay {
            prop_assert_eq!(told.against, obstacle);
            prop_assert!(plan.attempts.iter().all(|attempt| attempt.backend != stay));
        }
        let mut names: Vec<&str> = plan.attempts.iter().map(|attempt| attempt.backend.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        prop_assert_eq!(names.len(), plan.attempts.len(), "nobody is asked twice");
    }
}
