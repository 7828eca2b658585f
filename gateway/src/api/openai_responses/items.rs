//! The items of a streamed answer: each is added, grows and is done. Speech (text, reasoning) is one item at a time;
//! calls stay open beside it until they are complete, for a backend may mix their pieces.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use weir_protocol::{EngineError, TokenLogprob};

use super::encode::{self, Called, ContentPart, ItemBody, ItemKind, OddTools, item_id};
use super::events::{Events, Payload, Place};
use super::theirs::Told;
use crate::api::answering::braces::Braces;
use crate::api::openai_chat::encode::LogprobBody;

const IN_PROGRESS: &str = "in_progress";
const COMPLETED: &str = "completed";

/// The items of one answer.
#[derive(Debug)]
pub(super) struct Items {
    response: String,
    odd: OddTools,
    /// How many were added.
    count: usize,
    done: BTreeMap<usize, ItemBody>,
    /// The upstream's own item that its events are about, while they are passed on, until there is one here in its place.
    theirs: Option<Theirs>,
    /// Those of its items that are done.
    theirs_done: BTreeMap<usize, Box<RawValue>>,
    speech: Option<Speech>,
    calls: Vec<OpenCall>,
}

#[derive(Debug)]
struct Theirs {
    at: usize,
    id: Option<String>,
    /// What it is if nothing follows.
    left_open: Option<Box<RawValue>>,
}

#[derive(Debug)]
struct Speech {
    at: usize,
    id: String,
    kind: Kind,
    text: String,
    logprobs: Vec<LogprobBody>,
    seal: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Message,
    /// A message that refuses.
    Refusal,
    Reasoning,
}

#[derive(Debug)]
struct OpenCall {
    index: u32,
    at: usize,
    id: String,
    call_id: String,
    /// If it takes text: what the text is, is known at the end.
    tool: Called,
    arguments: String,
    braces: Braces,
}

impl Items {
    /// None yet, of the answer with this id.
    pub(super) fn new(response: String, odd: OddTools) -> Self {
        Items {
            response,
            odd,
            count: 0,
            done: BTreeMap::new(),
            theirs: None,
            theirs_done: BTreeMap::new(),
            speech: None,
            calls: Vec::new(),
        }
    }

    /// The upstream's own event was passed on: what comes next here is about the same item.
    pub(super) fn follow(&mut self, told: &Told<'_>, events: &mut Events) {
        let Some(at) = told.place() else { return };
        if self.speech.as_ref().is_some_and(|speech| speech.at != at) {
            self.end_speech(COMPLETED, events);
        }
        if self.theirs.as_ref().is_none_or(|theirs| theirs.at != at) {
            self.theirs = Some(Theirs { at, id: told.item_id(), left_open: told.left_open() });
        }
        self.count = self.count.max(at.saturating_add(1));
        self.theirs_done.extend(told.done().map(|item| (at, item)));
    }

    /// From here on events are ours again: what the upstream ended stays as it told it, and what it only began, or thoughts that it
    /// told in words of its own, are over. A free-form call that it had only begun is told anew, at its end: the final answer has
    /// it once. That takes a server that breaks off its own numbering within such a call; none is known.
    pub(super) fn go_on(&mut self, events: &mut Events) {
        if let Some(Theirs { at, left_open: Some(item), .. }) = self.theirs.take()
            && !self.theirs_done.contains_key(&at)
        {
            self.finish(at, ItemBody::Theirs(item), events);
        }
        for (at, item) in std::mem::take(&mut self.theirs_done) {
            self.speech.take_if(|speech| speech.at == at);
            self.calls.retain(|call| call.at != at);
            self.done.insert(at, ItemBody::Theirs(item));
        }
        if let Some(thoughts) = self.speech.take_if(|speech| speech.kind == Kind::Reasoning) {
            // Without its text: sent back, an upstream would look for the rest behind this id.
            self.finish(thoughts.at, thoughts.item("incomplete", Vec::new()), events);
        }
    }

    /// More output text.
    pub(super) fn text(&mut self, delta: &str, logprobs: Vec<TokenLogprob>, events: &mut Events) {
        let speech = self.speak(Kind::Message, events);
        let logprobs: Vec<LogprobBody> = logprobs.into_iter().map(LogprobBody::from).collect();
        speech.text.push_str(delta);
        speech.logprobs.extend(logprobs.iter().cloned());
        let payload = Payload::Delta { place: speech.place(), delta, logprobs: Some(logprobs) };
        events.push("response.output_text.delta", payload);
    }

