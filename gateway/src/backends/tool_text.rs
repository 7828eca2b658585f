//! Finds tool calls in model text: blocks of `<tool_call>` JSON `</tool_call>` become call events, all else stays text.
//! Must never lose text: what is no call the caller can run is given as it was written, but for a call that the token limit
//! cut, which is neither.

use serde_json::{Map, Value};
use weir_protocol::Event;

use crate::plain_json;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Reads text piece by piece. A call is held until its block is closed, so its arguments are always valid JSON.
#[derive(Debug)]
pub struct ToolText {
    /// Functions that may be called; empty: everything is text.
    offered: Vec<String>,
    /// Text whose meaning is still open: a block not closed yet, or the first letters of a tag.
    held: String,
    /// Bytes of `held` in which no block ends that begins at its front.
    tried: usize,
    /// White space before and after calls is part of the markup, so it waits until it is known to be text.
    gap: String,
    /// Whether a call stands right before `gap`.
    after_call: bool,
    calls: u32,
}

impl ToolText {
    /// A reader for an answer that may call the `offered` functions. Offer none where the caller forbids calls.
    pub fn new(offered: impl IntoIterator<Item = String>) -> Self {
        ToolText {
            offered: offered.into_iter().collect(),
            held: String::new(),
            tried: 0,
            gap: String::new(),
            after_call: false,
            calls: 0,
        }
    }

    /// Takes more text; returns what is certain by now.
    pub fn push(&mut self, text: &str) -> Vec<Event> {
        let mut events = Vec::new();
        if self.offered.is_empty() {
            give(&mut events, text);
            return events;
        }
        self.held.push_str(text);
        while self.step(&mut events) {}
        events
    }

    /// The text has ended: what was held is text after all, or the beginning of a call, which is left out if the token limit
    /// cut it. Also says whether any call was given.
    pub fn finish(mut self, at_limit: bool) -> (Vec<Event>, bool) {
        let mut events = Vec::new();
        let rest = std::mem::take(&mut self.held);
        if at_limit && rest.starts_with(OPEN) {
            return (events, self.calls > 0);
        }
        self.text(&mut events, &rest);
        if !self.after_call {
            give(&mut events, &self.gap);
        }
        (events, self.calls > 0)
    }

    /// Settles the front of `held`; false when more text is needed.
    fn step(&mut self, events: &mut Vec<Event>) -> bool {
        let Some(start) = self.held.find(OPEN) else {
            let certain = self.held.len() - open_prefix(&self.held);
            self.settle_text(events, certain);
            return false;
        };
        self.settle_text(events, start);
        match self.block() {
            Block::Unfinished => false,
            Block::Call { end, name, arguments } => {
                self.held.drain(..end);
                self.tried = 0;
                self.gap.clear();
                self.after_call = true;
                let (index, id) = (self.calls, new_call_id());
                self.calls += 1;
                events.push(Event::ToolCallStarted { index, id, name });
                events.push(Event::ToolCallDelta { index, arguments });
                true
            }
            Block::Text => {
                // Only the tag is settled as text: what follows it may hold a whole call.
                self.settle_text(events, OPEN.len());
                true
            }
        }
    }

    /// What the block at the front of `held` is.
    fn block(&mut self) -> Block {
        let (inner, tried) = (&self.held[OPEN.len()..], self.tried);
        for at in inner[tried..].match_indices(CLOSE).map(|(at, _)| tried + at) {
            #[cfg(test)]
            PARSED.with(|count| count.set(count.get() + 1));
            match plain_json::parse(&inner[..at]) {
                Ok(Value::Object(call)) => {
                    let Some((name, arguments)) = self.runnable(call) else { return Block::Text };
                    return Block::Call { end: OPEN.len() + at + CLOSE.len(), name, arguments };
                }
                // The closing tag stands inside a JSON string: the block's own one is still to come.
                // Its text stays as it is, so it need not be read again.
                Err(error) if error.is_eof() => self.tried = at + CLOSE.len(),
                Ok(_) | Err(_) => return Block::Text,
            }
        }
        Block::Unfinished
    }

