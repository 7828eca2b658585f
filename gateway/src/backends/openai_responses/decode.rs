//! From a response's events to ours. The answer is complete only with `response.completed` or `response.incomplete`; no
//! end is ever made up.

use serde_json::{Value, json};
use weir_protocol::{EngineError, Event, FinishReason, Tool, Usage};

use crate::backends::openai_chat::logprobs::token_logprobs;
use crate::backends::upstream::answer::{Answer, cut};
use crate::backends::upstream::{Decoder, Shows, refusal};
use crate::plain_json;

/// Reads one answer.
#[derive(Debug)]
pub(super) struct EventDecoder {
    window: u64,
    /// Whether the caller speaks this dialect: to all others a seal is worth nothing.
    alike: bool,
    answer: Answer,
    calls: Vec<Call>,
    /// Items that were added.
    items: u64,
    /// The number of the next event.
    next: u64,
    /// The part of what was thought that was told last: its item's place, and its own in a summary.
    thought: Option<(Option<u64>, Option<u64>)>,
    shows: Shows,
}

/// What stands between the parts of a summary, and between thoughts.
const BETWEEN_PARTS: &str = "\n\n";

/// How events end that say nothing by themselves.
const FRAME: &[&str] = &["_part.added", "_part.done", "text.done", "refusal.done"];

/// A call under way.
#[derive(Debug)]
struct Call {
    /// The upstream's place of the item.
    output: Option<u64>,
    /// The upstream's id of the item.
    item: Option<String>,
    index: u32,
    /// Whether arguments came.
    spoken: bool,
    /// Whether all arguments came.
    closed: bool,
}

impl EventDecoder {
    pub(super) fn new(asked: &str, window: u64, alike: bool) -> Self {
        let (answer, calls) = (Answer::new(asked), Vec::new());
        EventDecoder { window, alike, answer, calls, items: 0, next: 0, thought: None, shows: Shows::Plain }
    }

