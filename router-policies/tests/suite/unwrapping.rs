//! Wrapping off, text and trigger out.

use std::sync::Arc;
use weir_protocol::{Message, Part, Role, ToolCall};

use weir_router_policies::{Trigger, unwrap};

use crate::openclaw;

fn check(message: &str, text: &str, trigger: Trigger) {
    let request = openclaw::plain(message);
    let asked = unwrap::asked(&request);
    assert_eq!((asked.text.as_ref(), asked.trigger), (text, trigger), "for {message:?}");
}

#[test]
fn wrapping_comes_off_and_names_the_trigger() {
    check("hi", "hi", Trigger::User);
    check(&openclaw::wrapped("turn off the kitchen lights"), "turn off the kitchen lights", Trigger::User);
    check("[Sun 2026-11-22 23:59:01 GMT+2] two\nlines", "two\nlines", Trigger::User);
    check("[cron:7f3a nightly tidy] sort the inbox", "sort the inbox", Trigger::Cron);
    check("[Mon 2026-11-23 08:33 UTC] [cron:7f3a nightly] go", "go", Trigger::Cron);
    check("[Subagent Context] You help another agent.", "You help another agent.", Trigger::Subagent);
    check(
        "[Inter-session message] from=agent:main:subagent:1 isUser=false\nthe sum is 4",
        "the sum is 4",
        Trigger::InterSession,
    );
    check(
        "Follow the heartbeat monitor scratch context and report.",
        "Follow the heartbeat monitor scratch context and report.",
        Trigger::Heartbeat,
    );
}

#[test]
fn a_repeated_request_is_the_same_question() {
    for message in [
        "[Retry after the previous model attempt failed or timed out]\n\nplay jazz",
        "[Queued user message from a previous active turn. It still waits.]\n\nplay jazz\n\nContinue the current task if it is not done.",
        "[Queued user message from a previous active turn]\nContinue the current task first.\n\nplay jazz",
    ] {
        let message = openclaw::wrapped(message);
        let request = openclaw::plain(&message);
        let asked = unwrap::asked(&request);
        assert_eq!((asked.text.as_ref(), asked.repeated), ("play jazz", true), "for {message:?}");
    }
}

#[test]
fn what_only_looks_like_wrapping_stays() {
    for text in [
        "[note] buy milk",
        "[Mon] buy milk",
        "[1, 2, 3]",
        "[unclosed",
        "Why does it print\n\nRuntime: agent=x in my log?",
        "What does <<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>> mean?",
        "Runtime: 3 ms",
    ] {
        check(text, text, Trigger::User);
    }
}

#[test]
fn the_internal_context_is_not_the_question() {
    let request = openclaw::request("what is two plus two");
    assert_eq!(unwrap::asked(&request).text, "what is two plus two");
    let mut cut = request.clone();
    cut.messages[2] = Message::text(Role::User, "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>> never ends");
    assert_eq!(unwrap::asked(&cut).text, "what is two plus two");
    let mut followed = request.clone();
    followed.messages[2].content.push(Part::Text("\nand three?".to_owned()));
    assert_eq!(unwrap::asked(&followed).text, "and three?");
}

#[test]
fn a_tool_result_is_the_tail_even_under_internal_context() {
    let mut request = openclaw::request("read notes.md");
    assert!(!unwrap::tail_is_tool_result(&request));
    let call = ToolCall { id: "c1".into(), name: "read".into(), arguments: "{}".into() };
    let mut assistant = Message::text(Role::Assistant, "");
    assistant.tool_calls.push(call);
    let context = request.messages.pop().unwrap();
    request.messages.push(assistant);
    request
        .messages
        .push(Message { tool_call_id: Some("c1".into()), ..Message::text(Role::Tool, "sort these: a, b, c") });
    assert!(unwrap::tail_is_tool_result(&request));
    request.messages.push(context);
    assert!(unwrap::tail_is_tool_result(&request));
    assert_eq!(unwrap::asked(&request).text, "read notes.md");
}

