//! Runs the attempts of a plan until one has something to show: one after another, a second beside the first where
//! hedging is on, again where a failure may pass and the backend's budget pays for it. Knows no names and no rules:
//! whether a failure may be followed by another attempt is the error's own word.

mod hedging;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use weir_protocol::{ChatRequest, EngineError, Event};

use super::answering::{Answering, UnderWay};
use super::continuing::Continuing;
use super::dice::Dice;
use super::ending::{self, Ended};
use super::exhausted::{Failure, most_useful};
use super::foresight::Lesson;
use super::open::{Opened, Racer, Step, race};
use super::standing::{Class, Purpose, Skip, Standing};
use super::{Answer, Refusal, RouteReport};
use crate::config::attempts::{AttemptSettings, OnCut, OnEmpty};
use crate::metrics::Flight;
use crate::record::attempts::{AttemptNote, Purpose as MadeFor, why};

/// What a search needs besides its steps.
pub(super) struct Given<'a> {
    pub(super) request: &'a Arc<ChatRequest>,
    pub(super) class: Class,
    /// What an attempt at a backend is to teach.
    pub(super) lesson: &'a (dyn Fn(&Standing) -> Option<Lesson> + Sync),
    pub(super) settings: &'a AttemptSettings,
    pub(super) dice: &'a Dice,
    pub(super) ended: Ended,
}

/// An attempt to be made.
struct Next {
    step: Arc<Step>,
    tried: u32,
    purpose: Purpose,
    /// Where it has to wait.
    not_before: Option<Instant>,
    /// Whether it was asked before, and its budget has to pay for it when it is asked again.
    owes: bool,
}

/// The search for an answer. `flight` counts the request however it ends.
pub(super) struct Search<'a> {
    given: Given<'a>,
    flight: Flight,
    report: RouteReport,
    queue: VecDeque<Next>,
    failures: Vec<Failure>,
    /// Failed in a way that may pass, with the end of the wait the backend asked for.
    again: Vec<(Arc<Step>, Instant)>,
    /// Passed over because their health checks fail.
    unwell: Vec<Arc<Step>>,
    round: u32,
    /// The failure that the next attempt makes up for.
    replaced: Option<(String, EngineError)>,
    attempts: u32,
    /// The first answer without a word, kept for the case that nobody has more to say.
    empty: Option<Empty>,
}

/// An answer without a word, to its end. Its backend is let go.
struct Empty {
    step: Arc<Step>,
    note: Arc<AttemptNote>,
    head: Vec<Event>,
    limits: Vec<(String, String)>,
}

impl Next {
    fn first(step: Arc<Step>) -> Self {
        let purpose = if step.first_content.is_some() { Purpose::First } else { Purpose::Patient };
        Next { step, tried: 0, purpose, not_before: None, owes: false }
    }
}

impl<'a> Search<'a> {
    pub(super) fn new(steps: Vec<Step>, report: RouteReport, flight: Flight, given: Given<'a>) -> Self {
        Search {
            given,
            flight,
            report,
            queue: steps.into_iter().map(|step| Next::first(Arc::new(step))).collect(),
            failures: Vec::new(),
            again: Vec::new(),
            unwell: Vec::new(),
            round: 0,
            replaced: None,
            attempts: 0,
            empty: None,
        }
    }

    /// Until the first content, or until nothing is left to try. Dropping the future cancels what is under way.
    pub(super) async fn run(mut self) -> Result<Answer, Refusal> {
        let mut racing = FuturesUnordered::new();
        // Who races, in order of start: the futures cannot be asked.
        let mut racers: Vec<Arc<Step>> = Vec::new();
        let mut hedge_at = None;
        loop {
            if racing.is_empty() {
                let Some(next) = self.next() else { break };
                if let Some(until) = next.not_before {
                    let _pause = self.flight.pause();
                    tokio::select! {
                        biased;
                        () = self.given.ended.clone() => return Err(self.stopped()),
                        () = tokio::time::sleep_until(until) => {}
                    }
                }
                let Some(racer) = self.start(next, false) else { continue };
                hedge_at = self.hedge_at(&racer.step);
                racers.push(Arc::clone(&racer.step));
                let given = racer.step.given(self.given.request);
                racing.push(race(racer, given));
            }
            tokio::select! {
                biased;
                () = self.given.ended.clone() => return Err(self.stopped()),
                Some((mut racer, result)) = racing.next() => {
                    racers.retain(|step| !Arc::ptr_eq(step, &racer.step));
                    if racer.is_hedge {
                        // Should it have failed, whom it was to help still needs one.
                        hedge_at = Some(Instant::now());
                    }
                    let beside = racers.first().map(|step| step.backend.as_str());
                    let error = match result {
                        Ok(opened) if opened.is_empty() && self.others_may_say_more(&racer, beside) => {
                            self.said_nothing(racer, opened, beside);
                            continue;
                        }
                        Ok(opened) => {
                            self.flight.chosen(&racer.counted);
                            racing.clear();
                            racers.drain(..).for_each(|step| self.overtaken(step, racer.is_hedge));
                            match self.ready(&mut racer, opened).await? {
                                Ok(opened) => return Ok(self.answer(racer, opened)),
                                Err(error) => error,
                            }
                        }
                        Err(error) => error,
                    };
                    let beside = racers.first().map(|step| step.backend.as_str());
                    if !self.failed(&mut racer, error, beside) {
                        break;
                    }
                }
                () = at(hedge_at), if hedge_at.is_some() => {
                    let leader = racers.first().map(|step| step.backend.as_str());
                    let hedge = self.hedge(leader);
                    hedge_at = if hedge.is_none() { self.hedge_again(leader) } else { None };
                    if let Some(racer) = hedge {
                        racers.push(Arc::clone(&racer.step));
                        let given = racer.step.given(self.given.request);
                        racing.push(race(racer, given));
                    }
                }
            }
        }
        drop(racing);
        if let Some(Empty { step, note, head, limits }) = self.empty.take() {
            self.flight.answered_by(note, None);
            return Ok(self.told_by(&step, limits, head, None));
        }
        let error = most_useful(self.failures, Instant::now());
        self.flight.failed(&error);
        Err(Refusal { report: Some(self.report), error })
    }