    fn event(&mut self, event: &Value, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        if !self.is_by_the_book(event) {
            self.shows = Shows::Mended;
        }
        match text("type") {
            "response.created" | "response.in_progress" | "response.queued" => {
                self.answer.start(event["response"]["model"].as_str(), events);
            }
            "response.output_item.added" => match event["item"]["type"].as_str().unwrap_or_default() {
                "function_call" => self.open(event["output_index"].as_u64(), &event["item"], events)?,
                "message" | "reasoning" => {}
                _ => self.foreign(events),
            },
            "response.output_text.delta" => {
                events.extend(token_logprobs(&event["logprobs"]));
                self.answer.text(text("delta"), events);
            }
            "response.refusal.delta" => self.answer.refusal(text("delta"), events),
            "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
                let part = (event["output_index"].as_u64(), event["summary_index"].as_u64());
                self.think(part, text("delta"), events);
            }
            "response.function_call_arguments.delta" => {
                let call = self.call(event).ok_or_else(|| cut("arguments came without their tool call"))?;
                give(call, text("delta"), events);
            }
            "response.function_call_arguments.done" => {
                let call = self.call(event).ok_or_else(|| cut("arguments came without their tool call"))?;
                close(call, text("arguments"), events);
            }
            "response.output_item.done" => self.item_done(event, events)?,
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                self.finish(&event["response"], events)?;
            }
            "error" => {
                let error = if event["error"].is_object() { &event["error"] } else { event };
                return Err(refusal::inside(error, self.window));
            }
            kind if FRAME.iter().any(|word| kind.ends_with(word)) => {}
            // The upstream's own tools, and whatever is new.
            kind if kind.starts_with("response.") => self.foreign(events),
            _ if event.is_object() => {}
            _ => return Err(cut("a piece of the stream is no object")),
        }
        Ok(())
    }

    fn foreign(&mut self, events: &mut Vec<Event>) {
        if self.alike && self.shows != Shows::Mended {
            self.answer.foreign(events);
        }
    }

    /// Whether events are numbered, items have their own places, and pieces of calls say whose they are: some servers give
    /// none of it.
    fn is_by_the_book(&mut self, event: &Value) -> bool {
        let output = event["output_index"].as_u64();
        let numbered = event["sequence_number"] == self.next;
        self.next += 1;
        let placed = match event["type"].as_str().unwrap_or_default() {
            "response.output_item.added" => {
                self.items += 1;
                output == Some(self.items - 1)
            }
            "response.function_call_arguments.delta" | "response.function_call_arguments.done" => {
                output.is_some() && self.call(event).is_some_and(|call| call.output == output)
            }
            "response.output_item.done" => output.is_some_and(|output| output < self.items),
            _ => true,
        };
        numbered && placed
    }

    fn open(&mut self, output: Option<u64>, item: &Value, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let text = |key: &str| item[key].as_str().unwrap_or_default();
        let name = Tool::called(item["namespace"].as_str(), text("name"));
        let (index, ours) = self.answer.call(text("call_id"), &name, events)?;
        if ours.is_some() {
            self.shows = Shows::Mended;
        }
        let item_id = item["id"].as_str().map(str::to_owned);
        self.calls.push(Call { output, item: item_id, index, spoken: false, closed: false });
        Ok(())
    }

    /// The call a piece belongs to: the newest one with its item's id, else the newest at its place, else the newest.
    fn call(&mut self, event: &Value) -> Option<&mut Call> {
        let (item, output) = (event["item_id"].as_str(), event["output_index"].as_u64());
        let by_item = item.and_then(|id| self.calls.iter().rposition(|call| call.item.as_deref() == Some(id)));
        let by_place = || output.and_then(|at| self.calls.iter().rposition(|call| call.output == Some(at)));
        let newest = || (item.is_none() && output.is_none()).then(|| self.calls.len().checked_sub(1)).flatten();
        let at = by_item.or_else(by_place).or_else(newest)?;
        self.calls.get_mut(at)
    }

    /// A summary has parts with headings of their own, and an answer may have several; what is told of them elsewhere is one
    /// text.
    fn think(&mut self, part: (Option<u64>, Option<u64>), text: &str, events: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        if self.thought.is_some_and(|before| before != part) {
            self.answer.reasoning(BETWEEN_PARTS, events);
        }
        self.thought = Some(part);
        self.answer.reasoning(text, events);
    }

    /// Behind a seal, or anything else that was said, another thought begins by itself.
    fn go_on(&mut self, told: &[Event]) {
        let ends = |event: &Event| match event {
            Event::ReasoningDelta(_) => false,
            Event::ReasoningSignature(_) => true,
            event => event.is_content(),
        };
        if told.iter().any(ends) {
            self.thought = None;
        }
    }

    fn item_done(&mut self, event: &Value, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let item = &event["item"];
        match item["type"].as_str().unwrap_or_default() {
            "function_call" => {
                let arguments = item["arguments"].as_str().unwrap_or_default();
                let mut place = event.clone();
                place["item_id"] = item["id"].clone();
                if self.call(&place).is_none() {
                    self.open(event["output_index"].as_u64(), item, events)?;
                }
                if let Some(call) = self.call(&place) {
                    close(call, arguments, events);
                }
            }
            "reasoning" => {
                let seal = item["encrypted_content"].as_str().filter(|seal| self.alike && !seal.is_empty());
                events.extend(seal.map(|seal| Event::ReasoningSignature(seal.to_owned())));
            }
            "custom_tool_call" => self.freeform(item, events)?,
            "message" => {}
            _ => self.foreign(events),
        }
        Ok(())
    }

    /// A call of a free-form tool comes at its end: its text is a member of the arguments here.
    fn freeform(&mut self, item: &Value, events: &mut Vec<Event>) -> Result<(), EngineError> {
        self.open(None, item, events)?;
        if let Some(call) = self.calls.last_mut() {
            close(call, &json!({Tool::INPUT: item["input"]}).to_string(), events);
        }
        Ok(())
    }

    fn finish(&mut self, response: &Value, events: &mut Vec<Event>) -> Result<(), EngineError> {
        // Some servers tell an answer only here.
        if !self.answer.has_said() && response["status"] != "failed" {
            for (place, item) in (0..).zip(response["output"].as_array().into_iter().flatten()) {
                let from = events.len();
                self.item(place, item, events)?;
                self.go_on(events.get(from..).unwrap_or_default());
            }
        }
        self.count(&response["usage"]);
        let reason = match response["status"].as_str().unwrap_or_default() {
            "completed" => FinishReason::Stop,
            "incomplete" => match response["incomplete_details"]["reason"].as_str().unwrap_or_default() {
                "max_output_tokens" | "max_tokens" => FinishReason::Length,
                "content_filter" => FinishReason::ContentFilter,
                other if refusal::is_word(other) => return Err(cut(&format!("the upstream ended with `{other}`"))),
                _ => return Err(cut("the upstream ended with an unknown reason")),
            },
            "failed" => return Err(refusal::inside(&response["error"], self.window)),
            other if refusal::is_word(other) => return Err(cut(&format!("the upstream ended as `{other}`"))),
            _ => return Err(cut("the upstream ended in an unknown way")),
        };
        self.answer.reason(reason);
        self.end(events)
    }

    fn count(&mut self, usage: &Value) {
        let (Some(prompt_tokens), Some(completion_tokens)) =
            (usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64())
        else {
            return;
        };
        let detail = |group: &str, key: &str| usage[group][key].as_u64().unwrap_or(0);
        self.answer.count(Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens: detail("input_tokens_details", "cached_tokens"),
            reasoning_tokens: detail("output_tokens_details", "reasoning_tokens"),
            ..Usage::default()
        });
    }

    /// An item of a whole response.
    fn item(&mut self, place: u64, item: &Value, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let texts = |list: &Value| -> Vec<String> {
            let parts = list.as_array().into_iter().flatten();
            parts.filter_map(|part| part["text"].as_str()).map(str::to_owned).collect()
        };
        match item["type"].as_str().unwrap_or_default() {
            "message" => {
                for part in item["content"].as_array().into_iter().flatten() {
                    events.extend(token_logprobs(&part["logprobs"]));
                    self.answer.text(part["text"].as_str().unwrap_or_default(), events);
                    self.answer.refusal(part["refusal"].as_str().unwrap_or_default(), events);
                }
            }
            "reasoning" => {
                let shown = texts(&item["content"]).concat();
                let told = if shown.is_empty() { texts(&item["summary"]).join(BETWEEN_PARTS) } else { shown };
                self.think((Some(place), None), &told, events);
                self.item_done(&json!({"item": item}), events)?;
            }
            "function_call" => {
                self.open(None, item, events)?;
                if let Some(call) = self.calls.last_mut() {
                    close(call, item["arguments"].as_str().unwrap_or_default(), events);
                }
            }
            "custom_tool_call" => self.freeform(item, events)?,
            _ => self.foreign(events),
        }
        Ok(())
    }
}

