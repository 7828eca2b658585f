//! Finds the text a person or a trigger really asked. Agents wrap it (OpenClaw: timestamp, runtime line, an
//! internal-context message after it), and a router that reads the wrapping gives every request the same score.
//! Must never look at system prompts or tool texts, and must leave a request of any other client unharmed.
//!
//! What is taken off, and where it comes from (`facts/openclaw.md` §0, §1.2, §1.4):
//!
//! | wrapping | where | rule |
//! |---|---|---|
//! | internal context between two markers | its own user message, the last one | cut; a message that is empty then is skipped |
//! | `[Mon 2026-11-23 08:33 UTC] ` | before the text | cut |
//! | `Runtime: agent=… \| session=…` | last paragraph of the first user message | cut |
//! | `[Retry after …]`, `[Queued user message …]` | before the text of a repeated request | cut, with its "continue" paragraph |
//! | `[cron:…]`, `[Subagent Context]`, `[Inter-session message]` | before the text | cut, and names the trigger |

use std::borrow::Cow;

use serde::Serialize;
use weir_protocol::{ChatRequest, Message, Role};

/// Who or what caused the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A person, or a client that says nothing else.
    User,
    /// An agent's periodic look at its notes.
    Heartbeat,
    /// A scheduled job.
    Cron,
    /// A task one agent gave to another.
    Subagent,
    /// A message from another session of the same agent.
    InterSession,
    /// A small errand of the application itself: a title, a recap.
    Utility,
}

impl Trigger {
    /// Whether nobody waits for the answer, so that interactive requests may go first.
    pub fn is_background(self) -> bool {
        matches!(self, Trigger::Heartbeat | Trigger::Cron)
    }

    /// The word in policies, metrics and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::User => "user",
            Trigger::Heartbeat => "heartbeat",
            Trigger::Cron => "cron",
            Trigger::Subagent => "subagent",
            Trigger::InterSession => "inter_session",
            Trigger::Utility => "utility",
        }
    }
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The bare text; empty when no user message has any.
    pub text: Cow<'a, str>,
    /// Who asked.
    pub trigger: Trigger,
    /// Whether the agent says that it asks again after a failure.
    pub repeated: bool,
}

const CONTEXT_BEGIN: &str = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>";
const CONTEXT_END: &str = "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>";
const RUNTIME_LINE: &str = "\n\nRuntime: agent=";
const CONTINUE_PARAGRAPH: &str = "Continue the current task";
const HEARTBEAT_TEXT: &str = "Follow the heartbeat monitor scratch context";

/// Most tokens a request without tools may ask for and still look like an errand (OpenClaw's recaps ask for 240).
const UTILITY_MAX_TOKENS: u32 = 256;

/// The asked text of a request. Linear in the size of the messages it has to look at: usually the last two.
pub fn asked(request: &ChatRequest) -> Asked<'_> {
    let found = request
        .messages
        .iter()
        .rev()
        .filter(|message| message.role == Role::User)
        .map(|message| unwrap_text(user_text(message)))
        .find(|asked| !asked.text.is_empty());
    let mut asked = found.unwrap_or(Asked { text: Cow::Borrowed(""), trigger: Trigger::User, repeated: false });
    if asked.trigger == Trigger::User && is_errand(request) {
        asked.trigger = Trigger::Utility;
    }
    asked
}

/// Whether the last message that is not mere internal context is a tool's result.
pub fn tail_is_tool_result(request: &ChatRequest) -> bool {
    let is_context =
        |message: &Message| message.role == Role::User && without_context(&user_text(message)).trim().is_empty();
    request.messages.iter().rev().find(|message| !is_context(message)).is_some_and(|message| message.role == Role::Tool)
}

/// An errand has one question, no tools and room for a short answer only. Its text says nothing about it.
fn is_errand(request: &ChatRequest) -> bool {
    let turns = request.messages.iter().filter(|message| message.role != Role::System).count();
    turns == 1
        && request.tools.is_empty()
        && request.max_tokens.is_some_and(|most| (2..=UTILITY_MAX_TOKENS).contains(&most))
}

fn user_text(message: &Message) -> Cow<'_, str> {
    let mut texts = message.content.iter().filter_map(|part| part.as_text());
    match (texts.next(), texts.next()) {
        (None, _) => Cow::Borrowed(""),
        (Some(only), None) => Cow::Borrowed(only),
        (Some(_), Some(_)) => Cow::Owned(message.joined_text()),
    }
}

