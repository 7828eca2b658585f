//! From a message's events to ours. The answer is complete only with its stop reason; none is ever made up.

use serde_json::Value;
use weir_protocol::{EngineError, Event, FinishReason};

use crate::api::reading::written::{Block as Written, Turn, may_differ};
use crate::backends::upstream::answer::{Answer, cut};
use crate::backends::upstream::{Decoder, Shows, refusal};
use crate::plain_json;

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
    /// Something that only this dialect has a word for, such as a step of the upstream's own tools.
    Foreign,
    /// What says nothing here, or is closed.
    Other,
}

impl EventDecoder {
    pub(super) fn new(asked: &str, window: u64, alike: bool) -> Self {
        EventDecoder { window, alike, answer: Answer::new(asked), blocks: Vec::new(), open: None, shows: Shows::Plain }
    }

    fn event(&mut self, event: &Value, data: &str, events: &mut Vec<Event>) -> Result<(), EngineError> {
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
            "content_block_start" => {
                let block = &event["content_block"];
                self.open(event["index"].as_u64(), block, as_written(block, data), events)?;
            }
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
                let before = std::mem::replace(&mut self.open, index);
                before.is_none() && index == Some(self.blocks.len() as u64)
            }
            "content_block_delta" => index.is_some() && self.open == index,
            "content_block_stop" => index.is_some() && self.open.take() == index,
            "message_delta" => self.open.is_none(),
            _ => true,
        }
    }

    /// `written`: a call's arguments, where the block may not hold them as they were written.
    fn open(
        &mut self,
        index: Option<u64>,
        block: &Value,
        written: Option<&str>,
        events: &mut Vec<Event>,
    ) -> Result<(), EngineError> {
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
                let text = |key: &str| block[key].as_str().unwrap_or_default();
                let (index, ours) = self.answer.call(text("id"), text("name"), events)?;
                if ours.is_some() {
                    self.shows = Shows::Mended;
                }
                // Some servers give the arguments at once instead of piece by piece.
                let whole = block["input"].as_object().map_or_else(|| "{}".to_owned(), |_| block["input"].to_string());
                let whole = written.map_or(whole, str::to_owned);
                Kind::Call { index, spoken: false, whole }
            }
            "redacted_thinking" => Kind::Other,
            _ => {
                self.foreign(events);
                Kind::Foreign
            }
        };
        self.blocks.push(Block { index, kind });
        Ok(())
    }

    fn delta(&mut self, index: Option<u64>, delta: &Value, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let text = |key: &str| delta[key].as_str().unwrap_or_default();
        if self.block(index).is_some_and(|block| matches!(block.kind, Kind::Foreign)) {
            self.foreign(events);
            return Ok(());
        }
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
                    Some(Kind::Call { .. } | Kind::Foreign | Kind::Other) => {}
                    Some(Kind::Said) | None => return Err(cut("arguments came without their tool call")),
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn foreign(&mut self, events: &mut Vec<Event>) {
        if self.alike && self.shows != Shows::Mended {
            self.answer.foreign(events);
        }
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

    fn document(&mut self, message: &Value, text: &[u8], events: &mut Vec<Event>) -> Result<(), EngineError> {
        if message["type"] == "error" || message["error"].is_object() {
            return Err(refusal::inside(&message["error"], self.window));
        }
        self.answer.start(message["model"].as_str(), events);
        let content = || message["content"].as_array().into_iter().flatten();
        let differs = content().any(|block| may_differ(&block["input"]));
        let turn = serde_json::from_slice(text).ok().filter(|_| differs);
        let mut written = turn.as_ref().map(Turn::arguments).unwrap_or_default().into_iter();
        for block in content() {
            let arguments = if block["type"] == "tool_use" { written.next() } else { None };
            self.open(None, block, arguments, events)?;
            events.extend(self.seal(block));
            // Who streams it on ends the call before what comes after it.
            self.close(None, events);
        }
        self.count(&message["usage"]);
        self.stop(message)?;
        self.end(events)
    }
}

/// The arguments of a call that begins with them, where a number may have been changed by being read.
fn as_written<'a>(block: &Value, data: &'a str) -> Option<&'a str> {
    #[derive(serde::Deserialize)]
    struct Start<'a> {
        #[serde(borrow)]
        content_block: Written<'a>,
    }
    let start = || serde_json::from_str::<Start<'a>>(data).ok()?.content_block.arguments();
    may_differ(&block["input"]).then(start).flatten()
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
        let event = plain_json::parse(data).map_err(|_| cut("a piece of the stream is not JSON"))?;
        self.event(&event, data, events)
    }

    fn whole(&mut self, document: &[u8], events: &mut Vec<Event>) -> Result<(), EngineError> {
        let message = plain_json::parse_bytes(document).map_err(|_| cut("the answer is not JSON"))?;
        self.document(&message, document, events)
    }

    fn shows(&self) -> Shows {
        self.shows
    }

    fn answer(&self) -> &Answer {
        &self.answer
    }

    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if self.has_reason() {
            self.close_all(events);
        }
        self.answer.end(events)
    }
}