fn give(call: &mut Call, piece: &str, events: &mut Vec<Event>) {
    if !piece.is_empty() && !call.closed {
        call.spoken = true;
        events.push(Event::ToolCallDelta { index: call.index, arguments: piece.to_owned() });
    }
}

/// The arguments are complete; `whole` is all of them, given if none came in pieces. No arguments are written `{}`.
fn close(call: &mut Call, whole: &str, events: &mut Vec<Event>) {
    if !call.spoken {
        give(call, if whole.is_empty() { "{}" } else { whole }, events);
    }
    call.closed = true;
}

impl Decoder for EventDecoder {
    fn take(&mut self, data: &str, events: &mut Vec<Event>) -> Result<(), EngineError> {
        // A few servers end with a `[DONE]` of chat completions: the last event says all.
        if self.has_ended() || data.is_empty() || data.trim() == "[DONE]" {
            self.shows = if self.shows == Shows::Mended { Shows::Mended } else { Shows::Silent };
            return Ok(());
        }
        self.shows = if self.shows == Shows::Mended { Shows::Mended } else { Shows::Plain };
        let event = plain_json::parse(data).map_err(|_| cut("a piece of the stream is not JSON"))?;
        let from = events.len();
        self.event(&event, events)?;
        self.go_on(events.get(from..).unwrap_or_default());
        Ok(())
    }

    fn whole(&mut self, document: &[u8], events: &mut Vec<Event>) -> Result<(), EngineError> {
        let response = plain_json::parse_bytes(document).map_err(|_| cut("the answer is not JSON"))?;
        if let Some(error) = response.get("error").filter(|error| !error.is_null()) {
            return Err(refusal::inside(error, self.window));
        }
        self.answer.start(response["model"].as_str(), events);
        self.finish(&response, events)
    }

    fn shows(&self) -> Shows {
        self.shows
    }

    fn answer(&self) -> &Answer {
        &self.answer
    }

    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if self.has_reason() {
            self.calls.iter_mut().for_each(|call| close(call, "", events));
        }
        self.answer.end(events)
    }
}
