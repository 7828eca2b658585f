//! What every answer has, whatever its dialect: one beginning, counts, and one end. Must never make up an end: who
//! decodes a dialect says why the answer ended, or it is cut.

use std::collections::HashSet;

use weir_protocol::{EngineError, Event, FinishReason, Usage};

use crate::backends::tool_text::new_call_id;

/// Most calls of one answer: whoever reads, writes or logs it looks each piece's call up among them.
pub(crate) const CALLS_MAX: u32 = 4096;

/// The state of one answer.
#[derive(Debug)]
pub(in crate::backends) struct Answer {
    /// The model asked for, shown if the upstream does not name the one that answers.
    asked: String,
    started: bool,
    /// Whether anything was said.
    said: bool,
    /// Calls begun so far, and their ids.
    calls: u32,
    ids: HashSet<String>,
    /// Whether it has what only the upstream's own dialect has a word for.
    is_foreign: bool,
    usage: Option<Usage>,
    reason: Option<FinishReason>,
    stopped_at: Option<String>,
    ended: bool,
}

impl Answer {
    pub(in crate::backends) fn new(asked: &str) -> Self {
        Answer {
            asked: asked.to_owned(),
            started: false,
            said: false,
            calls: 0,
            ids: HashSet::new(),
            is_foreign: false,
            usage: None,
            reason: None,
            stopped_at: None,
            ended: false,
        }
    }

    pub(in crate::backends) fn has_reason(&self) -> bool {
        self.reason.is_some()
    }

    /// Whether anything was said.
    pub(in crate::backends) fn has_said(&self) -> bool {
        self.said
    }

    /// Whether a limit ended it.
    pub(in crate::backends) fn was_cut_short(&self) -> bool {
        self.reason == Some(FinishReason::Length)
    }

    pub(in crate::backends) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The answer has begun, by this model where the upstream says so. Only the first time counts.
    pub(in crate::backends) fn start(&mut self, model: Option<&str>, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            let model = model.filter(|model| !model.is_empty()).unwrap_or(&self.asked);
            events.push(Event::Started { model: model.to_owned() });
        }
    }

    fn say(&mut self, events: &mut Vec<Event>) {
        self.start(None, events);
        self.said = true;
    }

    /// A piece of text; empty ones are nothing.
    pub(in crate::backends) fn text(&mut self, text: impl AsRef<str> + Into<String>, events: &mut Vec<Event>) {
        if !text.as_ref().is_empty() {
            self.say(events);
            events.push(Event::TextDelta(text.into()));
        }
    }

    /// A piece of a refusal; empty ones are nothing.
    pub(in crate::backends) fn refusal(&mut self, text: &str, events: &mut Vec<Event>) {
        if !text.is_empty() {
            self.say(events);
            events.push(Event::RefusalDelta(text.to_owned()));
        }
    }

    /// A piece of reasoning; empty ones are nothing.
    pub(in crate::backends) fn reasoning(&mut self, text: &str, events: &mut Vec<Event>) {
        if !text.is_empty() {
            self.say(events);
            events.push(Event::ReasoningDelta(text.to_owned()));
        }
    }

    /// Something that only the upstream's own dialect has a word for, told to a caller who speaks it.
    pub(in crate::backends) fn foreign(&mut self, events: &mut Vec<Event>) {
        self.start(None, events);
        self.is_foreign = true;
        events.push(Event::Foreign);
    }

    /// A call begins; gives its place among the calls, and its id where that is not the upstream's. Results are told by their
    /// call's id: one that is empty, or another call's, becomes a new one.
    ///
    /// # Errors
    /// It is one too many.
    pub(in crate::backends) fn call(
        &mut self,
        id: &str,
        name: &str,
        events: &mut Vec<Event>,
    ) -> Result<(u32, Option<String>), EngineError> {
        self.say(events);
        let index = self.place_of_call()?;
        let is_theirs = !id.is_empty() && self.ids.insert(id.to_owned());
        let ours = (!is_theirs).then(new_call_id);
        let id = ours.clone().unwrap_or_else(|| id.to_owned());
        events.push(Event::ToolCallStarted { index, id, name: name.to_owned() });
        Ok((index, ours))
    }

    fn place_of_call(&mut self) -> Result<u32, EngineError> {
        let index = self.calls;
        self.calls += 1;
        if index < CALLS_MAX { Ok(index) } else { Err(too_many_calls()) }
    }

    /// The counts; the last word holds.
    pub(in crate::backends) fn count(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    /// The counts so far, to be added to.
    pub(in crate::backends) fn counted(&mut self) -> &mut Usage {
        self.usage.get_or_insert_default()
    }

    /// A call that only the upstream's own dialect has a word for: it has a place among the others.
    ///
    /// # Errors
    /// It is one too many.
    pub(in crate::backends) fn pass_by_call(&mut self) -> Result<(), EngineError> {
        self.place_of_call().map(drop)
    }

    /// Why the answer ended, and how that is told. The first word holds; several servers say `stop` after calls, and
    /// clients run tools only if told so. Where there is no call they would wait for one.
    pub(in crate::backends) fn reason(&mut self, reason: FinishReason) -> FinishReason {
        let told = match reason {
            FinishReason::Stop if self.calls > 0 => FinishReason::ToolCalls,
            FinishReason::ToolCalls if self.calls == 0 && !self.is_foreign => FinishReason::Stop,
            reason => reason,
        };
        *self.reason.get_or_insert(told)
    }

    /// The stop text that was met.
    pub(in crate::backends) fn stopped_at(&mut self, text: &str) {
        self.stopped_at.get_or_insert_with(|| text.to_owned());
    }

    /// There is nothing more to come.
    ///
    /// # Errors
    /// It was never said why the answer ended.
    pub(in crate::backends) fn end(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if self.ended {
            return Ok(());
        }
        let Some(mut reason) = self.reason else {
            return Err(cut("the upstream's stream ended without a finish reason"));
        };
        // Calls may still have come beside or after the word.
        if reason == FinishReason::Stop && self.calls > 0 {
            reason = FinishReason::ToolCalls;
        }
        self.start(None, events);
        self.ended = true;
        events.extend(self.stopped_at.take().map(Event::StoppedAt));
        events.extend(self.usage.take().map(Event::Usage));
        events.push(Event::Finished { reason });
        Ok(())
    }
}

/// The answer broke off.
pub(in crate::backends) fn cut(message: &str) -> EngineError {
    EngineError::StreamCut { message: message.into() }
}

/// The answer is not read on.
pub(in crate::backends) fn too_many_calls() -> EngineError {
    cut(&format!("it makes more than {CALLS_MAX} tool calls"))
}