    /// Tokens without a text of their own (the end token): they belong to what was said last.
    pub(super) fn about(&mut self, logprobs: Vec<TokenLogprob>) {
        if let Some(speech) = self.speech.as_mut().filter(|speech| speech.kind == Kind::Message) {
            speech.logprobs.extend(logprobs.into_iter().map(LogprobBody::from));
        }
    }

    /// More of a refusal.
    pub(super) fn refusal(&mut self, delta: &str, events: &mut Events) {
        let speech = self.speak(Kind::Refusal, events);
        speech.text.push_str(delta);
        events.push("response.refusal.delta", Payload::Delta { place: speech.place(), delta, logprobs: None });
    }

    /// More reasoning.
    pub(super) fn reasoning(&mut self, delta: &str, events: &mut Events) {
        let speech = self.speak(Kind::Reasoning, events);
        speech.text.push_str(delta);
        let payload = Payload::Delta { place: speech.place(), delta, logprobs: None };
        events.push("response.reasoning_text.delta", payload);
    }

    /// The seal that closes the reasoning.
    pub(super) fn seal(&mut self, seal: String, events: &mut Events) {
        self.speak(Kind::Reasoning, events).seal = Some(seal);
        self.end_speech(COMPLETED, events);
    }

    /// A call begins.
    pub(super) fn call(&mut self, index: u32, call_id: String, name: String, events: &mut Events) {
        self.end_speech(COMPLETED, events);
        self.end_calls(COMPLETED, true, events);
        let tool = self.odd.called(name);
        let (at, id) = self.add(if tool.is_freeform { ItemKind::CustomCall } else { ItemKind::FunctionCall });
        let (arguments, braces) = (String::new(), Braces::default());
        let call = OpenCall { index, at, id, call_id, tool, arguments, braces };
        events.push("response.output_item.added", Payload::Item { output_index: at, item: &call.item(IN_PROGRESS) });
        self.calls.push(call);
    }

    /// More of a call's arguments.
    pub(super) fn arguments(&mut self, index: u32, delta: &str, events: &mut Events) -> Result<(), EngineError> {
        match self.calls.iter_mut().find(|call| call.index == index) {
            Some(call) => {
                call.arguments.push_str(delta);
                call.braces.push(delta);
                if call.tool.is_freeform {
                    return Ok(());
                }
                let payload = Payload::Delta { place: call.place(), delta, logprobs: None };
                events.push("response.function_call_arguments.delta", payload);
                Ok(())
            }
            // White space after the end of an object says nothing.
            None if delta.trim().is_empty() => Ok(()),
            None => {
                let message = "it went on with a tool call after the call was complete".into();
                Err(EngineError::Upstream { status: 0, message, retry_after: None })
            }
        }
    }

    /// Nothing more comes. What is still open was cut if `cut`.
    pub(super) fn end(&mut self, cut: bool, events: &mut Events) {
        let status = if cut { "incomplete" } else { COMPLETED };
        self.end_calls(COMPLETED, true, events);
        self.end_calls(status, false, events);
        self.end_speech(status, events);
    }

    /// All of them, in order; those that are not done are left out.
    pub(super) fn take(&mut self) -> Vec<ItemBody> {
        std::mem::take(&mut self.done).into_values().collect()
    }

    /// The place and the id of one more.
    fn add(&mut self, kind: ItemKind) -> (usize, String) {
        let own = |at| item_id(&self.response, kind, at);
        if let Some(Theirs { at, id, .. }) = self.theirs.take() {
            return (at, id.unwrap_or_else(|| own(at)));
        }
        let (at, id) = (self.count, own(self.count));
        self.count = at.saturating_add(1);
        (at, id)
    }

