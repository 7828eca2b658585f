//! The answer on its way to the caller: keeps the protocol's promise (`Started` first and once, one end, nothing
//! after it) whatever the backend does, and carries the guards that count the request. Where another backend may go on
//! with a cut answer, it is asked from here.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{FutureExt, Stream};
use tokio::time::Instant;
use weir_protocol::{EngineError, Event, Verbatim};

use super::continuing::{Continuing, Opening};
use super::ending::{Ended, stopping};
use super::open::{Opened, Racer, cut};
use super::standing::Ticket;
use crate::backends::EventStream;
use crate::metrics::{AttemptGuard, Flight};

/// A backend that is not done yet, and what counts the attempt.
pub(super) type UnderWay = (EventStream, AttemptGuard, Ticket);

pub(super) struct Answering {
    head: VecDeque<Event>,
    /// `None` once the end was seen: the backend is let go at once, not when the caller gets round to it.
    rest: Option<UnderWay>,
    /// `None` once counted.
    flight: Option<Flight>,
    drafts: bool,
    ended: Ended,
    /// `None`: a cut answer is an error.
    continuing: Option<Continuing>,
    /// Who is asked to go on, and why.
    opening: Option<(Opening, EngineError)>,
}

type Given = Poll<Option<Result<Event, EngineError>>>;

impl Answering {
    /// `named` is the model shown if the backend does not say which one answers. Without a `rest`, the end is in the `head`.
    pub(super) fn new(
        (head, rest): (Vec<Event>, Option<UnderWay>),
        named: String,
        drafts: bool,
        flight: Flight,
        ended: Ended,
        continuing: Option<Continuing>,
    ) -> Self {
        let mut started = Event::Started { model: named };
        let mut queue = VecDeque::with_capacity(head.len() + 1);
        for event in head {
            match event {
                Event::Started { .. } => started = event,
                other => queue.push_back(other),
            }
        }
        queue.push_front(started);
        Answering { head: queue, rest, flight: Some(flight), drafts, ended, continuing, opening: None }
    }

    fn give(&mut self, event: Event) -> Given {
        let event = match &mut self.continuing {
            Some(continuing) => continuing.hears(event),
            None => event,
        };
        if let Some(flight) = &mut self.flight {
            flight.saw(&event);
        }
        if let Some((_, _, ticket)) = &mut self.rest {
            ticket.saw(&event);
        }
        if matches!(event, Event::Finished { .. }) {
            if let Some((_, _, ticket)) = &mut self.rest {
                ticket.finished(Instant::now());
            }
            self.end();
        }
        Poll::Ready(Some(Ok(event)))
    }

    fn fail(&mut self, error: EngineError) -> Given {
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
        self.opening = None;
    }

    /// The backend broke off: `Some` error, unless another is asked to go on.
    fn broke(&mut self, error: EngineError) -> Option<EngineError> {
        let opening = match (&mut self.continuing, &mut self.flight) {
            (Some(continuing), Some(flight)) => continuing.start(&error, flight),
            _ => None,
        };
        let Some(opening) = opening else { return Some(error) };
        if let Some((_, counted, _)) = &mut self.rest {
            counted.failed(&error);
        }
        self.rest = None;
        self.opening = Some((opening, error));
        None
    }

    /// Somebody goes on, or cannot.
    fn opened(&mut self, racer: Racer, result: Result<Opened, EngineError>, cause: EngineError) -> Option<EngineError> {
        let Racer { step, mut counted, ticket, .. } = racer;
        let (Some(continuing), Some(flight)) = (&mut self.continuing, &mut self.flight) else { return Some(cause) };
        match result {
            Ok(Opened { head, rest, .. }) => {
                let from = continuing.goes_on(&step.backend);
                flight.answered_by(counted.answers(), None);
                flight.continued(&from, &step.backend, &cause);
                let own = |event: &Event| !matches!(event, Event::Started { .. } | Event::Verbatim(_));
                self.head.push_back(Event::Verbatim(Verbatim::Over));
                self.head.push_back(Event::Continued { backend: step.backend.clone() });
                self.head.extend(head.into_iter().filter(own));
                self.rest = Some((rest, counted, ticket));
                None
            }
            Err(error) => {
                counted.failed(&error);
                self.broke(cause)
            }
        }
    }
}

impl Stream for Answering {
    type Item = Result<Event, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.head.pop_front() {
                return this.give(event);
            }
            let broken = if let Some((mut opening, cause)) = this.opening.take() {
                match opening.poll_unpin(cx) {
                    Poll::Pending if this.ended.poll_unpin(cx).is_ready() => return this.fail(stopping()),
                    Poll::Pending => {
                        this.opening = Some((opening, cause));
                        return Poll::Pending;
                    }
                    Poll::Ready((racer, result)) => this.opened(racer, result, cause),
                }
            } else {
                let Some((rest, _, ticket)) = &mut this.rest else { return Poll::Ready(None) };
                match rest.as_mut().poll_next(cx) {
                    // Not polled again once it is ready: `fail` lets `rest` go.
                    Poll::Pending if this.ended.poll_unpin(cx).is_ready() => return this.fail(stopping()),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(Event::Started { .. }))) => None,
                    Poll::Ready(Some(Ok(Event::Draft { .. }))) if !this.drafts => None,
                    Poll::Ready(Some(Ok(event))) => return this.give(event),
                    Poll::Ready(Some(Err(error))) => {
                        ticket.failed(&error, Instant::now());
                        this.broke(error)
                    }
                    Poll::Ready(None) => {
                        ticket.failed(&cut(), Instant::now());
                        this.broke(cut())
                    }
                }
            };
            if let Some(error) = broken {
                return this.fail(error);
            }
        }
    }
}
