//! Which conversation a request belongs to, and which of its user turns: an engine may change at a user turn only, so
//! who keeps conversations together needs both. Numbers, stable across processes; must never hold a text or a name.

use std::hash::{DefaultHasher, Hash, Hasher};

use weir_protocol::{ChatRequest, Role};

use crate::features::{Conversation, Features};
use crate::unwrap::{self, Asked};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The same for all requests of one conversation of one tenant.
    pub conversation: u64,
    /// The same for all requests that work on one thing the user said.
    pub number: u64,
    /// Whether the user has not spoken since the last answer: a tool's result comes back, or a request is made again.
    pub goes_on: bool,
}

impl Turn {
    /// Of a request. The conversation is known by its session where something names it, else by what comes before its
    /// first answer, which never changes.
    pub fn of(request: &ChatRequest, asked: &Asked<'_>, features: &Features) -> Turn {
        let mut conversation = DefaultHasher::new();
        request.tenant.hash(&mut conversation);
        match &asked.session {
            Some(session) => session.hash(&mut conversation),
            None => {
                let system = request.messages.iter().take_while(|message| message.role == Role::System);
                let texts = system.flat_map(|message| &message.content).filter_map(|part| part.as_text());
                texts.map(str::len).sum::<usize>().hash(&mut conversation);
                let first = request.messages.iter().find(|message| message.role == Role::User);
                first.map(unwrap::bare_text).hash(&mut conversation);
            }
        }
        let mut number = DefaultHasher::new();
        (features.user_turns, &asked.text).hash(&mut number);
        Turn {
            conversation: conversation.finish(),
            number: number.finish(),
            goes_on: asked.repeated || features.conversation == Conversation::ToolLoop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::{Message, ToolCall};

    fn turn(request: &ChatRequest) -> Turn {
        let asked = unwrap::asked(request);
        Turn::of(request, &asked, &Features::of_asked(request, &asked))
    }

    fn conversation(texts: &[(Role, &str)]) -> ChatRequest {
        let messages = texts.iter().map(|(role, text)| Message::text(*role, *text)).collect();
        ChatRequest { messages, ..ChatRequest::default() }
    }

    #[test]
    fn turns_are_told_apart_within_a_conversation() {
        let first = conversation(&[(Role::System, "s"), (Role::User, "hi")]);
        let mut looped = first.clone();
        let call = ToolCall { id: "1".into(), name: "t".into(), arguments: "{}".into() };
        looped.messages.push(Message { tool_calls: vec![call], ..Message::empty(Role::Assistant) });
        looped.messages.push(Message::text(Role::Tool, "42"));
        let second =
            conversation(&[(Role::System, "s"), (Role::User, "hi"), (Role::Assistant, "?"), (Role::User, "hi")]);
        let (one, within, two) = (turn(&first), turn(&looped), turn(&second));
        assert_eq!((one.conversation, one.number), (within.conversation, within.number));
        assert_eq!(one.conversation, two.conversation);
        assert_ne!(one.number, two.number, "the same words, but said later");
        assert_eq!([one.goes_on, within.goes_on, two.goes_on], [false, true, false]);
        let other = conversation(&[(Role::System, "s"), (Role::User, "ho")]);
        assert_ne!(turn(&other).conversation, one.conversation);
        let of_tenant = ChatRequest { tenant: Some("a".into()), ..first };
        assert_ne!(turn(&of_tenant).conversation, one.conversation);
    }
}
