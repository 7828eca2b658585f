//! Goes on with a stream that was cut after it had said something: the next backends of the plan are asked, one after
//! another, to write on from the text so far. Only where the operator wants it, and only for plain text: half a call or half
//! a demanded form is nobody else's to finish. Where the model had only thought aloud, the next one answers from the beginning.
//! Must never be silent about it.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;
use weir_protocol::{ChatRequest, EngineError, Event, Message, Part, ResponseFormat, Role};

use super::open::{Opened, Racer, Step, race};
use super::standing::{Class, Purpose};
use crate::metrics::Flight;
use crate::record::attempts::Purpose as MadeFor;

/// Longest text that is sent to another backend.
const TEXT_MAX: usize = 1 << 20;
/// What a token stands for where nobody has counted.
const BYTES_PER_TOKEN: usize = 4;

/// An attempt to go on.
pub(super) type Opening = BoxFuture<'static, (Racer, Result<Opened, EngineError>)>;

/// What is needed to go on.
pub(super) struct Continuing {
    request: Arc<ChatRequest>,
    class: Class,
    /// Who may go on, and whether it was asked before, so that its budget has to pay for it.
    steps: VecDeque<(Arc<Step>, bool)>,
    /// Whose answer it is.
    backend: String,
    text: String,
    /// Whether a text may be gone on with at all.
    takes_text: bool,
    /// Whether nothing but text and thoughts were told.
    is_plain: bool,
    /// White space at the text's end, left out of what the next backend is shown: some refuse it, and most say it again.
    owed: String,
}

impl Continuing {
    /// `None`: nobody could go on with such an answer.
    pub(super) fn new(
        request: &Arc<ChatRequest>,
        class: Class,
        backend: &str,
        steps: VecDeque<(Arc<Step>, bool)>,
    ) -> Option<Self> {
        let fits = request.stream && !request.bare_prompt && !request.diffusion.drafts;
        (fits && !steps.is_empty()).then(|| Continuing {
            request: Arc::clone(request),
            class,
            steps,
            backend: backend.to_owned(),
            text: String::new(),
            takes_text: request.response_format == ResponseFormat::Text && request.sampling.logprobs.is_none(),
            is_plain: true,
            owed: String::new(),
        })
    }

    /// An event goes to the caller: as it is, but for white space that was said already.
    pub(super) fn hears(&mut self, event: Event) -> Event {
        match event {
            Event::TextDelta(mut text) => {
                if !text.is_empty() && !self.owed.is_empty() {
                    let owed = std::mem::take(&mut self.owed);
                    let kept = text.strip_prefix(owed.as_str()).unwrap_or_else(|| text.trim_start()).to_owned();
                    if kept.is_empty() {
                        // It comes in pieces.
                        self.owed = owed.strip_prefix(text.as_str()).unwrap_or(&owed).to_owned();
                    }
                    text = kept;
                }
                self.is_plain &= self.text.len() + text.len() <= TEXT_MAX;
                if self.is_plain {
                    self.text.push_str(&text);
                }
                Event::TextDelta(text)
            }
            Event::Foreign | Event::ToolCallStarted { .. } | Event::RefusalDelta(_) => {
                self.is_plain = false;
                event
            }
            other => other,
        }
    }

    /// Asks the next backend; `None`: there is none, or the failure is nobody's to mend.
    pub(super) fn start(&mut self, cause: &EngineError, flight: &mut Flight) -> Option<Opening> {
        if !self.is_plain || self.has_text() && !self.takes_text || !cause.may_try_another() {
            return None;
        }
        while let Some((step, owes)) = self.steps.pop_front() {
            let purpose = match owes {
                false => Purpose::Patient,
                true if step.standing.spend() => Purpose::Extra,
                true => continue,
            };
            match step.standing.admit(&self.class, purpose, Instant::now()) {
                Ok(ticket) => {
                    let counted = flight.attempt(&step.backend, MadeFor::Continuation);
                    let asked = self.asked(&step);
                    let racer = Racer { step, tried: 0, is_hedge: false, counted, ticket };
                    return Some(race(racer, asked).boxed());
                }
                Err(skip) => flight.skipped(&step.backend, skip.as_str()),
            }
        }
        None
    }

    /// `backend` goes on; gives who broke off.
    pub(super) fn goes_on(&mut self, backend: &str) -> String {
        let said = self.text.trim_end().len();
        self.owed = self.text.split_off(said);
        self.text.push_str(&self.owed);
        std::mem::replace(&mut self.backend, backend.to_owned())
    }

    fn has_text(&self) -> bool {
        !self.text.trim().is_empty()
    }

    /// The request with the text so far as the beginning of its answer.
    fn asked(&self, step: &Step) -> Arc<ChatRequest> {
        let mut request = ChatRequest::clone(&step.given(&self.request));
        if !self.has_text() {
            // Its own words would be another beginning.
            request.amended = true;
            return Arc::new(request);
        }
        let said = self.text.trim_end();
        match request.messages.last_mut().filter(|_| request.prefill) {
            Some(begun) => begun.content.push(Part::Text(said.to_owned())),
            None => request.messages.push(Message::text(Role::Assistant, said)),
        }
        (request.prefill, request.amended) = (true, true);
        // By estimate: the caller's limit is for all of it.
        let spent = u32::try_from(said.len() / BYTES_PER_TOKEN).unwrap_or(u32::MAX);
        request.max_tokens = request.max_tokens.map(|most| most.saturating_sub(spent).max(1));
        Arc::new(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(text: &str) -> Continuing {
        Continuing {
            request: Arc::default(),
            class: Class::new("rule", 1),
            steps: VecDeque::new(),
            backend: "a".into(),
            text: text.into(),
            takes_text: true,
            is_plain: true,
            owed: String::new(),
        }
    }

    #[test]
    fn white_space_that_was_said_is_not_said_again_whatever_pieces_it_comes_in() {
        for (pieces, more) in [
            (&["\n\n", "two"][..], "two"),
            (&["\n", "\n", "two"], "two"),
            (&["\n", "\ntwo"], "two"),
            (&["\n", "two"], "two"),
            (&[" ", "\ntwo"], "two"),
            (&["two", "\n\n", "three"], "two\n\nthree"),
            (&["\n\n\n", "two"], "\ntwo"),
        ] {
            let mut continuing = begun("one\n\n");
            continuing.goes_on("b");
            let said = pieces.iter().map(|piece| continuing.hears(Event::TextDelta((*piece).into())));
            let said: String =
                said.map(|event| if let Event::TextDelta(text) = event { text } else { panic!() }).collect();
            assert_eq!((said.as_str(), continuing.text), (more, format!("one\n\n{more}")), "{pieces:?}");
        }
    }

    #[test]
    fn what_nobody_can_go_on_from_is_not_kept() {
        let mut continuing = begun("");
        for _ in 0..64 {
            continuing.hears(Event::TextDelta("x".repeat(TEXT_MAX / 16)));
        }
        assert!(!continuing.is_plain && continuing.text.len() <= TEXT_MAX, "{}", continuing.text.len());
    }
}
