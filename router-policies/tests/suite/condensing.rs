//! Condensed requests: small, whole in what was asked, and honest about what is left out.

use proptest::prelude::*;
use weir_protocol::{ChatRequest, Message, Part, Role, ToolCall, ToolChoice};
use weir_router_policies::condense::{CondenseSettings, Condensed, condense};
use weir_router_policies::{Features, Policy};

use crate::openclaw;

fn settings() -> CondenseSettings {
    CondenseSettings { instructions: "Answer briefly.".into(), turns: 2, max_bytes: 6000, max_tools: 2 }
}

fn of(request: &ChatRequest) -> Option<Condensed> {
    condense(request, &Features::of(request), &settings())
}

fn texts(request: &ChatRequest) -> Vec<(Role, String)> {
    request.messages.iter().map(|message| (message.role, message.joined_text())).collect()
}

#[test]
fn an_agent_request_comes_down_to_its_question_and_the_tools_that_matter() {
    let request = openclaw::request("search the web for cheap flights to rome");
    let condensed = of(&request).expect("it is long");
    assert_eq!(
        texts(&condensed.request),
        [
            (Role::System, "Answer briefly.".to_owned()),
            (Role::User, "search the web for cheap flights to rome".to_owned())
        ]
    );
    let kept: Vec<&str> = condensed.request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert!(kept.contains(&"web_search"), "{kept:?}");
    assert!(kept.len() <= 2 && condensed.size.tools == kept.len() as u64);
    assert_eq!(condensed.left_out.tools.len(), 12 - kept.len());
    assert_eq!(condensed.left_out.system_chars, 42_000);
    assert!(condensed.size.bytes <= 6000);
    assert_eq!(condensed.size.bytes + condensed.left_out.bytes, Features::of(&request).prompt_bytes);
    // Nothing of the caller's body is left to be sent as it came.
    assert!(condensed.request.raw.is_empty());
    assert_eq!(condensed.request.max_tokens, request.max_tokens);
}

#[test]
fn recent_turns_stay_and_older_ones_are_counted() {
    let mut request = openclaw::request("first");
    request.messages.truncate(2);
    for (answer, next) in [("one", "second"), ("two", "third"), ("three", "and in german?")] {
        request.messages.push(Message::text(Role::Assistant, answer));
        request.messages.push(Message::text(Role::User, openclaw::wrapped(next)));
    }
    let condensed = of(&request).expect("it is long");
    let said: Vec<String> = texts(&condensed.request).into_iter().map(|(_, text)| text).collect();
    assert_eq!(said, ["Answer briefly.", "third", "three", "and in german?"]);
    assert_eq!(condensed.left_out.turns, 4);
}

#[test]
fn what_would_lose_something_is_not_condensed() {
    assert!(of(&openclaw::plain("hi")).is_none(), "nothing to gain");
    let mut errand = openclaw::plain(&"a long recap ".repeat(200));
    errand.max_tokens = Some(240);
    assert!(of(&errand).is_none(), "an errand is small anyway");
    assert!(of(&openclaw::request(&"x".repeat(7000))).is_none(), "the question itself does not fit");
    let mut image = openclaw::request("what is this");
    image.messages[1].content.push(Part::image("data:,"));
    assert!(of(&image).is_none());
    let mut tail = openclaw::request("read notes.md");
    let call = ToolCall { id: "1".into(), name: "read".into(), arguments: "{}".into() };
    tail.messages.push(Message { tool_calls: vec![call], ..Message::empty(Role::Assistant) });
    tail.messages.push(Message::text(Role::Tool, "text"));
    assert!(of(&tail).is_none(), "the work on it would be lost");
    let mut demanded = openclaw::request("hi");
    demanded.tool_choice = ToolChoice::Function("cron".into());
    let condensed = of(&demanded).expect("it is long");
    assert_eq!(condensed.request.tools.len(), 1);
    assert_eq!(condensed.request.tools[0].name, "cron");
    demanded.tool_choice = ToolChoice::Required;
    assert!(of(&demanded).is_none(), "some tool is demanded and nothing tells which");
}

#[test]
fn a_condensed_attempt_fits_where_the_whole_request_does_not() {
    let text = include_str!("../../../config/policies/diffusion-first.toml");
    let policy = Policy::parse(text, "diffusion-first").unwrap_or_else(|error| panic!("{error}"));
    let request = openclaw::request("turn the meeting notes into three points");
    let features = Features::of(&request);
    let condensed = policy.condenses().and_then(|settings| condense(&request, &features, settings)).expect("long");
    let backends = policy.test_backends();
    let question = weir_router_policies::Question {
        condensed: Some(condensed.size),
        ..weir_router_policies::Question::of(&request, &backends)
    };
    let plan = policy.decide(&question);
    assert_eq!((plan.attempts[0].backend.as_str(), plan.attempts[0].condensed), ("diffusion", true));
    assert!(!plan.attempts[1].condensed, "AR gets the request as it came");
    // Unless the rule says so itself, as for a small local model.
    let own = text.replace("{ backend = \"role:ar\" }", "{ backend = \"role:ar\", condense = true }");
    let small = Policy::parse(&own, "own").unwrap_or_else(|error| panic!("{error}")).decide(&question);
    assert_eq!((small.attempts[1].backend.as_str(), small.attempts[1].condensed), ("ar", true));
    // Without it the small window is a fact against diffusion.
    assert_eq!(policy.plan(&request, &backends).attempts[0].backend, "ar");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn limits_are_hard_and_the_question_is_whole(
        texts in prop::collection::vec((0..4_usize, "[a-zA-Z ,.?]{0,80}"), 1..8),
        max_bytes in 100_u64..4000,
        turns in 0_u64..5,
        max_tools in 0_u64..6,
    ) {
        let roles = [Role::System, Role::User, Role::Assistant, Role::User];
        let mut messages: Vec<Message> = vec![Message::text(Role::System, openclaw::system_prompt())];
        messages.extend(texts.iter().map(|(role, text)| Message::text(roles[*role], openclaw::wrapped(text))));
        let request = ChatRequest { messages, tools: openclaw::tools(), ..ChatRequest::default() };
        let settings = CondenseSettings { instructions: "Answer.".into(), turns, max_bytes, max_tools };
        let features = Features::of(&request);
        if let Some(condensed) = condense(&request, &features, &settings) {
            let small = Features::of(&condensed.request);
            prop_assert!(small.prompt_bytes <= max_bytes);
            prop_assert_eq!(small.prompt_bytes, condensed.size.bytes);
            prop_assert!(condensed.request.tools.len() as u64 <= max_tools);
            prop_assert!(condensed.request.messages.len() as u64 <= turns + 2);
            let asked = weir_router_policies::unwrap::asked(&request).text.into_owned();
            prop_assert_eq!(condensed.request.messages.last().map(Message::joined_text), Some(asked));
        }
    }
}
