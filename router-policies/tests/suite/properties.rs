//! What holds for every text: wrapping changes nothing, nothing panics, plans are the same twice.

use proptest::prelude::*;
use weir_protocol::{ChatRequest, Message, Role};
use weir_router_policies::features::About;
use weir_router_policies::{FEATURES, Features, Policy, unwrap};

use crate::openclaw;
use crate::routing::{backends, default_policy};

/// Texts people write, and texts nobody writes.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,200}",
        "[a-z ,:.\n>0-9-]{0,200}",
        "\\[[A-Za-z0-9: -]{0,30}\\]?[a-z ]{0,20}(\n\nRuntime: agent=[a-z |=]{0,20})?",
        "(<<<(BEGIN|END)_OPENCLAW_INTERNAL_CONTEXT>>>|[a-z ]{0,10}){0,5}",
        "(sort|reverse|plan|schedule|turn|lights|kitchen|json|as|A>B|B>C|from|to|1\\.\\.2\n|[,: ])( ?[a-z]{0,5},?){0,30}",
    ]
}

/// A text that is not itself wrapping, as a person would write it.
fn person_text() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z ,:.>0-9!?'-]{0,120}[a-z.]"
}

/// The features that are said to be about the asked text alone, as they are explained.
fn of_text(features: &Features) -> Vec<(&'static str, serde_json::Value)> {
    let all = serde_json::to_value(features).expect("features are JSON");
    let about_text = FEATURES.iter().filter(|info| info.about == About::Text);
    about_text.map(|info| (info.name, all[info.name].clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wrapper_system_prompt_and_tools_change_nothing_about_the_text(text in person_text(), system: bool, tools: bool, wrap: bool, context: bool, earlier: bool) {
        let bare = openclaw::plain(&text);
        let mut request = ChatRequest { model: "auto".into(), ..ChatRequest::default() };
        if earlier {
            request.messages.push(Message::text(Role::User, openclaw::wrapped("sort these: b, a, c\n```\nx = 1;\n```")));
            request.messages.push(Message::text(Role::Assistant, "a, b, c"));
        }
        if system {
            request.messages.push(Message::text(Role::System, "Sort these: c, b, a. Answer as json with care."));
        }
        request.messages.push(Message::text(Role::User, if wrap { openclaw::wrapped(&text) } else { text.clone() }));
        if context {
            request.messages.push(openclaw::internal_context());
        }
        if tools {
            request.tools = openclaw::tools();
        }
        let (plain, wrapped) = (unwrap::asked(&bare), unwrap::asked(&request));
        prop_assert_eq!(plain.text, wrapped.text);
        prop_assert_eq!(plain.trigger, wrapped.trigger);
        prop_assert_eq!(of_text(&Features::of(&bare)), of_text(&Features::of(&request)));
        prop_assert_eq!(Features::of(&bare).structure_demanded, Features::of(&request).structure_demanded);
        // The tools decide whether one is needed; nothing else around the text does.
        let bare_with_tools = ChatRequest { tools: request.tools.clone(), ..bare.clone() };
        prop_assert_eq!(Features::of(&bare_with_tools).tool_needed, Features::of(&request).tool_needed);
    }

    #[test]
    fn a_request_of_another_client_passes_unharmed(text in person_text()) {
        let request = openclaw::plain(&text);
        let asked = unwrap::asked(&request);
        prop_assert_eq!(asked.text.as_ref(), text.trim());
    }

    #[test]
    fn any_text_has_a_plan_and_it_is_the_same_twice(texts in prop::collection::vec((0..4usize, any_text()), 0..5), tools: bool) {
        let roles = [Role::System, Role::User, Role::Assistant, Role::Tool];
        let messages = texts.iter().map(|(role, text)| Message::text(roles[*role], text.clone())).collect();
        let request = ChatRequest { model: "auto".into(), messages, tools: if tools { openclaw::tools() } else { vec![] }, ..ChatRequest::default() };
        let policy = default_policy();
        let plan = policy.plan(&request, &backends());
        prop_assert!(!plan.attempts.is_empty());
        prop_assert_eq!(plan.notes.len(), 0);
        prop_assert_eq!(plan, policy.plan(&request, &backends()));
    }

    #[test]
    fn no_policy_text_panics(text in "\\PC{0,300}") {
        let _ = Policy::parse(&text, "fuzz");
    }

    #[test]
    fn no_condition_panics(when in prop_oneof!["\\PC{0,80}", "[a-z_.()!&|<>=+*/%0-9'\\[\\]?:{}, -]{0,80}", "((tool_needed|max_tokens|backends\\.ar\\.local|[0-9]{1,20}|'a'|size|\\(|\\)|in|\\[|\\]|&&|\\|\\||!|==|<|/|%|-|\\+|\\*|\\?|:) ?){0,20}"]) {
        let quoted = toml::Value::String(when).to_string();
        let rest = "route = 'r'\nreason = 'r'\nattempts = [{ backend = 'role:ar' }]\n";
        let text = format!("[[rule]]\nname = 'a'\nwhen = {quoted}\n{rest}[[rule]]\nname = 'b'\n{rest}");
        match Policy::parse(&text, "fuzz") {
            Ok(policy) => {
                let plan = policy.plan(&openclaw::plain("hi"), &backends());
                prop_assert!(["a", "b"].contains(&plan.rule.as_str()));
            }
            Err(error) => prop_assert!(error.diagnostics.iter().all(|said| said.rule == "a" && said.position.is_some())),
        }
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    for when in [
        "(".repeat(499) + "true",
        "!".repeat(900) + "true",
        "-".repeat(900) + "1",
        "[".repeat(499),
        "(".repeat(400) + "true" + &")".repeat(400),
    ] {
        let text = format!(
            "[[rule]]\nname = 'a'\nwhen = '{when}'\nroute = 'r'\nreason = 'r'\nattempts = [{{ backend = 'ar' }}]\n"
        );
        let error = Policy::parse(&text, "deep").expect_err("it has no last rule");
        assert!(!error.diagnostics.is_empty());
    }
}