#[test]
fn an_errand_is_small_and_has_no_tools() {
    let mut request = openclaw::plain("Give this session a title: …");
    request.max_tokens = Some(240);
    assert_eq!(unwrap::asked(&request).trigger, Trigger::Utility);
    request.max_tokens = Some(1);
    assert_eq!(unwrap::asked(&request).trigger, Trigger::User);
    request.max_tokens = Some(240);
    request.tools = openclaw::tools();
    assert_eq!(unwrap::asked(&request).trigger, Trigger::User);
}

#[test]
fn nothing_asked_is_an_empty_text() {
    let mut request = openclaw::plain("");
    assert_eq!(unwrap::asked(&request).text, "");
    request.messages.clear();
    assert_eq!(unwrap::asked(&request).text, "");
    request.messages.push(openclaw::internal_context());
    assert_eq!(unwrap::asked(&request).text, "");
}

#[test]
fn every_rule_does_what_its_page_says() {
    for rule in unwrap::RULES {
        check(rule.example, rule.asked, unwrap::asked(&openclaw::plain(rule.example)).trigger);
        let named = ["cron", "subagent", "inter_session", "heartbeat", "retry"];
        let said = named.iter().find(|word| rule.effect.contains(&format!("trigger is `{word}`")));
        let trigger = unwrap::asked(&openclaw::plain(rule.example)).trigger;
        assert!(said.is_none_or(|word| trigger.as_str() == *word), "{} gives {trigger:?}", rule.wrapping);
    }
}

#[test]
fn who_asks_is_named_by_hints_then_by_the_runtime_line() {
    let mut request = openclaw::request("hi");
    let asked = unwrap::asked(&request);
    assert_eq!((asked.agent.as_deref(), asked.session.as_deref()), (Some("main"), Some("agent:main:main")));
    request.hints.session = Some("agent:main:subagent:7".into());
    let asked = unwrap::asked(&request);
    assert_eq!((asked.agent.as_deref(), asked.session.as_deref()), (Some("main"), Some("agent:main:subagent:7")));
    assert_eq!(asked.trigger, Trigger::Subagent);
    request.hints.trigger = Some("inter-session".into());
    assert_eq!(unwrap::asked(&request).trigger, Trigger::InterSession);
    request.hints.attempt = Some(2);
    assert!(unwrap::asked(&request).repeated && unwrap::asked(&request).trigger == Trigger::InterSession);
    request.hints.attempt = Some(1);
    assert!(!unwrap::asked(&request).repeated);
    request.hints.trigger = Some("nobody-knows".into());
    assert_eq!(unwrap::asked(&request).trigger, Trigger::Subagent);

    let mut body = openclaw::plain("hi");
    let hint = serde_json::json!({"x_route_hint": {"trigger": "cron", "agent": "a", "session": "s"}});
    body.raw = Arc::new(hint.as_object().cloned().unwrap());
    let asked = unwrap::asked(&body);
    assert_eq!(
        (asked.trigger, asked.agent.as_deref(), asked.session.as_deref()),
        (Trigger::Cron, Some("a"), Some("s"))
    );
}

#[test]
fn a_responses_request_names_its_session_in_the_system_text() {
    let mut request = openclaw::plain("hi");
    let system =
        format!("{}\nRuntime: agent=main | session=agent:main:cron:9 | os=linux\nBe kind.", "x".repeat(40_000));
    request.messages.insert(0, Message::text(Role::System, system));
    let asked = unwrap::asked(&request);
    assert_eq!((asked.text.as_ref(), asked.trigger), ("hi", Trigger::Cron));
}

#[test]
fn tags_without_end_are_no_work_without_end() {
    let text = format!("{}go", "[Inter-session message]".repeat(100_000));
    let request = openclaw::plain(&text);
    assert_eq!(unwrap::asked(&request).trigger, Trigger::InterSession);
}