    /// Whether an empty answer is worth asking another backend for. Where the caller gave stop texts, one may have stood
    /// at the very beginning.
    fn others_may_say_more(&self, racer: &Racer, beside: Option<&str>) -> bool {
        let elsewhere = |next: &Next| next.step.backend != racer.step.backend;
        let sought = self.given.settings.on_empty == OnEmpty::Next && self.given.request.sampling.stop.is_empty();
        sought && (beside.is_some() || self.queue.iter().any(elsewhere))
    }

    /// The attempt counts as failed, but what it has is kept.
    fn said_nothing(&mut self, mut racer: Racer, opened: Opened, beside: Option<&str>) {
        racer.ticket.finished(Instant::now());
        self.failed(&mut racer, EngineError::EmptyAnswer, beside);
        let (Opened { head, limits, .. }, note) = (opened, racer.counted.answers());
        for event in &head {
            if let Event::Usage(usage) = event {
                let _ = note.usage.set(usage.clone());
            }
        }
        self.empty.get_or_insert(Empty { step: racer.step, note, head, limits });
    }

    /// The answer as far as it must be known before the caller gets any of it.
    async fn ready(&mut self, racer: &mut Racer, opened: Opened) -> Result<Result<Opened, EngineError>, Refusal> {
        if self.given.request.stream {
            return Ok(Ok(opened));
        }
        tokio::select! {
            biased;
            () = self.given.ended.clone() => Err(self.stopped()),
            whole = opened.read_to_end() => {
                Ok(whole.inspect_err(|error| racer.ticket.failed(error, Instant::now())))
            }
        }
    }

    /// The process ends: not the caller's doing, so it does not count as cancelled.
    fn stopped(&mut self) -> Refusal {
        let error = ending::stopping();
        self.flight.failed(&error);
        Refusal { report: Some(self.report.clone()), error }
    }

    /// What to try when nothing is under way.
    fn next(&mut self) -> Option<Next> {
        while let Some(next) = self.queue.pop_front() {
            if !next.owes {
                return Some(next);
            }
            if next.step.standing.spend() {
                return Some(Next { purpose: Purpose::Extra, ..next });
            }
        }
        let settings = self.given.settings;
        if self.attempts == 0 && !self.unwell.is_empty() {
            // Checks may be wrong, and nobody else is left: better asked than refused unasked.
            let despite = |step| Next { purpose: Purpose::DespiteHealth, ..Next::first(step) };
            self.queue.extend(self.unwell.drain(..).map(despite));
        } else if self.round < settings.retries {
            // Those after the first have waited as long by then.
            let paused = Instant::now() + self.jitter(self.round);
            self.round += 1;
            for (step, asked) in std::mem::take(&mut self.again) {
                if step.standing.spend() {
                    let not_before = Some(paused.max(asked));
                    let (tried, purpose) = (u32::MAX, Purpose::Extra);
                    self.queue.push_back(Next { tried, purpose, not_before, ..Next::first(step) });
                }
            }
        }
        self.queue.pop_front()
    }

    /// Full jitter (Brooker, "Exponential Backoff And Jitter", 2015): callers that failed together come back apart.
    fn jitter(&self, round: u32) -> Duration {
        let settings = self.given.settings;
        let most = settings.retry_base.saturating_mul(2_u32.saturating_pow(round)).min(settings.retry_max);
        most.mul_f64(self.given.dice.fraction())
    }