    /// The item of this kind that is being said; begins one if it is another's turn.
    fn speak(&mut self, kind: Kind, events: &mut Events) -> &mut Speech {
        if self.speech.as_ref().is_some_and(|speech| speech.kind != kind) {
            self.end_speech(COMPLETED, events);
        }
        if let Some(speech) = self.speech.take() {
            return self.speech.insert(speech);
        }
        self.end_calls(COMPLETED, true, events);
        let (at, id) = self.add(kind.of_item());
        let speech = Speech { at, id, kind, text: String::new(), logprobs: Vec::new(), seal: None };
        let item = speech.item(IN_PROGRESS, Vec::new());
        events.push("response.output_item.added", Payload::Item { output_index: at, item: &item });
        let part = speech.part();
        events.push("response.content_part.added", Payload::Part { place: speech.place(), part: &part });
        self.speech.insert(speech)
    }

    fn end_speech(&mut self, status: &'static str, events: &mut Events) {
        let Some(speech) = self.speech.take() else { return };
        let (place, text) = (speech.place(), speech.text.as_str());
        let (kind, done) = match speech.kind {
            Kind::Message => {
                let logprobs = Some(speech.logprobs.as_slice());
                ("response.output_text.done", Payload::TextDone { place, text, logprobs })
            }
            Kind::Refusal => ("response.refusal.done", Payload::RefusalDone { place, refusal: text }),
            Kind::Reasoning => ("response.reasoning_text.done", Payload::TextDone { place, text, logprobs: None }),
        };
        events.push(kind, done);
        let part = speech.part();
        events.push("response.content_part.done", Payload::Part { place: speech.place(), part: &part });
        self.finish(speech.at, speech.item(status, vec![part]), events);
    }

    /// Ends the calls that are complete, or all.
    fn end_calls(&mut self, status: &'static str, only_complete: bool, events: &mut Events) {
        let ended: Vec<OpenCall> =
            self.calls.extract_if(.., |call| !only_complete || call.braces.is_complete()).collect();
        for mut call in ended {
            if call.tool.is_freeform {
                call.arguments = encode::input(std::mem::take(&mut call.arguments));
                let (place, input) = (call.place(), call.arguments.as_str());
                let delta = Payload::Delta { place, delta: input, logprobs: None };
                events.push("response.custom_tool_call_input.delta", delta);
                events.push("response.custom_tool_call_input.done", Payload::InputDone { place, input });
            } else {
                let (place, name, arguments) = (call.place(), call.tool.name.as_str(), call.arguments.as_str());
                events.push("response.function_call_arguments.done", Payload::ArgumentsDone { place, name, arguments });
            }
            self.finish(call.at, call.item(status), events);
        }
    }

    fn finish(&mut self, at: usize, item: ItemBody, events: &mut Events) {
        events.push("response.output_item.done", Payload::Item { output_index: at, item: &item });
        self.done.insert(at, item);
    }
}

impl Kind {
    fn of_item(self) -> ItemKind {
        match self {
            Kind::Message | Kind::Refusal => ItemKind::Message,
            Kind::Reasoning => ItemKind::Reasoning,
        }
    }
}

impl Speech {
    fn place(&self) -> Place<'_> {
        Place { item_id: &self.id, output_index: self.at, content_index: Some(0) }
    }

    fn part(&self) -> ContentPart {
        match self.kind {
            Kind::Message => ContentPart::output(self.text.clone(), self.logprobs.clone()),
            Kind::Refusal => ContentPart::Refusal { refusal: self.text.clone() },
            Kind::Reasoning => ContentPart::ReasoningText { text: self.text.clone() },
        }
    }

    fn item(&self, status: &'static str, content: Vec<ContentPart>) -> ItemBody {
        let id = self.id.clone();
        match self.kind {
            Kind::Message | Kind::Refusal => ItemBody::Message { id, status, role: "assistant", content },
            Kind::Reasoning => {
                ItemBody::Reasoning { id, summary: [], content, encrypted_content: self.seal.clone(), status }
            }
        }
    }
}

impl OpenCall {
    fn place(&self) -> Place<'_> {
        Place { item_id: &self.id, output_index: self.at, content_index: None }
    }

    fn item(&self, status: &'static str) -> ItemBody {
        let (id, call_id, said) = (self.id.clone(), self.call_id.clone(), self.arguments.clone());
        let (namespace, name) = (self.tool.namespace.clone(), self.tool.name.clone());
        match self.tool.is_freeform {
            true => ItemBody::CustomToolCall { id, status, call_id, namespace, name, input: said },
            false => ItemBody::FunctionCall { id, status, call_id, namespace, name, arguments: said },
        }
    }
}
