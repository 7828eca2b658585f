//! The answer on its way to the caller: keeps the protocol's promise (`Started` first and once, one end, nothing
//! after it) whatever the backend does, and carries the guards that count the request.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{FutureExt, Stream};
use tokio::time::Instant;
use weir_protocol::{EngineError, Event};

use super::ending::{Ended, stopping};
use super::open::{Opened, cut};
use super::standing::Ticket;
use crate::backends::EventStream;
use crate::metrics::{AttemptGuard, Flight};

/// What counts the request and its attempt.
pub(super) struct Guards {
    pub(super) flight: Flight,
    pub(super) counted: AttemptGuard,
    pub(super) ticket: Ticket,
}

pub(super) struct Answering {
    head: VecDeque<Event>,
    /// `None` once the end was seen: the backend is let go at once, not when the caller gets round to it.
    rest: Option<(EventStream, AttemptGuard, Ticket)>,
    /// `None` once counted.
    flight: Option<Flight>,
    drafts: bool,
    ended: Ended,
}

impl Answering {
    /// `named` is the model shown if the backend does not say which one answers.
    pub(super) fn new(
        opened: Opened,
        named: String,
        drafts: bool,
        Guards { flight, counted, ticket }: Guards,
        ended: Ended,
    ) -> Self {
        let Opened { head, rest, .. } = opened;
        let mut started = Event::Started { model: named };
        let mut queue = VecDeque::with_capacity(head.len() + 1);
        for event in head {
            match event {
                Event::Started { .. } => started = event,
                other => queue.push_back(other),
            }
        }
        queue.push_front(started);
        Answering { head: queue, rest: Some((rest, counted, ticket)), flight: Some(flight), drafts, ended }
    }

    fn give(&mut self, event: Event) -> Poll<Option<Result<Event, EngineError>>> {
        if let Some(flight) = &mut self.flight {
            flight.saw(&event);
        }
        if matches!(event, Event::Finished { .. }) {
            if let Some((_, _, ticket)) = &mut self.rest {
                ticket.finished(Instant::now());
            }
            self.end();
        }
        Poll::Ready(Some(Ok(event)))
    }

    fn fail(&mut self, error: EngineError) -> Poll<Option<Result<Event, EngineError>>> {
        if let Some(flight) = &mut self.flight {
            flight.failed(&error);
        }
        self.end();
        Poll::Ready(Some(Err(error)))
    }

    fn end(&mut self) {
        self.head.clear();
        self.rest = None;
        self.flight = None;
    }
}

impl Stream for Answering {
    type Item = Result<Event, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(event) = this.head.pop_front() {
            return this.give(event);
        }
        loop {
            let Some((rest, _, ticket)) = &mut this.rest else { return Poll::Ready(None) };
            // Not polled again once it is ready: `fail` lets `rest` go.
            if this.ended.poll_unpin(cx).is_ready() {
                return this.fail(stopping());
            }
            match rest.as_mut().poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(Event::Started { .. }))) => {}
                Poll::Ready(Some(Ok(Event::Draft { .. }))) if !this.drafts => {}
                Poll::Ready(Some(Ok(event))) => return this.give(event),
                Poll::Ready(Some(Err(error))) => {
                    ticket.failed(&error, Instant::now());
                    return this.fail(error);
                }
                Poll::Ready(None) => {
                    ticket.failed(&cut(), Instant::now());
                    return this.fail(cut());
                }
            }
        }
    }
}