    fn start(&mut self, next: Next, is_hedge: bool) -> Option<Racer> {
        let Next { step, tried, purpose, .. } = next;
        match step.standing.admit(&self.given.class, purpose, Instant::now()) {
            Ok(mut ticket) => {
                ticket.teaches((self.given.lesson)(&step.standing));
                if let Some((from, error)) = self.replaced.take_if(|(from, _)| !is_hedge && *from != step.backend) {
                    self.flight.fell_back(&from, &step.backend, &error);
                }
                let made_for = match self.attempts {
                    _ if is_hedge => MadeFor::Hedge,
                    0 => MadeFor::First,
                    _ if self.flight.has_asked(&step.backend) => MadeFor::Retry,
                    _ => MadeFor::Fallback,
                };
                self.attempts += 1;
                let counted = self.flight.attempt(&step.backend, made_for);
                if !is_hedge {
                    self.report.names(&step);
                }
                Some(Racer { step, tried, is_hedge, counted, ticket })
            }
            Err(skip) => {
                self.skipped(step, skip);
                None
            }
        }
    }

    fn skipped(&mut self, step: Arc<Step>, skip: Skip) {
        self.flight.skipped(&step.backend, skip.as_str());
        self.report.failed.push((step.backend.clone(), skip.as_str()));
        let error = skip.error();
        match skip {
            Skip::Unhealthy => self.unwell.push(Arc::clone(&step)),
            Skip::BreakerOpen(_) | Skip::Drained => {}
            Skip::RateLimited(_) | Skip::Full(_) => self.may_come_back(Arc::clone(&step), &error),
        }
        self.note(&step.backend, error);
    }

    /// Takes note of a failure. `beside`: who still races. Says whether the search goes on.
    fn failed(&mut self, racer: &mut Racer, error: EngineError, beside: Option<&str>) -> bool {
        racer.counted.failed(&error);
        let (backend, kind, go_on) = (&racer.step.backend, error.kind(), error.may_try_another());
        let why = why(&error).unwrap_or_default();
        tracing::info!(%backend, error = kind, why, another = go_on, "attempt failed before its first content");
        if racer.is_hedge {
            self.flight.hedged(backend, "failed");
        }
        self.report.failed.push((backend.clone(), kind));
        self.note(backend, error.clone());
        if !go_on {
            return false;
        }
        let retry = racer.tried < racer.step.retries && self.wait_for(&error).is_some() && beside.is_none();
        if retry && racer.step.standing.spend() {
            let wait = self.jitter(racer.tried).max(self.wait_for(&error).unwrap_or_default());
            let step = Arc::clone(&racer.step);
            let not_before = Some(Instant::now() + wait);
            let (tried, purpose) = (racer.tried + 1, Purpose::Extra);
            self.queue.push_front(Next { tried, purpose, not_before, ..Next::first(step) });
            return true;
        }
        match beside {
            Some(beside) if !racer.is_hedge => self.flight.fell_back(backend, beside, &error),
            Some(_) => {}
            None => self.replaced = Some((backend.clone(), error.clone())),
        }
        self.may_come_back(Arc::clone(&racer.step), &error);
        true
    }

    fn note(&mut self, backend: &str, error: EngineError) {
        self.failures.push(Failure { backend: backend.to_owned(), error, at: Instant::now() });
    }

    fn may_come_back(&mut self, step: Arc<Step>, error: &EngineError) {
        if let Some(wait) = self.wait_for(error) {
            self.again.push((step, Instant::now() + wait));
        }
    }

    /// How long to wait before the same backend is asked again; `None`: it is not worth it.
    fn wait_for(&self, error: &EngineError) -> Option<Duration> {
        error.may_pass().filter(|wait| *wait <= self.given.settings.retry_max)
    }

    fn answer(mut self, racer: Racer, opened: Opened) -> Answer {
        let Racer { step, is_hedge, mut counted, ticket, .. } = racer;
        let Opened { head, limits, first_content, rest } = opened;
        if is_hedge {
            self.flight.hedged(&step.backend, "won");
        }
        self.flight.answered_by(counted.answers(), first_content);
        self.told_by(&step, limits, head, Some((rest, counted, ticket)))
    }

    fn told_by(
        mut self,
        step: &Step,
        limits: Vec<(String, String)>,
        head: Vec<Event>,
        rest: Option<UnderWay>,
    ) -> Answer {
        self.report.names(step);
        let named = step.model.clone().unwrap_or_else(|| step.backend.clone());
        let drafts = self.given.request.diffusion.drafts;
        let others = self.queue.into_iter().map(|next| (next.step, next.owes));
        let others = others.filter(|(other, _)| other.backend != step.backend).collect();
        let continuing = (self.given.settings.on_cut == OnCut::Continue)
            .then(|| Continuing::new(self.given.request, self.given.class, &step.backend, others));
        let (flight, ended) = (self.flight, self.given.ended);
        let events = Answering::new((head, rest), named, drafts, flight, ended, continuing.flatten());
        Answer { report: self.report, limits, events: Box::pin(events) }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
