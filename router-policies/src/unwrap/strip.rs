//! Takes the wrapping off one user message, from the outside in. Each step removes text and there are only so many, so
//! the work is linear in the message. Must never look beyond the one message.

use std::borrow::Cow;

use super::runtime::{self, Runtime};
use super::trigger::Trigger;

const CONTEXT_BEGIN: &str = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>";
const CONTEXT_END: &str = "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>";
const CONTINUE_PARAGRAPH: &str = "Continue the current task";
const HEARTBEAT_TEXT: &str = "Follow the heartbeat monitor scratch context";

/// Tags that are taken off at most: OpenClaw nests three; more are somebody's own text, or an attack on our time.
const MOST_TAGS: usize = 8;

/// Longest tag: a cron job's name is the longest thing in one.
const TAG_BYTES: usize = 512;

/// What one message says, and what its wrapping tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stripped<'a> {
    pub(super) text: &'a str,
    /// `None` where the wrapping names nobody.
    pub(super) trigger: Option<Trigger>,
    pub(super) repeated: bool,
    pub(super) runtime: Option<Runtime<'a>>,
}

/// The text outside the internal-context markers. Only a message that *begins* with the marker has one: a person who
/// quotes the marker is not an agent.
pub(super) fn without_context(text: &str) -> &str {
    let Some(inside) = text.trim_start().strip_prefix(CONTEXT_BEGIN) else { return text };
    // A block without its end is context to its last character.
    inside.split_once(CONTEXT_END).map_or("", |(_, after)| after)
}

/// The whole of it.
pub(super) fn strip(text: &str) -> Stripped<'_> {
    let mut text = without_context(text).trim();
    let (mut trigger, mut repeated) = (None, false);
    for _ in 0..MOST_TAGS {
        let Some((tag, rest)) = leading_tag(text) else { break };
        match tag {
            Tag::Timestamp => {}
            Tag::Again => repeated = true,
            Tag::Trigger(named) => trigger = Some(named),
        }
        text = rest.trim_start();
    }
    let (rest, mut runtime) = runtime::split(text);
    text = rest.trim();
    if repeated {
        // The runtime line belongs to the first saying and may stand before what was added.
        let (rest, earlier) = runtime::split(without_continue(text));
        text = rest.trim();
        runtime = runtime.or(earlier);
    }
    if trigger.is_none() && text.starts_with(HEARTBEAT_TEXT) {
        trigger = Some(Trigger::Heartbeat);
    }
    Stripped { text, trigger, repeated, runtime }
}

/// The same for a text that was put together.
pub(super) fn within<'a>(text: &Cow<'a, str>, piece: &str) -> Cow<'a, str> {
    match text {
        Cow::Owned(_) => Cow::Owned(piece.to_owned()),
        Cow::Borrowed(whole) => {
            let start = (piece.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
            // A piece of another text is copied.
            whole
                .get(start..start.wrapping_add(piece.len()))
                .map_or_else(|| Cow::Owned(piece.to_owned()), Cow::Borrowed)
        }
    }
}

enum Tag {
    Timestamp,
    Again,
    Trigger(Trigger),
}

/// A known `[…]` at the start, and what follows it.
fn leading_tag(text: &str) -> Option<(Tag, &str)> {
    let after = text.strip_prefix('[')?;
    let end = after.bytes().take(TAG_BYTES).position(|byte| byte == b']')?;
    let (inside, rest) = (&after[..end], &after[end + 1..]);
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