    /// Name and argument text, if the caller offers this function.
    fn runnable(&self, mut call: Map<String, Value>) -> Option<(String, String)> {
        let Some(Value::String(name)) = call.remove("name") else { return None };
        if !self.offered.contains(&name) {
            return None;
        }
        let arguments = match call.remove("arguments").or_else(|| call.remove("parameters")) {
            None => Map::new().into(),
            // Some models write the arguments as the wire has them: JSON inside a string.
            Some(Value::String(text)) => plain_json::parse(&text).ok()?,
            Some(arguments) => arguments,
        };
        arguments.is_object().then(|| (name, arguments.to_string()))
    }

    fn settle_text(&mut self, events: &mut Vec<Event>, len: usize) {
        if len == 0 {
            return;
        }
        let text: String = self.held.drain(..len).collect();
        self.tried = 0;
        self.text(events, &text);
    }

    fn text(&mut self, events: &mut Vec<Event>, text: &str) {
        let solid = text.trim_end().len();
        if solid > 0 {
            let gap = std::mem::take(&mut self.gap);
            give(events, &(gap + &text[..solid]));
            self.after_call = false;
        }
        self.gap.push_str(&text[solid..]);
    }
}

#[cfg(test)]
thread_local! {
    /// Beginnings of blocks that this thread has parsed.
    static PARSED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

enum Block {
    Unfinished,
    Call { end: usize, name: String, arguments: String },
    Text,
}

/// An id for a call this gateway made up; `call_` is what clients expect.
pub fn new_call_id() -> String {
    format!("call_{}", crate::ids::fresh().simple())
}

fn give(events: &mut Vec<Event>, text: &str) {
    if !text.is_empty() {
        events.push(Event::TextDelta(text.to_owned()));
    }
}

/// How many bytes at the end of `text` could be the beginning of the opening tag.
fn open_prefix(text: &str) -> usize {
    (1..OPEN.len()).rev().find(|&len| text.ends_with(&OPEN[..len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Text as itself, calls as `[index name arguments]`.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a str>, offered: &[&str]) -> (String, bool) {
        let mut reader = ToolText::new(offered.iter().map(|&name| name.to_owned()));
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(reader.push(piece));
        }
        let (rest, had_calls) = reader.finish(false);
        let mut shown = String::new();
        for event in events.into_iter().chain(rest) {
            match event {
                Event::TextDelta(text) => shown.push_str(&text),
                Event::ToolCallStarted { index, id, name } => {
                    assert!(id.starts_with("call_"));
                    shown.push_str(&format!("[{index} {name} "));
                }
                Event::ToolCallDelta { arguments, .. } => {
                    serde_json::from_str::<Map<String, Value>>(&arguments).expect("arguments are a JSON object");
                    shown.push_str(&arguments);
                    shown.push(']');
                }
                other => unreachable!("{other:?}"),
            }
        }
        (shown, had_calls)
    }

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let calls = expect.contains("[0");
        assert_eq!(read([text], &["light", "remind"]), (expect.to_owned(), calls), "in one piece");
        let letters = text.char_indices().map(|(at, letter)| &text[at..at + letter.len_utf8()]);
        assert_eq!(read(letters, &["light", "remind"]), (expect.to_owned(), calls), "letter by letter");
    }

    #[test]
    fn keys_that_the_reader_of_json_has_for_itself_are_keys() {
        let call =
            |arguments: &str| format!("<tool_call>{{\"name\": \"light\", \"arguments\": {arguments}}}</tool_call>");
        let arguments = "{\"$serde_json::private::RawValue\":\"1\"}";
        check(&call(arguments), &format!("[0 light {arguments}]"));
        let within = format!("{{\"on\":{arguments}}}");
        check(&call(&serde_json::to_string(&within).expect("a string")), &format!("[0 light {within}]"));
    }

    #[test]
    fn calls_are_found() {
        check(
            "<tool_call>\n{\"name\": \"light\", \"arguments\": {\"on\": false}}\n</tool_call>",
            "[0 light {\"on\":false}]",
        );
        check(
            "On it.\n<tool_call>{\"name\":\"light\"}</tool_call>\n<tool_call>{\"name\":\"remind\",\"arguments\":\"{\\\"at\\\":6}\"}</tool_call>\n",
            "On it.[0 light {}][1 remind {\"at\":6}]",
        );
        check("a <tool_call>{\"name\":\"light\"}</tool_call>\nb ", "a[0 light {}]\nb ");
    }

    #[test]
    fn a_closing_tag_inside_an_argument_does_not_end_the_block() {
        check(
            "<tool_call>{\"name\":\"light\",\"arguments\":{\"t\":\"</tool_call>\"}}</tool_call>",
            "[0 light {\"t\":\"</tool_call>\"}]",
        );
    }

    #[test]
    fn a_closing_tag_is_tried_once_however_many_pieces_follow() {
        let text = format!("{OPEN}{{\"name\": \"f\", \"arguments\": {{\"a\": \"{}\"}}}}{CLOSE}", CLOSE.repeat(300));
        let before = PARSED.get();
        let pieces = text.as_bytes().chunks(5).map(|piece| std::str::from_utf8(piece).expect("ASCII"));
        let (read, _) = read(pieces, &["f"]);
        assert!(read.contains("</tool_call></tool_call>") && PARSED.get() - before == 301, "{}", PARSED.get() - before);
    }

    #[test]
    fn what_is_no_call_stays_as_written() {
        for text in [
            "plain \n text\n",
            "<tool_call>{oops}</tool_call>",
            "<tool_call>{\"name\":\"rm\",\"arguments\":{}}</tool_call> tail",
            "<tool_call>{\"name\":\"light\",\"arguments\":7}</tool_call>",
            "<tool_call>{\"name\":\"light\"",
            "<tool_call>{\"name\":\"light\",\"arguments\":{\"t\":\"</tool_call>",
            "a < b <tool <tool_cal",
            "</tool_call>",
            "",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn a_call_that_the_limit_cut_is_neither_call_nor_text() {
        for (text, shown) in [
            ("Well. <tool_call>{\"name\": \"light\", \"argum", "Well."),
            ("<tool_call>", ""),
            ("a < b <tool", "a < b <tool"),
            ("plain ", "plain "),
        ] {
            let mut reader = ToolText::new(["light".to_owned()]);
            let mut events = reader.push(text);
            let (rest, had_calls) = reader.finish(true);
            events.extend(rest);
            let texts = events.into_iter().map(|event| match event {
                Event::TextDelta(text) => text,
                other => panic!("{other:?}"),
            });
            assert_eq!((texts.collect::<String>(), had_calls), (shown.to_owned(), false));
        }
    }

    #[test]
    fn a_broken_block_does_not_hide_the_next() {
        check("<tool_call>{bad <tool_call>{\"name\":\"light\"}</tool_call>", "<tool_call>{bad[0 light {}]");
    }

    #[test]
    fn without_offers_everything_is_text() {
        let text = "<tool_call>{\"name\":\"light\"}</tool_call>";
        assert_eq!(read([text], &[]), (text.to_owned(), false));
    }

    #[test]
    fn text_does_not_wait_for_the_end() {
        let mut reader = ToolText::new(["light".to_owned()]);
        assert_eq!(reader.push("well <to"), [Event::TextDelta("well".into())]);
        assert_eq!(reader.push("morrow"), [Event::TextDelta(" <tomorrow".into())]);
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same_and_no_text_is_lost(
            parts in prop::collection::vec(prop_oneof![
                Just("<tool_call>".to_owned()),
                Just("</tool_call>".to_owned()),
                Just("{\"name\":\"light\",\"arguments\":{\"a\":1}}".to_owned()),
                Just("{\"name\":\"none\"}".to_owned()),
                "[ \n<a-c{}\"]{0,6}",
            ], 0..12),
        ) {
            let whole = parts.concat();
            let once = read([whole.as_str()], &["light"]);
            prop_assert_eq!(&once, &read(parts.iter().map(String::as_str), &["light"]));
            if !once.1 {
                prop_assert_eq!(once.0, whole);
            }
        }
    }
}
