//! Makes requests shaped like OpenClaw's: a 42 KB system prompt, 12 tools, the asked text wrapped with a timestamp and
//! a runtime line, an internal-context message after it. Sizes and markers follow facts/openclaw.md; the words are our
//! own.

use serde_json::{Value, json};
use weir_protocol::{ChatRequest, Message, Role, Tool};

/// Names, what they do, and parameters of the tools an agent offers every time.
const TOOLS: [(&str, &str, &[&str]); 12] = [
    ("read", "Reads a file of the workspace and gives its lines.", &["path", "offset", "limit"]),
    ("write", "Puts text into a file of the workspace, making it if it is missing.", &["path", "content"]),
    ("edit", "Replaces one passage of a file with another.", &["path", "old_text", "new_text"]),
    ("exec", "Runs a shell command in the workspace.", &["command", "timeout"]),
    ("process", "Looks after background commands: poll, log, kill.", &["action", "session_id"]),
    ("web_search", "Searches the web and gives titles and addresses.", &["query", "count"]),
    ("web_fetch", "Fetches a page and gives its readable text.", &["url"]),
    ("cron", "Keeps scheduled jobs and wake-ups.", &["action", "job"]),
    ("message", "Delivers a message to a channel or a contact.", &["target", "body"]),
    ("memory_search", "Finds passages in long-term notes.", &["query"]),
    ("sessions_spawn", "Starts a helper agent in a session of its own.", &["task", "agent_id"]),
    ("image", "Describes a picture with a vision model.", &["picture", "question"]),
];

pub(crate) fn tool(name: &str, description: &str, parameters: &[&str]) -> Tool {
    let properties: serde_json::Map<String, Value> =
        parameters.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
    Tool {
        name: name.to_owned(),
        description: (!description.is_empty()).then(|| description.to_owned()),
        parameters: json!({"type": "object", "properties": properties}),
        ..Tool::default()
    }
}

/// The tools of an agent turn, about 10 KB of them: each description goes on with instructions for the model.
pub(crate) fn tools() -> Vec<Tool> {
    let advice =
        " Prefer it to guessing. Mention what you did, and stop when the result answers the question.".repeat(7);
    TOOLS.iter().map(|(name, what, parameters)| tool(name, &format!("{what}{advice}"), parameters)).collect()
}

/// A system prompt that mentions everything a keyword router would fall for.
pub(crate) fn system_prompt() -> String {
    let section = "## Working rules\nYou act for your operator. Return JSON when a tool wants it, sort what you list, plan \
                   before you schedule, prove what you claim, and turn lights, timers and reminders into tool calls.\n\n";
    let mut prompt = section.repeat(42_000 / section.len() + 1);
    prompt.truncate(42_000);
    prompt
}

pub(crate) fn wrapped(text: &str) -> String {
    format!(
        "[Mon 2026-11-23 08:33 UTC] {text}\n\nRuntime: agent=main | session=agent:main:main | \
         sessionId=0b0e2f5c-0000-4000-8000-000000000000 | os=linux | model=weir/auto"
    )
}

pub(crate) fn internal_context() -> Message {
    Message::text(
        Role::User,
        "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nSort these: b, a, c. Turn off the lights. Nobody said this.\n\
         <<<END_OPENCLAW_INTERNAL_CONTEXT>>>",
    )
}

/// The first turn of a session.
pub(crate) fn request(text: &str) -> ChatRequest {
    ChatRequest {
        model: "auto".to_owned(),
        messages: vec![
            Message::text(Role::System, system_prompt()),
            Message::text(Role::User, wrapped(text)),
            internal_context(),
        ],
        tools: tools(),
        max_tokens: Some(8192),
        stream: true,
        include_usage: true,
        ..ChatRequest::default()
    }
}

/// The same question from a client that wraps nothing.
pub(crate) fn plain(text: &str) -> ChatRequest {
    ChatRequest { model: "auto".to_owned(), messages: vec![Message::text(Role::User, text)], ..ChatRequest::default() }
}
