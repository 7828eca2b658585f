//! From a message's events to ours. The answer is complete only with its stop reason; none is ever made up.

use serde_json::Value;
use weir_protocol::{EngineError, Event, FinishReason};

use crate::backends::tool_text::new_call_id;
use crate::backends::upstream::answer::{Answer, cut};
use crate::backends::upstream::{Decoder, Shows, refusal};

/// Reads one answer.
#[derive(Debug)]
pub(super) struct EventDecoder {
    window: u64,
    /// Whether the caller speaks this dialect: it knows words for an end that nobody else does, and what a seal is for.
    alike: bool,
    answer: Answer,
    blocks: Vec<Block>,
    /// The index of the block that was begun and not ended.
    open: Option<u64>,
    shows: Shows,
}

/// A content block under way.
#[derive(Debug)]
struct Block {
    /// The upstream's index.
    index: Option<u64>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Text or reasoning: each delta says itself which.
    Said,
    /// A call: its place among ours, whether arguments came, and those it began with.
    Call { index: u32, spoken: bool, whole: String },
    /// Something between the upstream and its own tools, or closed.
    Other,
}

impl EventDecoder {
    pub(super) fn new(asked: &str, window: u64, alike: bool) -> Self {
        EventDecoder { window, alike, answer: Answer::new(asked), blocks: Vec::new(), open: None, shows: Shows::Plain }
    }

