//! Looks at an answer as it passes, for comparisons between policies: how soon, how long, whether it ended and kept its
//! form. Must never change an event, and keeps no text beyond the answer's end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::time::Instant;
use weir_protocol::{ChatRequest, EngineError, Event};
use weir_router_policies::canary::Outcome;

use super::form::Form;
use crate::backends::EventStream;

/// What was seen of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) ttft_ms: Option<f64>,
    pub(super) total_ms: f64,
    /// Bytes of text and of tool calls' arguments.
    pub(super) bytes: u64,
    /// Tokens in and out, as its backend counted them.
    pub(super) tokens: Option<(u64, u64)>,
    /// `None` where no form was demanded, or none could be checked.
    pub(super) broke_form: Option<bool>,
    pub(super) end: End,
}

/// How it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum End {
    /// The caller left.
    #[default]
    Cancelled,
    Finished,
    /// By an error that is not the caller's own.
    Failed,
    /// By one that is.
    Refused,
}

impl Seen {
    /// What a canary is told; `None` where it says nothing about a policy.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let failed = match self.end {
            End::Finished => false,
            End::Failed => true,
            End::Cancelled | End::Refused => return None,
        };
        Some(Outcome { failed, broke_form: self.broke_form, ttft_ms: self.ttft_ms })
    }
}

type OnEnd = Box<dyn FnOnce(Seen) + Send>;

/// Watches one request; when it is dropped, what was seen is told.
pub(super) struct Watch {
    started: Instant,
    seen: Seen,
    /// What was said so far, where a form is demanded.
    form: Option<Form>,
    on_end: Option<OnEnd>,
}

impl Watch {
    pub(super) fn new(request: &Arc<ChatRequest>, on_end: OnEnd) -> Self {
        Watch { started: Instant::now(), seen: Seen::default(), form: Form::of(request), on_end: Some(on_end) }
    }

    /// No answer came.
    pub(super) fn refused(mut self, error: &EngineError) {
        self.failed(error);
    }

    /// `events`, watched.
    pub(super) fn over(self, events: EventStream) -> EventStream {
        Box::pin(Watched { events, watch: self })
    }

    fn failed(&mut self, error: &EngineError) {
        // What another attempt may mend is not the caller's doing.
        self.seen.end = if error.may_try_another() { End::Failed } else { End::Refused };
    }

    fn saw(&mut self, event: &Event) {
        if event.is_content() && self.seen.ttft_ms.is_none() {
            self.seen.ttft_ms = Some(self.started.elapsed().as_secs_f64() * 1000.0);
        }
        if let Some(form) = &mut self.form {
            form.saw(event);
        }
        match event {
            Event::TextDelta(text) | Event::RefusalDelta(text) => self.seen.bytes += text.len() as u64,
            Event::ToolCallDelta { arguments, .. } => self.seen.bytes += arguments.len() as u64,
            Event::Usage(usage) => self.seen.tokens = Some((usage.prompt_tokens, usage.completion_tokens)),
            Event::Finished { .. } => self.seen.end = End::Finished,
            _ => {}
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.seen.total_ms = self.started.elapsed().as_secs_f64() * 1000.0;
        // Here and not at the last event: nobody waits for it.
        if self.seen.end == End::Finished {
            self.seen.broke_form = self.form.as_ref().and_then(Form::is_broken);
        }
        if let Some(on_end) = self.on_end.take() {
            on_end(self.seen);
        }
    }
}

struct Watched {
    events: EventStream,
    watch: Watch,
}

impl Stream for Watched {
    type Item = Result<Event, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = this.events.as_mut().poll_next(cx);
        match &polled {
            Poll::Ready(Some(Ok(event))) => this.watch.saw(event),
            Poll::Ready(Some(Err(error))) => this.watch.failed(error),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use futures::{StreamExt, stream};
    use weir_protocol::{FinishReason, ResponseFormat};

    async fn seen(format: ResponseFormat, events: Vec<Result<Event, EngineError>>, read: usize) -> Seen {
        let out = Arc::new(Mutex::new(None));
        let told = Arc::clone(&out);
        let request = ChatRequest { response_format: format, ..ChatRequest::default() };
        let watch = Watch::new(&Arc::new(request), Box::new(move |seen| *told.lock().unwrap() = Some(seen)));
        let watched: Vec<_> = watch.over(Box::pin(stream::iter(events))).take(read).collect().await;
        drop(watched);
        out.lock().unwrap().expect("told at the end")
    }

    fn text(text: &str) -> Result<Event, EngineError> {
        Ok(Event::TextDelta(text.into()))
    }

    fn end() -> Result<Event, EngineError> {
        Ok(Event::Finished { reason: FinishReason::Stop })
    }

    #[tokio::test]
    async fn ends_and_forms_are_seen() {
        let whole = seen(ResponseFormat::JsonObject, vec![text("{\"a\":"), text("1}"), end()], 9).await;
        assert_eq!((whole.end, whole.broke_form, whole.bytes), (End::Finished, Some(false), 7));
        assert!(whole.ttft_ms.is_some() && whole.outcome().is_some_and(|outcome| !outcome.failed));
        let broken = seen(ResponseFormat::JsonObject, vec![text("{\"a\":"), end()], 9).await;
        assert_eq!(broken.broke_form, Some(true));
        let free = seen(ResponseFormat::Text, vec![text("hi"), end()], 9).await;
        assert_eq!(free.broke_form, None);
        let left = seen(ResponseFormat::Text, vec![text("hi"), end()], 1).await;
        assert_eq!((left.end, left.outcome()), (End::Cancelled, None));
        let cut = EngineError::StreamCut { message: String::new() };
        assert_eq!(seen(ResponseFormat::Text, vec![text("hi"), Err(cut)], 9).await.end, End::Failed);
        let own = EngineError::invalid("messages", "no");
        assert_eq!(seen(ResponseFormat::Text, vec![Err(own)], 9).await.end, End::Refused);
    }
}
