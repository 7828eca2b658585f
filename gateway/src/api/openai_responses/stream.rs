//! The order of a stream's events: `response.created`, `response.in_progress`, items (added, their parts and deltas,
//! done), and `response.completed` or `.incomplete` with the whole; or `error` and `response.failed`.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use weir_protocol::{ChatRequest, EngineError, Event, FinishReason, TokenLogprob, Usage};

use super::encode::{
    Echo, Extra, IncompleteDetails, ItemBody, OddTools, ResponseBody, ResponseError, UsageBody, ending,
};
use super::events::{Events, Payload};
use super::items::Items;
use super::theirs::Told;
use crate::api::answering::Identity;
use crate::api::answering::failure::Failure;
use crate::api::answering::stats::DraftBody;
use crate::api::answering::stream::Grammar;

/// Writes one streamed answer.
#[derive(Debug)]
pub(crate) struct ResponsesGrammar {
    identity: Identity,
    raw: Arc<Map<String, Value>>,
    model: String,
    begun: bool,
    items: Items,
    /// Those of the text that comes next.
    logprobs: Vec<TokenLogprob>,
    usage: Option<Usage>,
    /// Who went on where another was cut.
    continued: Option<String>,
    events: Events,
}

impl Grammar for ResponsesGrammar {
    fn event(&mut self, event: Event) -> Result<Vec<Bytes>, EngineError> {
        if let Event::Started { model } = &event {
            self.model.clone_from(model);
        }
        self.begin();
        match event {
            // The beginning was said; for the stop text there is no place here.
            Event::Started { .. }
            | Event::Foreign
            | Event::StoppedAt(_)
            | Event::RateLimits(_)
            | Event::Verbatim(_) => {}
            Event::Logprobs(more) => self.logprobs.extend(more),
            Event::TextDelta(text) => {
                let logprobs = std::mem::take(&mut self.logprobs);
                self.items.text(&text, logprobs, &mut self.events);
            }
            Event::RefusalDelta(text) => self.items.refusal(&text, &mut self.events),
            Event::ReasoningDelta(text) => self.items.reasoning(&text, &mut self.events),
            Event::ReasoningSignature(seal) => self.items.seal(seal, &mut self.events),
            Event::ToolCallStarted { index, id, name } => self.items.call(index, id, name, &mut self.events),
            Event::ToolCallDelta { index, arguments } => self.items.arguments(index, &arguments, &mut self.events)?,
            Event::Draft { snapshot, step, masked } => {
                self.events.push("weir.draft", Payload::Draft { draft: DraftBody { snapshot, step, masked } });
            }
            Event::Continued { backend } => self.continued = Some(backend),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finished { reason } => self.finish(reason),
        }
        Ok(self.events.take())
    }

    /// Some clients look for the one, some for the other.
    fn broken(&mut self, error: &EngineError) -> Vec<Bytes> {
        let failure = Failure::from(error).named(super::FIELDS);
        let (code, message, param) = (failure.code.as_str(), failure.message.as_str(), failure.param.as_deref());
        self.events.push("error", Payload::Error { code, message, param });
        let output = self.items.take();
        self.whole("response.failed", "failed", &output, Some(ResponseError::from(&failure)), None);
        self.events.take()
    }

    fn verbatim(&mut self, piece: &str) -> Vec<Bytes> {
        let told = Told::of(piece);
        self.events.pass(&told.kind, piece);
        if let Some(id) = told.answer_id() {
            self.identity.id = id;
        }
        self.items.follow(&told, &mut self.events);
        self.events.take()
    }

    fn goes_on(&mut self) {
        self.events.go_on();
        self.items.go_on(&mut self.events);
    }
}

impl ResponsesGrammar {
    /// For the answer to `request`.
    pub(super) fn new(identity: Identity, request: &ChatRequest) -> Self {
        ResponsesGrammar {
            raw: Arc::clone(&request.raw),
            model: String::new(),
            begun: false,
            items: Items::new(identity.id.clone(), OddTools::of(request)),
            logprobs: Vec::new(),
            usage: None,
            continued: None,
            events: Events::default(),
            identity,
        }
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            for kind in ["response.created", "response.in_progress"] {
                self.whole(kind, "in_progress", &[], None, None);
            }
        }
    }

    fn finish(&mut self, reason: FinishReason) {
        self.items.about(std::mem::take(&mut self.logprobs));
        let (status, lacks) = ending(reason);
        self.items.end(lacks.is_some(), &mut self.events);
        let output = self.items.take();
        let kind = if lacks.is_some() { "response.incomplete" } else { "response.completed" };
        self.whole(kind, status, &output, None, lacks);
    }

    /// An event with the answer as far as it has come.
    fn whole(
        &mut self,
        kind: &'static str,
        status: &'static str,
        output: &[ItemBody],
        error: Option<ResponseError>,
        incomplete_details: Option<IncompleteDetails>,
    ) {
        let response = ResponseBody {
            id: &self.identity.id,
            object: "response",
            created_at: self.identity.created,
            status,
            error,
            incomplete_details,
            model: &self.model,
            output,
            echo: Echo(&self.raw),
            usage: self.usage.as_ref().map(UsageBody::from),
            weir: self.continued.as_deref().map(|continued_by| Extra { continued_by }),
        };
        self.events.push(kind, Payload::Response { response });
    }
}

#[cfg(test)]
mod tests;
