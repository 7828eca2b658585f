//! Explanations of a generated corpus: every trigger in every dialect, wrapped as OpenClaw wraps, and the same asked
//! plainly; compared with what was reviewed (`snapshots.json`; `WEIR_WRITE_DOCS=1` writes it anew).

use std::path::Path;

use serde_json::{Map, Value, json};
use weir_protocol::Dialect;
use weir_router_policies::{BackendFacts, BackendRole, Moment, Policy};

use crate::api::any_dialect;
use crate::config::latency::ForesightSettings;
use crate::config::policy::PolicySource;
use crate::route::{Explained, Foresight};

const TEXTS: [(&str, &str); 6] = [
    ("talk", "hi, how was your day?"),
    ("call", "search the web for cheap flights to rome"),
    ("list", "Sort these words: pear, apple, fig"),
    ("puzzle", "find a path from A to D: A>B B>D A>C"),
    ("edit", "Fix the grammar: he go to school every day and he like it very much because of the teacher"),
    ("german", "Schreibe mir bitte eine Antwort, die nicht so lang ist"),
];

/// How an agent wraps a text by trigger.
fn wrapped(trigger: &str, text: &str) -> String {
    let stamp = "[Mon 2026-11-23 08:33 UTC]";
    let tail = "\n\nRuntime: agent=main | session=agent:main:main | sessionId=0b0e | os=linux";
    match trigger {
        "heartbeat" => "Follow the heartbeat monitor scratch context and report.".to_owned(),
        "cron" => format!("[cron:7f3a nightly] {text}"),
        "subagent" => format!("{stamp} [Subagent Context] {text}{tail}"),
        "inter_session" => format!("[Inter-session message] from=agent:main:subagent:1 isUser=false\n{text}"),
        "retry" => format!("[Retry after the previous model attempt failed or timed out]\n\n{text}"),
        "user" => format!("{stamp} {text}{tail}"),
        _ => text.to_owned(),
    }
}