fn unwrap_text(text: Cow<'_, str>) -> Asked<'_> {
    match text {
        Cow::Borrowed(text) => {
            let (bare, trigger, repeated) = strip(text);
            Asked { text: bare, trigger, repeated }
        }
        Cow::Owned(text) => {
            let (bare, trigger, repeated) = strip(&text);
            Asked { text: Cow::Owned(bare.into_owned()), trigger, repeated }
        }
    }
}

/// Takes the wrapping off one user message, from the outside in. Each step removes text, so it ends.
fn strip(text: &str) -> (Cow<'_, str>, Trigger, bool) {
    match without_context(text) {
        Cow::Borrowed(text) => {
            let (bare, trigger, repeated) = strip_tags(text);
            (Cow::Borrowed(bare), trigger, repeated)
        }
        Cow::Owned(text) => {
            let (bare, trigger, repeated) = strip_tags(&text);
            (Cow::Owned(bare.to_owned()), trigger, repeated)
        }
    }
}

/// The text outside the internal-context markers. Only a message that *begins* with the marker has one: a person who
/// quotes the marker is not an agent.
fn without_context(text: &str) -> Cow<'_, str> {
    let Some(inside) = text.trim_start().strip_prefix(CONTEXT_BEGIN) else { return Cow::Borrowed(text) };
    match inside.split_once(CONTEXT_END) {
        // A block without its end is context to its last character.
        None => Cow::Borrowed(""),
        Some((_, after)) => Cow::Borrowed(after),
    }
}

fn strip_tags(text: &str) -> (&str, Trigger, bool) {
    let mut text = text.trim();
    let mut trigger = Trigger::User;
    let mut repeated = false;
    while let Some((tag, rest)) = leading_tag(text) {
        match tag {
            Tag::Timestamp => {}
            Tag::Again => repeated = true,
            Tag::Trigger(named) => trigger = named,
        }
        text = rest.trim_start();
    }
    text = without_runtime_line(text).trim();
    if repeated {
        // The runtime line belongs to the first saying and may stand before what was added.
        text = without_runtime_line(without_continue(text)).trim();
    }
    if trigger == Trigger::User && text.starts_with(HEARTBEAT_TEXT) {
        trigger = Trigger::Heartbeat;
    }
    (text, trigger, repeated)
}

enum Tag {
    Timestamp,
    Again,
    Trigger(Trigger),
}

/// A known `[…]` at the start, and what follows it.
fn leading_tag(text: &str) -> Option<(Tag, &str)> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    let tag = if is_timestamp(inside) {
        Tag::Timestamp
    } else if inside.starts_with("Retry after the previous model attempt") || inside.starts_with("Queued user message")
    {
        Tag::Again
    } else if inside.starts_with("cron:") {
        Tag::Trigger(Trigger::Cron)
    } else if inside == "Subagent Context" {
        Tag::Trigger(Trigger::Subagent)
    } else if inside == "Inter-session message" {
        return Some((Tag::Trigger(Trigger::InterSession), without_origin_line(rest)));
    } else {
        return None;
    };
    Some((tag, rest))
}

/// `Mon 2026-11-23 08:33 UTC`: a weekday, a date, a time, a zone.
fn is_timestamp(inside: &str) -> bool {
    let mut words = inside.split(' ');
    let weekday = words.next().is_some_and(|word| ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].contains(&word));
    let date = words.next().is_some_and(|word| shaped_like(word, "0000-00-00"));
    let time = words.next().is_some_and(|word| shaped_like(word, "00:00") || shaped_like(word, "00:00:00"));
    let zone = words.next().is_none_or(|word| word.len() <= 8 && !word.is_empty());
    weekday && date && time && zone && words.next().is_none()
}

/// Whether digits stand where `pattern` has `0` and all else is the same.
fn shaped_like(word: &str, pattern: &str) -> bool {
    word.len() == pattern.len()
        && word
            .bytes()
            .zip(pattern.bytes())
            .all(|(byte, wanted)| if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted })
}

/// `[Inter-session message] from=… isUser=false` is one line about where the message came from; the text follows it.
fn without_origin_line(rest: &str) -> &str {
    match rest.split_once('\n') {
        Some((line, text)) if line.contains("isUser=") => text,
        _ => rest,
    }
}

fn without_continue(text: &str) -> &str {
    let text = match text.split_once("\n\n") {
        Some((first, rest)) if first.starts_with(CONTINUE_PARAGRAPH) => rest,
        _ => text,
    };
    match text.rsplit_once("\n\n") {
        Some((rest, last)) if last.starts_with(CONTINUE_PARAGRAPH) => rest,
        _ => text,
    }
}

/// Only the last paragraph, and only with both of its first fields: a person may well write about a "Runtime:".
fn without_runtime_line(text: &str) -> &str {
    match text.rfind(RUNTIME_LINE) {
        Some(at) if is_runtime_tail(&text[at + 2..]) => &text[..at],
        Some(_) => text,
        // Nothing was asked: the line is all there is.
        None if text.starts_with(&RUNTIME_LINE[2..]) && is_runtime_tail(text) => "",
        None => text,
    }
}

fn is_runtime_tail(line: &str) -> bool {
    let line = line.trim_end();
    line.contains(" | session=") && !line.contains('\n')
}