    fn event(&mut self, event: &Value, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if !self.is_by_the_book(event) {
            self.shows = Shows::Mended;
        } else if self.shows != Shows::Mended {
            self.shows = if event["type"] == "ping" { Shows::Silent } else { Shows::Plain };
        }
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => {
                let message = &event["message"];
                self.answer.start(message["model"].as_str(), events);
                self.count(&message["usage"]);
            }
            "content_block_start" => self.open(event["index"].as_u64(), &event["content_block"], events),
            "content_block_delta" => self.delta(event["index"].as_u64(), &event["delta"], events)?,
            "content_block_stop" => self.close(event["index"].as_u64(), events),
            "message_delta" => {
                self.count(&event["usage"]);
                self.stop(&event["delta"])?;
            }
            "message_stop" => {
                self.close_all(events);
                self.answer.end(events)?;
            }
            "error" => return Err(refusal::inside(&event["error"], self.window)),
            // `ping`, and whatever is new.
            _ if event.is_object() => {}
            _ => return Err(cut("a piece of the stream is no object")),
        }
        Ok(())
    }

    /// Whether blocks come one after another, each with its own number: some servers mix them or give none.
    fn is_by_the_book(&mut self, event: &Value) -> bool {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap_or_default() {
            "content_block_start" => {
                let block = &event["content_block"];
                let named = block["type"] != "tool_use" || block["id"].as_str().is_some_and(|id| !id.is_empty());
                let before = std::mem::replace(&mut self.open, index);
                named && before.is_none() && index == Some(self.blocks.len() as u64)
            }
            "content_block_delta" => index.is_some() && self.open == index,
            "content_block_stop" => index.is_some() && self.open.take() == index,
            "message_delta" => self.open.is_none(),
            _ => true,
        }
    }

    fn open(&mut self, index: Option<u64>, block: &Value, events: &mut Vec<Event>) {
        let kind = match block["type"].as_str().unwrap_or_default() {
            "text" => {
                self.answer.text(block["text"].as_str().unwrap_or_default(), events);
                Kind::Said
            }
            "thinking" => {
                self.answer.reasoning(block["thinking"].as_str().unwrap_or_default(), events);
                Kind::Said
            }
            "tool_use" => {
                let id = block["id"].as_str().filter(|id| !id.is_empty()).map_or_else(new_call_id, str::to_owned);
                let index = self.answer.call(id, block["name"].as_str().unwrap_or_default(), events);
                // Some servers give the arguments at once instead of piece by piece.
                let whole = block["input"].as_object().map_or_else(|| "{}".to_owned(), |_| block["input"].to_string());
                Kind::Call { index, spoken: false, whole }
            }
            _ => Kind::Other,
        };
        self.blocks.push(Block { index, kind });
    }

    fn delta(&mut self, index: Option<u64>, delta: &Value, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let text = |key: &str| delta[key].as_str().unwrap_or_default();
        match text("type") {
            "text_delta" => self.answer.text(text("text"), events),
            "thinking_delta" => self.answer.reasoning(text("thinking"), events),
            "signature_delta" => events.extend(self.seal(delta)),
            "input_json_delta" => {
                let piece = text("partial_json");
                match self.block(index).map(|block| &mut block.kind) {
                    Some(Kind::Call { index, spoken, .. }) if !piece.is_empty() => {
                        *spoken = true;
                        events.push(Event::ToolCallDelta { index: *index, arguments: piece.to_owned() });
                    }
                    // Of the upstream's own tools.
                    Some(Kind::Call { .. } | Kind::Other) => {}
                    Some(Kind::Said) | None => return Err(cut("arguments came without their tool call")),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The signature in a delta or in a block.
    fn seal(&self, holder: &Value) -> Option<Event> {
        let signature = holder["signature"].as_str().filter(|signature| self.alike && !signature.is_empty());
        signature.map(|signature| Event::ReasoningSignature(signature.to_owned()))
    }

    /// The block a piece belongs to: the last one opened with this index, or the last one where none is said.
    fn block(&mut self, index: Option<u64>) -> Option<&mut Block> {
        self.blocks.iter_mut().rev().find(|block| index.is_none() || block.index == index)
    }

    fn close(&mut self, index: Option<u64>, events: &mut Vec<Event>) {
        if let Some(block) = self.block(index) {
            close(block, events);
        }
    }

    fn close_all(&mut self, events: &mut Vec<Event>) {
        self.blocks.iter_mut().for_each(|block| close(block, events));
    }

    fn stop(&mut self, delta: &Value) -> Result<(), EngineError> {
        let Some(word) = delta["stop_reason"].as_str().filter(|word| !word.is_empty()) else { return Ok(()) };
        if let Some(text) = delta["stop_sequence"].as_str() {
            self.answer.stopped_at(text);
        }
        self.answer.reason(match word {
            "end_turn" | "stop_sequence" => FinishReason::Stop,
            "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "tool_use" => FinishReason::ToolCalls,
            "refusal" => FinishReason::ContentFilter,
            // `pause_turn`, and whatever is new: who speaks this dialect reads the word itself.
            _ if self.alike && self.shows != Shows::Mended => FinishReason::Stop,
            // To others it is not an end we can vouch for.
            other if refusal::is_word(other) => return Err(cut(&format!("the upstream ended with `{other}`"))),
            _ => return Err(cut("the upstream ended with an unknown reason")),
        });
        Ok(())
    }

    /// Counts come in parts, at the start and at the end; the last word on each holds.
    fn count(&mut self, usage: &Value) {
        if !usage.is_object() {
            return;
        }
        let counted = self.answer.counted();
        if let Some(output) = usage["output_tokens"].as_u64() {
            counted.completion_tokens = output;
        }
        if let Some(thinking) = usage["output_tokens_details"]["thinking_tokens"].as_u64() {
            counted.reasoning_tokens = thinking;
        }
        if let Some(input) = usage["input_tokens"].as_u64() {
            let part = |key: &str, before: u64| usage[key].as_u64().unwrap_or(before);
            counted.cached_tokens = part("cache_read_input_tokens", counted.cached_tokens);
            counted.cache_write_tokens = part("cache_creation_input_tokens", counted.cache_write_tokens);
            // Theirs leaves out what is counted apart, ours is the whole prompt.
            let apart = counted.cached_tokens.saturating_add(counted.cache_write_tokens);
            counted.prompt_tokens = input.saturating_add(apart);
        }
    }

    fn document(&mut self, message: &Value, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if message["type"] == "error" || message["error"].is_object() {
            return Err(refusal::inside(&message["error"], self.window));
        }
        self.answer.start(message["model"].as_str(), events);
        for block in message["content"].as_array().into_iter().flatten() {
            self.open(None, block, events);
            events.extend(self.seal(block));
        }
        self.count(&message["usage"]);
        self.stop(message)?;
        self.end(events)
    }
}

/// A call without arguments is a call with none, and that is written `{}`.
fn close(block: &mut Block, events: &mut Vec<Event>) {
    if let Kind::Call { index, spoken: false, whole } = &mut block.kind {
        events.push(Event::ToolCallDelta { index: *index, arguments: std::mem::take(whole) });
    }
    block.kind = Kind::Other;
}

impl Decoder for EventDecoder {
    fn take(&mut self, data: &str, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if self.has_ended() || data.is_empty() {
            return Ok(());
        }
        let event: Value = serde_json::from_str(data).map_err(|_| cut("a piece of the stream is not JSON"))?;
        self.event(&event, events)
    }

    fn whole(&mut self, document: &[u8], events: &mut Vec<Event>) -> Result<(), EngineError> {
        let message: Value = serde_json::from_slice(document).map_err(|_| cut("the answer is not JSON"))?;
        self.document(&message, events)
    }

    fn shows(&self) -> Shows {
        self.shows
    }

    fn has_reason(&self) -> bool {
        self.answer.has_reason()
    }

    fn has_ended(&self) -> bool {
        self.answer.has_ended()
    }

    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if self.has_reason() {
            self.close_all(events);
        }
        self.answer.end(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::upstream::tests::script::{check, check_promise, check_whole, show};
    use proptest::prelude::*;

    fn decoder() -> EventDecoder {
        EventDecoder::new("asked", 9, true)
    }

    const START: &str = r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}"#;
    const TEXT: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    const A: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#;
    const CLOSE: &str = r#"{"type":"content_block_stop","index":0}"#;
    const END: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#;
    const STOP: &str = r#"{"type":"message_stop"}"#;
    const CALL: &str = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}"#;

    fn input(index: Option<u64>, json: &str) -> String {
        let mut event = serde_json::json!({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": json}});
        if let Some(index) = index {
            event["index"] = index.into();
        }
        event.to_string()
    }

    #[test]
    fn a_good_stream_ends_once() {
        check(decoder(), &[START, r#"{"type":"ping"}"#, TEXT, A, CLOSE, END, STOP, STOP, A], "<m>a#7+2/4!stop");
        check(decoder(), &[START, TEXT, A, END], "<m>a#7+2/4!stop");
        let seen = r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"x"}}"#;
        check(decoder(), &[START, TEXT, A, seen, STOP], "<m>a@x#7+1/4!stop");
    }

    #[test]
    fn an_end_is_never_made_up() {
        check(decoder(), &[START, TEXT, A], "<m>a ERR stream_cut");
        check(decoder(), &[START, TEXT, A, CLOSE, STOP], "<m>a ERR stream_cut");
        check(decoder(), &[START, TEXT, A, "{\"type"], "<m>a ERR stream_cut");
        check(decoder(), &[START, TEXT, A, "7"], "<m>a ERR stream_cut");
        let paused = r#"{"type":"message_delta","delta":{"stop_reason":"pause_turn"}}"#;
        check(EventDecoder::new("asked", 9, false), &[START, TEXT, A, paused, STOP], "<m>a ERR stream_cut");
        check(decoder(), &[START, TEXT, A, paused, STOP], "<m>a ERR stream_cut");
        // A caller of this dialect is shown the word itself, unless it is shown only what was read.
        check(decoder(), &[START, TEXT, A, CLOSE, paused, STOP], "<m>a#7+1/4!stop");
        let busy = r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#;
        check(decoder(), &[START, TEXT, A, busy, STOP], "<m>a ERR upstream");
        check(decoder(), &[r#"{"type":"error","error":{"type":"rate_limit_error"}}"#], " ERR rate_limited");
    }

    #[test]
    fn thinking_is_counted_and_its_seal_is_for_those_who_speak_this_dialect() {
        let seal = r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}"#;
        let end =
            END.replace("\"output_tokens\":2", "\"output_tokens\":2,\"output_tokens_details\":{\"thinking_tokens\":1}");
        for (alike, expect) in [(true, "<m>~s#7+2/4!stop"), (false, "<m>#7+2/4!stop")] {
            let mut decoder = EventDecoder::new("asked", 9, alike);
            let mut events = Vec::new();
            for piece in [START, &TEXT.replace("\"text\"", "\"thinking\""), seal, CLOSE, &end, STOP] {
                decoder.take(piece, &mut events).expect("a good stream");
            }
            assert_eq!(events.iter().map(show).collect::<String>(), expect);
            let counted = events.iter().find_map(|event| match event {
                Event::Usage(usage) => Some(usage.reasoning_tokens),
                _ => None,
            });
            assert_eq!(counted, Some(1));
        }
    }

    #[test]
    fn calls_keep_their_arguments_apart() {
        let second = CALL.replace("\"index\":1", "\"index\":2").replace("t1", "t2").replace("\"f\"", "\"g\"");
        let (a, b, c) = (input(Some(1), "{\"x\""), input(Some(2), "{}"), input(Some(1), ":1}"));
        let end = END.replace("end_turn", "tool_use");
        let chunks = [START, CALL, second.as_str(), &a, &b, &c, &end, STOP];
        check(decoder(), &chunks, r#"<m>[0 f[1 g{0 {"x"}{1 {}}{0 :1}}#7+2/4!tool_calls"#);
    }

    #[test]
    fn calls_without_index_or_with_a_reused_one_are_told_apart() {
        let bare = CALL.replace("\"index\":1,", "");
        let (a, b) = (input(None, "{}"), input(None, "[]"));
        check(decoder(), &[START, &bare, &a, &bare, &b, END, STOP], "<m>[0 f{0 {}}[1 f{1 []}#7+2/4!tool_calls");
        let (a, b) = (input(Some(1), "{}"), input(Some(1), "[]"));
        check(decoder(), &[START, CALL, &a, CALL, &b, END, STOP], "<m>[0 f{0 {}}[1 f{1 []}#7+2/4!tool_calls");
        check(decoder(), &[START, TEXT, &input(Some(0), "{}")], "<m> ERR stream_cut");
    }

    #[test]
    fn a_call_without_arguments_has_none() {
        let empty = input(Some(1), "");
        check(decoder(), &[START, CALL, &empty, END, STOP], "<m>[0 f{0 {}}#7+2/4!tool_calls");
        let at_once = CALL.replace("\"input\":{}", "\"input\":{\"x\":1}");
        check(decoder(), &[START, &at_once, END, STOP], r#"<m>[0 f{0 {"x":1}}#7+2/4!tool_calls"#);
    }

    #[test]
    fn reasoning_keeps_its_seal() {
        let open = r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#;
        let think = r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#;
        let seal = r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}"#;
        check(decoder(), &[START, open, think, seal, CLOSE, TEXT, A, END, STOP], "<m>(hm)~sa#7+2/4!stop");
    }

    #[test]
    fn a_whole_document_is_taken_too() {
        let whole = r#"{"type":"message","model":"m","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"a"},
            {"type":"tool_use","id":"t","name":"f","input":{"x":1}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":2}}"#;
        check_whole(decoder(), whole, r#"<m>(hm)~sa[0 f{0 {"x":1}}#1+2/0!tool_calls"#);
        check_whole(decoder(), r#"{"type":"error","error":{"type":"overloaded_error"}}"#, " ERR upstream");
        check_whole(decoder(), "{}", "<asked> ERR stream_cut");
    }

    proptest! {
        #[test]
        fn any_order_of_events_keeps_the_promise(chunks in prop::collection::vec(
            prop::sample::select(vec![START, TEXT, A, CLOSE, END, STOP, CALL, "", "{}", "null", r#"{"type":"content_block_delta"}"#]), 0..9,
        )) {
            check_promise(decoder(), &chunks);
        }
    }
}
