//! What happens, one event after the other: a request arrives and is planned; its attempts are placed, wait, run, fail,
//! are given up when the plan's time is over, and are followed by the next. Events of the same moment happen in the
//! order in which they were made.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::draw::Draw;
use super::events::{Moments, Order, What};
use super::fleet::{Place, Service, Work};
use super::report::{Report, Times};
use super::scenario::{Kind, Scenario};
use crate::classify::{Classifier, Family, Judged};
use crate::facts::BackendFacts;
use crate::features::Features;
use crate::latency::{Ask, LatencyModel, LatencySettings, Priors, Seen};
use crate::policy::Policy;
use crate::question::{Moment, Question};
use crate::unwrap;
use weir_protocol::{ChatRequest, Message, Role};

/// One attempt of a plan: the backend's place in the scenario, and its time for the first content.
type Step = (usize, Option<f64>);

/// A request under way.
struct Under {
    kind: usize,
    arrived: f64,
    work: Work,
    plan: Rc<[Step]>,
    /// Which attempt of the plan is made.
    attempt: u32,
    /// No other attempt of any request has the same.
    ticket: u64,
    began: f64,
    started: Option<(usize, f64, Service)>,
    server: usize,
    load: u32,
}

/// A kind of request, with what was decided about it.
pub(super) struct Known<'a> {
    pub(super) says: &'a Kind,
    pub(super) features: Features,
    pub(super) judged: Judged,
    pub(super) plan: Rc<[Step]>,
    pub(super) planned_at: f64,
    pub(super) rule: String,
    pub(super) answered: u64,
    pub(super) unanswered: u64,
    pub(super) fallbacks: u64,
    pub(super) ttft: Times,
    pub(super) total: Times,
}

pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) policy: &'a Policy,
    pub(super) facts: Vec<BackendFacts>,
    pub(super) places: Vec<Place<'a>>,
    pub(super) kinds: Vec<Known<'a>>,
    pub(super) latency: LatencyModel,
    pub(super) draw: Draw,
    pub(super) events: Moments,
    pub(super) made: u64,
    pub(super) now: f64,
    pub(super) last_end: f64,
    under: Vec<Option<Under>>,
    pub(super) free: Vec<u32>,
    pub(super) arrived: u64,
    pub(super) shares: f64,
    pub(super) ttft: Times,
    pub(super) total: Times,
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario, policy: &'a Policy) -> Self {
        let priors = Priors::embedded();
        let kinds = scenario.mix.iter().map(|says| {
            let turn = Message::text(Role::User, says.ask.clone());
            let request = ChatRequest { messages: vec![turn], ..ChatRequest::default() };
            let asked = unwrap::asked(&request);
            let features = Features::of_asked(&request, &asked);
            let judged = Classifier::embedded().classify(&asked, &features);
            let said = says.family.as_deref().and_then(Family::named);
            Known {
                says,
                features,
                judged: said.map_or(judged, Judged::named),
                plan: Rc::new([]),
                planned_at: f64::NEG_INFINITY,
                rule: String::new(),
                answered: 0,
                unanswered: 0,
                fallbacks: 0,
                ttft: Times::new(),
                total: Times::new(),
            }
        });
        World {
            facts: scenario.backend.iter().map(super::Fleet::facts).collect(),
            places: scenario.backend.iter().map(|fleet| Place::new(fleet, &scenario.backend, &priors)).collect(),
            kinds: kinds.collect(),
            latency: LatencyModel::new(priors, LatencySettings::default()),
            draw: Draw::new(scenario.seed),
            events: BinaryHeap::new(),
            made: 0,
            now: 0.0,
            last_end: 0.0,
            under: Vec::new(),
            free: Vec::new(),
            arrived: 0,
            shares: scenario.mix.iter().map(|kind| kind.share).sum(),
            ttft: Times::new(),
            total: Times::new(),
            scenario,
            policy,
        }
    }

    pub(super) fn run(mut self) -> Report {
        self.at(0.0, What::Arrives);
        while let Some(Reverse((nanos, _, Order(what)))) = self.events.pop() {
            self.now = nanos as f64 / 1e9;
            match what {
                What::Arrives => self.arrives(),
                What::Ends { request, ticket, well } => self.ends(request, ticket, well),
                What::TimeIsOver { request, ticket } => self.time_is_over(request, ticket),
            }
        }
        self.report()
    }

    fn at(&mut self, seconds: f64, what: What) {
        self.made += 1;
        self.events.push(Reverse(((seconds * 1e9) as u64, self.made, Order(what))));
    }

    fn arrives(&mut self) {
        self.arrived += 1;
        if self.arrived < self.scenario.requests {
            let wait = self.draw.wait(self.rate());
            self.at(self.now + wait, What::Arrives);
        }
        let kind = self.draw_kind();
        let says = self.kinds[kind].says;
        let prompt_tokens = self.draw.around(says.prompt_tokens.median, says.prompt_tokens.spread).max(1.0);
        let output_tokens = self.draw.around(says.output_tokens.median, says.output_tokens.spread).max(1.0);
        let family = self.kinds[kind].judged.family;
        let work = Work { family, prompt_tokens, cached: says.cached, output_tokens };
        let plan = self.plan(kind);
        let under = Under {
            kind,
            arrived: self.now,
            work,
            plan,
            attempt: 0,
            ticket: 0,
            began: self.now,
            started: None,
            server: 0,
            load: 0,
        };
        let request = match self.free.pop() {
            Some(request) => {
                self.under[request as usize] = Some(under);
                request
            }
            None => {
                self.under.push(Some(under));
                self.under.len() as u32 - 1
            }
        };
        self.attempt(request, 0);
    }

    fn rate(&self) -> f64 {
        let arrivals = self.scenario.arrivals;
        let in_burst = arrivals.burst_every_s > 0.0 && self.now % arrivals.burst_every_s < arrivals.burst_s;
        arrivals.per_s * if in_burst { arrivals.burst_factor } else { 1.0 }
    }

    fn draw_kind(&mut self) -> usize {
        let mut place = self.draw.share() * self.shares;
        let kinds = self.scenario.mix.iter().position(|kind| {
            place -= kind.share;
            place <= 0.0
        });
        kinds.unwrap_or(self.scenario.mix.len() - 1)
    }

    /// The plan for a kind of request: decided anew when the last decision is old.
    fn plan(&mut self, kind: usize) -> Rc<[Step]> {
        let known = &self.kinds[kind];
        if self.now - known.planned_at < self.scenario.replan_s {
            return Rc::clone(&known.plan);
        }
        let says = known.says;
        let mut features = known.features.clone();
        features.prompt_tokens_estimate = says.prompt_tokens.median as u64;
        features.prompt_bytes = features.prompt_tokens_estimate.saturating_mul(4);
        let ask = self.ask(kind, says.prompt_tokens.median, 0);
        let in_flight: Vec<(&str, u32)> =
            self.places.iter().map(|place| (place.says.name.as_str(), self.load_of(place))).collect();
        let load = |name: &str| in_flight.iter().find(|(known, _)| *known == name).map_or(0, |(_, load)| *load);
        let predicted = self.latency.predictions(&self.facts, &ask, load, self.now);
        let conversation = self.draw.next();
        let known = &self.kinds[kind];
        let plan = self.policy.decide(&Question {
            family: Some(known.judged.into()),
            predicted: &predicted,
            now: Moment::of_unix(self.now as u64),
            conversation,
            ..Question::about(features, &self.facts)
        });
        let step = |attempt: &crate::plan::PlannedAttempt| {
            let place = self.facts.iter().position(|facts| facts.name == attempt.backend)?;
            Some((place, attempt.first_content_ms.map(|ms| ms as f64 / 1000.0)))
        };
        let steps: Rc<[Step]> = plan.attempts.iter().filter_map(step).collect();
        let known = &mut self.kinds[kind];
        known.plan = Rc::clone(&steps);
        known.planned_at = self.now;
        known.rule = plan.rule;
        steps
    }

    /// Others under way on a server of the backend, on average: what one more request meets.
    fn load_of(&self, place: &Place<'_>) -> u32 {
        place.in_flight() / place.servers.len().max(1) as u32
    }

    fn ask(&self, kind: usize, prompt_tokens: f64, in_flight: u32) -> Ask {
        let known = &self.kinds[kind];
        Ask {
            family: known.judged.family,
            prompt_tokens: prompt_tokens as u64,
            output_tokens: known.says.output_tokens.median as u64,
            max_tokens: 0,
            continues: known.says.cached > 0.0,
            in_flight,
        }
    }

    /// Makes attempt `number` of a request, or the first after it that can be placed.
    fn attempt(&mut self, request: u32, number: u32) {
        let mut number = number;
        loop {
            let Some(under) = self.under[request as usize].as_mut() else { return };
            let Some((place_at, budget)) = under.plan.get(number as usize).copied() else {
                let under = self.let_go(request);
                self.kinds[under.kind].unanswered += 1;
                return;
            };
            if number > 0 {
                self.kinds[under.kind].fallbacks += 1;
            }
            self.made += 1;
            let ticket = self.made;
            under.attempt = number;
            under.ticket = ticket;
            under.began = self.now;
            under.started = None;
            let place = &mut self.places[place_at];
            if place.is_out(self.now) {
                place.failed += 1;
                self.latency.failed(&place.says.name, self.now);
                number += 1;
                continue;
            }
            let server_at = place.choose(&mut self.draw);
            let server = &mut place.servers[server_at];
            under.server = server_at;
            under.load = server.running + server.waiting.len() as u32;
            if server.running < place.says.concurrency {
                self.start(request, place_at, server_at);
            } else if server.waiting.len() < place.says.queue as usize {
                server.waiting.push_back((request, ticket));
            } else {
                place.shed += 1;
                number += 1;
                continue;
            }
            if let Some(budget) = budget {
                self.at(self.now + budget, What::TimeIsOver { request, ticket });
            }
            return;
        }
    }

    fn start(&mut self, request: u32, place_at: usize, server_at: usize) {
        let Some(under) = self.under[request as usize].as_mut() else { return };
        let elsewhere = |(at, share): &(usize, f64)| self.places[*at].running() * share;
        let beside: f64 = self.places[place_at].beside.iter().map(elsewhere).sum();
        let place = &mut self.places[place_at];
        let server = &mut place.servers[server_at];
        let slowed = place.says.slowdown * f64::from(server.running) + beside;
        server.running += 1;
        place.waited.seen((self.now - under.began) * 1000.0);
        let service = place.service(&under.work, slowed, &mut self.draw);
        under.started = Some((place_at, self.now, service));
        let ticket = under.ticket;
        let fails = place.says.failures > 0.0 && self.draw.share() < place.says.failures;
        let takes = if fails { service.ttft_s * self.draw.share() } else { service.total_s };
        self.at(self.now + takes, What::Ends { request, ticket, well: !fails });
    }

    /// Gives the place of a request that runs to the next that waits.
    fn leave(&mut self, place_at: usize, server_at: usize, started: f64) {
        let place = &mut self.places[place_at];
        place.busy_s += self.now - started;
        place.servers[server_at].running -= 1;
        while let Some((waiting, ticket)) = self.places[place_at].servers[server_at].waiting.pop_front() {
            // Who gave up waiting is still in the queue, with an old ticket.
            if self.under[waiting as usize].as_ref().is_some_and(|under| under.ticket == ticket) {
                self.start(waiting, place_at, server_at);
                return;
            }
        }
    }

    fn ends(&mut self, request: u32, ticket: u64, well: bool) {
        let Some(under) = self.under[request as usize].as_ref().filter(|under| under.ticket == ticket) else { return };
        let Some((place_at, started, service)) = under.started else { return };
        let (server_at, attempt) = (under.server, under.attempt);
        self.leave(place_at, server_at, started);
        if !well {
            self.places[place_at].failed += 1;
            self.latency.failed(&self.places[place_at].says.name, self.now);
            self.attempt(request, attempt + 1);
            return;
        }
        let under = self.let_go(request);
        let (ttft, total) = (started + service.ttft_s - under.arrived, self.now - under.arrived);
        self.ttft.seen(ttft * 1000.0);
        self.total.seen(total * 1000.0);
        self.last_end = self.now;
        let known = &mut self.kinds[under.kind];
        known.answered += 1;
        known.ttft.seen(ttft * 1000.0);
        known.total.seen(total * 1000.0);
        self.places[place_at].answered += 1;
        self.learn(&under, place_at, started + service.ttft_s, &service);
    }

    fn learn(&mut self, under: &Under, place_at: usize, first_content: f64, service: &Service) {
        let place = &self.places[place_at];
        let prompt = under.work.prompt_tokens;
        let cached = if place.says.caches_prefixes { under.work.cached } else { 0.0 };
        let seen = Seen {
            ask: self.ask(under.kind, prompt, under.load),
            ttft_s: first_content - under.began,
            total_s: self.now - under.began,
            prompt_tokens: prompt as u64,
            cached_tokens: (prompt * cached) as u64,
            completion_tokens: under.work.output_tokens.max(1.0) as u64,
            steps: (place.role == crate::BackendRole::Diffusion).then_some(service.steps.ceil() as u32),
        };
        self.latency.seen(&place.says.name, place.role, &seen, self.now);
    }

    fn time_is_over(&mut self, request: u32, ticket: u64) {
        let Some(under) = self.under[request as usize].as_ref().filter(|under| under.ticket == ticket) else { return };
        let (server_at, started, attempt) = (under.server, under.started, under.attempt);
        let Some((place_at, _)) = under.plan.get(attempt as usize).copied() else { return };
        if let Some((_, at, service)) = started {
            if at + service.ttft_s <= self.now {
                return;
            }
            self.leave(place_at, server_at, at);
        }
        self.places[place_at].over_budget += 1;
        self.attempt(request, attempt + 1);
    }

    fn let_go(&mut self, request: u32) -> Under {
        self.free.push(request);
        let under = self.under[request as usize].take();
        under.expect("only requests under way are let go: each caller has just looked at it")
    }
}