/// A body of this dialect; `agent`: with a system prompt that mentions everything, tools, and an internal context.
fn body(dialect: Dialect, text: &str, agent: bool, utility: bool) -> Value {
    let system = "<!-- openclaw:attempt:STABLE -->\nSort what you list, plan before you schedule, answer as JSON.";
    let context = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nSort these: b, a, c.\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>";
    let schema = json!({"type": "object", "properties": {"query": {"type": "string"}}});
    let what = "Searches the web and gives titles and addresses.";
    let said: Vec<&str> = if agent { vec![text, context] } else { vec![text] };
    let users: Vec<Value> = said.iter().map(|text| json!({"role": "user", "content": text})).collect();
    let mut out = json!({"model": "auto"});
    let set = |out: &mut Value, name: &str, value: Value| {
        if let Some(members) = out.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    let limit = if utility { Some(240) } else { None };
    match dialect {
        Dialect::OpenAiChat => {
            let systems = agent.then(|| json!({"role": "system", "content": system}));
            set(&mut out, "messages", systems.into_iter().chain(users).collect());
            if agent {
                let function = json!({"name": "web_search", "description": what, "parameters": schema});
                set(&mut out, "tools", json!([{"type": "function", "function": function}]));
            }
            limit.into_iter().for_each(|limit| set(&mut out, "max_completion_tokens", json!(limit)));
        }
        Dialect::OpenAiResponses => {
            set(&mut out, "input", users.into());
            if agent {
                set(&mut out, "instructions", json!(system));
                let tool = json!({"type": "function", "name": "web_search", "description": what, "parameters": schema});
                set(&mut out, "tools", json!([tool]));
            }
            limit.into_iter().for_each(|limit| set(&mut out, "max_output_tokens", json!(limit)));
        }
        Dialect::AnthropicMessages => {
            // Two turns of one speaker are one in this dialect.
            set(&mut out, "messages", json!([{"role": "user", "content": [{"type": "text", "text": text}]}]));
            set(&mut out, "max_tokens", json!(limit.unwrap_or(4096)));
            if agent {
                set(&mut out, "system", json!([{"type": "text", "text": system}]));
                set(&mut out, "tools", json!([{"name": "web_search", "description": what, "input_schema": schema}]));
            }
        }
        Dialect::OpenAiCompletions => {
            set(&mut out, "prompt", json!(text));
            limit.into_iter().for_each(|limit| set(&mut out, "max_tokens", json!(limit)));
        }
    }
    out
}

fn facts() -> Vec<BackendFacts> {
    let one = |name: &str, role, context_tokens, upstream| BackendFacts {
        name: name.into(),
        group: None,
        role,
        context_tokens,
        takes_images: upstream,
        takes_tools: true,
        honours_unsupported: upstream,
        local: !upstream,
        bytes_per_token: 4.0,
    };
    vec![
        one("diffusion", BackendRole::Diffusion, 1024, false),
        one("ar", BackendRole::Ar, 1024, false),
        one("gpu", BackendRole::Ar, 32_768, true),
    ]
}

fn explained(policy: &Policy, body: &Value, dialect: Dialect) -> Explained {
    let bytes = body.to_string().into_bytes();
    let decoded = any_dialect::decode(&bytes, Some(dialect)).unwrap_or_else(|error| panic!("{error}"));
    if body.get("tools").is_some() {
        let told = any_dialect::decode(&bytes, None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(told.dialect, dialect, "told from its shape: {body}");
    }
    // Nothing was measured, and guesses are nothing that a rule sees.
    let foresight = Foresight::new(ForesightSettings::default(), Vec::new());
    let explained = Explained::of(&decoded.request, policy, (&facts(), &foresight), None, ("", Moment::default()));
    let shown = serde_json::to_string(&explained).unwrap();
    assert!(!shown.contains("flights") && !shown.contains("pear"), "an explanation shows no prompt: {shown}");
    explained
}

/// What is worth reviewing of an explanation: features that say something, rules with what they came to, the plan.
fn shown(explained: &Explained) -> Value {
    let features = serde_json::to_value(&explained.features).unwrap();
    let says =
        |value: &Value| !matches!(value, Value::Bool(false)) && *value != 0 && *value != "" && *value != json!([]);
    let features: Map<String, Value> = features
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| says(value))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let rules: Vec<String> = explained
        .rules
        .iter()
        .map(|rule| {
            let because: Vec<String> = rule
                .because
                .iter()
                .map(|term| format!("{}: {}", term.condition, term.holds.map_or("?".into(), |holds| holds.to_string())))
                .collect();
            let mark = if rule.decides { "=> " } else { "" };
            format!("{mark}{} {}", rule.rule, because.join("; "))
        })
        .collect();
    let attempts: Vec<&str> = explained.plan.attempts.iter().map(|attempt| attempt.backend.as_str()).collect();
    json!({
        "agent": explained.agent, "session": explained.session, "features": features, "rules": rules,
        "route": explained.plan.route, "reason": explained.plan.reason, "attempts": attempts,
    })
}

#[test]
fn explanations_are_as_reviewed() {
    let policy = PolicySource::profile("balanced").unwrap().parse().unwrap();
    let mut out = Map::new();
    for dialect in
        [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages, Dialect::OpenAiCompletions]
    {
        for trigger in ["user", "heartbeat", "cron", "subagent", "inter_session", "utility", "retry"] {
            let utility = trigger == "utility";
            if utility && dialect == Dialect::OpenAiCompletions {
                continue; // no errand: every completion has a small limit
            }
            let text = wrapped(trigger, TEXTS[1].1);
            let one = explained(&policy, &body(dialect, &text, !utility, utility), dialect);
            assert_eq!(one.features.trigger.as_str(), trigger, "{}", dialect.as_str());
            out.insert(format!("{} {trigger}", dialect.as_str()), shown(&one));
        }
        for (name, text) in TEXTS {
            let plain = explained(&policy, &body(dialect, text, false, false), dialect);
            let agents = explained(&policy, &body(dialect, &wrapped("user", text), true, false), dialect);
            assert_eq!(plain.features.planning_shape, agents.features.planning_shape, "{name}");
            assert_eq!(plain.features.language, agents.features.language, "{name}");
            assert_eq!(plain.features.asked_chars, agents.features.asked_chars, "{name}");
            out.insert(format!("{} plain {name}", dialect.as_str()), shown(&plain));
        }
    }
    let page = format!("{}\n", serde_json::to_string_pretty(&out).unwrap());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/route_explain/snapshots.json");
    if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let reviewed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(reviewed == page, "explanations changed: review them, then run this test with WEIR_WRITE_DOCS=1");
}
