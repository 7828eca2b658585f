//! Finds the text a person or a trigger really asked. Agents wrap it (OpenClaw: timestamp, runtime line, an
//! internal-context message after it), and a router that reads the wrapping gives every request the same score.
//! Must never look at system prompts or tool texts for it, and must leave a request of any other client unharmed.
//!
//! [`RULES`] says what is taken off, where, and where that was measured; `docs/unwrap.md` is made from it. Who asked is
//! taken from the first that knows: the client's hint (`x-weir-trigger`, or `x_route_hint` in the body), the wrapping,
//! the session's name, the request's shape.

mod rules;
mod runtime;
mod strip;
mod trigger;

use std::borrow::Cow;

use serde_json::Value as Json;
use weir_protocol::{ChatRequest, Message, Role};

pub use self::rules::{RULES, UnwrapRule};
pub use self::trigger::Trigger;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The bare text; empty when no user message has any.
    pub text: Cow<'a, str>,
    /// Who asked.
    pub trigger: Trigger,
    /// Whether the agent says that it asks again after a failure.
    pub repeated: bool,
    /// The agent, where something names it.
    pub agent: Option<Cow<'a, str>>,
    /// The conversation, where something names it.
    pub session: Option<Cow<'a, str>>,
}

impl<'a> Asked<'a> {
    /// A text that a person asked, with nothing around it.
    pub fn plain(text: impl Into<Cow<'a, str>>) -> Self {
        Asked { text: text.into(), trigger: Trigger::User, repeated: false, agent: None, session: None }
    }
}

/// Body fields a client may hint in: any JSON object of this name. Agents can add one by config alone (OpenClaw:
/// `params.extra_body`), and upstreams see it as they see any field they do not know.
const BODY_HINT: &str = "x_route_hint";
/// OpenAI's own name for "requests that belong together".
const CACHE_KEY: &str = "prompt_cache_key";

/// Most tokens a request without tools may ask for and still look like an errand (OpenClaw's recaps ask for 240).
const UTILITY_MAX_TOKENS: u32 = 256;

/// The asked text of a request, and who asked. Linear in the size of the messages it has to look at: usually the last
/// two and the first.
pub fn asked(request: &ChatRequest) -> Asked<'_> {
    let mut asked = Asked::plain("");
    let mut named = None;
    for message in request.messages.iter().rev().filter(|message| message.role == Role::User) {
        let whole = user_text(message);
        let stripped = strip::strip(&whole);
        if stripped.text.is_empty() {
            continue;
        }
        named = stripped.trigger;
        asked.repeated = stripped.repeated;
        asked.text = strip::within(&whole, stripped.text);
        break;
    }
    asked.repeated |= request.hints.attempt.is_some_and(|attempt| attempt > 1);
    let (agent, session) = identity(request);
    let hint = body_hint(request, "trigger");
    let hinted = request.hints.trigger.as_deref().or(hint).and_then(Trigger::hinted);
    asked.trigger = hinted
        .or(named)
        .or_else(|| session.as_deref().and_then(Trigger::of_session))
        .or_else(|| is_errand(request).then_some(Trigger::Utility))
        .or(asked.repeated.then_some(Trigger::Retry))
        .unwrap_or(Trigger::User);
    (asked.agent, asked.session) = (agent, session);
    asked
}

/// Whether the last message that is not mere internal context is a tool's result.
pub fn tail_is_tool_result(request: &ChatRequest) -> bool {
    last_turn(request).is_some_and(|message| message.role == Role::Tool)
}

/// The last message that is not mere internal context.
pub(crate) fn last_turn(request: &ChatRequest) -> Option<&Message> {
    request.messages.iter().rev().find(|message| !is_context(message))
}

/// Whether a message holds internal context and nothing else.
pub(crate) fn is_context(message: &Message) -> bool {
    message.role == Role::User
        && message.content.iter().all(|part| part.as_text().is_some())
        && strip::without_context(&user_text(message)).trim().is_empty()
}

/// What one user message says, without its wrapping.
pub(crate) fn bare_text(message: &Message) -> Cow<'_, str> {
    let whole = user_text(message);
    let stripped = strip::strip(&whole);
    strip::within(&whole, stripped.text)
}

/// An errand has one question, no tools and room for a short answer only. Its text says nothing about it.
fn is_errand(request: &ChatRequest) -> bool {
    let turns = request.messages.iter().filter(|message| message.role != Role::System).count();
    turns == 1
        // A text to go on with has a small limit by default, and is no question.
        && !request.bare_prompt
        && request.tools.is_empty()
        && request.max_tokens.is_some_and(|most| (2..=UTILITY_MAX_TOKENS).contains(&most))
}

type Named<'a> = Option<Cow<'a, str>>;

/// Agent and conversation: as hinted, else as the runtime line of the first user message, or of the system text, says.
fn identity(request: &ChatRequest) -> (Named<'_>, Named<'_>) {
    let mut agent: Named<'_> =
        request.hints.agent.as_deref().or_else(|| body_hint(request, "agent")).map(Cow::Borrowed);
    let session = request.hints.session.as_deref().or_else(|| body_hint(request, "session"));
    let mut session: Named<'_> =
        session.or_else(|| request.raw.get(CACHE_KEY).and_then(Json::as_str)).map(Cow::Borrowed);
    if agent.is_some() && session.is_some() {
        return (agent, session);
    }
    let first = request.messages.iter().find(|message| message.role == Role::User).map(user_text);
    let stated = first.as_ref().and_then(|whole| {
        let runtime = strip::strip(whole).runtime?;
        Some((strip::within(whole, runtime.agent), strip::within(whole, runtime.session)))
    });
    let system = || {
        let systems = request.messages.iter().take_while(|message| message.role == Role::System);
        let mut texts = systems.flat_map(|message| &message.content).filter_map(|part| part.as_text());
        let runtime = texts.find_map(runtime::within)?;
        Some((Cow::Borrowed(runtime.agent), Cow::Borrowed(runtime.session)))
    };
    if let Some((stated_agent, stated_session)) = stated.or_else(system) {
        agent = agent.or(Some(stated_agent));
        session = session.or(Some(stated_session));
    }
    (agent.filter(|name| !name.is_empty()), session.filter(|name| !name.is_empty()))
}

fn body_hint<'a>(request: &'a ChatRequest, field: &str) -> Option<&'a str> {
    request.raw.get(BODY_HINT)?.get(field)?.as_str()
}

/// A number hinted in the body.
pub(crate) fn body_hint_number(request: &ChatRequest, field: &str) -> Option<u64> {
    request.raw.get(BODY_HINT)?.get(field)?.as_u64()
}

fn user_text(message: &Message) -> Cow<'_, str> {
    let mut texts = message.content.iter().filter_map(|part| part.as_text());
    match (texts.next(), texts.next()) {
        (None, _) => Cow::Borrowed(""),
        (Some(only), None) => Cow::Borrowed(only),
        (Some(_), Some(_)) => Cow::Owned(message.joined_text()),
    }
}
