//! What happens, one event after the other: a request arrives and is planned; its attempts are placed, wait, run, fail,
//! are given up when the plan's time is over, and are followed by the next. Events of the same moment happen in the
//! order in which they were made.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::asked::{Asked, Coming};
use super::draw::Draw;
use super::events::{Moments, Order, What};
use super::fleet::{Place, Service, Work};
use super::machine::{Machine, Mark, Reached};
use super::report::{Report, Times};
use super::servers::{Fleet, Processor};
use crate::classify::Family;
use crate::facts::BackendFacts;
use crate::latency::{Ask, LatencyModel, LatencySettings, Priors, Seen};
use crate::policy::Policy;

/// One attempt of a plan: the backend's place among all, and its time for the first content.
pub(super) type Step = (usize, Option<f64>);

/// Everything a world is made from.
pub(super) struct Given<'a> {
    pub(super) seed: u64,
    pub(super) requests: u64,
    pub(super) replan_s: f64,
    /// When it begins, for conditions on hours and days.
    pub(super) begins_unix: f64,
    pub(super) coming: Coming,
    pub(super) kinds: Vec<String>,
    pub(super) asked: &'a [Asked],
    pub(super) processors: &'a [Processor],
    pub(super) fleet: &'a [Fleet],
    pub(super) facts: Vec<BackendFacts>,
}

/// A request under way.
struct Under {
    asked: usize,
    arrived: f64,
    work: Work,
    plan: Rc<[Step]>,
    /// Which attempt of the plan is made.
    attempt: u32,
    /// No other attempt of any request has the same.
    ticket: u64,
    began: f64,
    started: Option<(usize, f64, Service)>,
    first_content: Option<f64>,
    server: usize,
    load: u32,
}

/// A row of the report.
pub(super) struct Known {
    pub(super) name: String,
    pub(super) family: Family,
    pub(super) rule: String,
    pub(super) answered: u64,
    pub(super) unanswered: u64,
    pub(super) fallbacks: u64,
    pub(super) ttft: Times,
    pub(super) total: Times,
}

/// What was decided about a request, and when.
#[derive(Clone)]
pub(super) struct Decided {
    pub(super) plan: Rc<[Step]>,
    pub(super) at: f64,
}

pub(super) struct World<'a> {
    pub(super) given: Given<'a>,
    pub(super) policy: &'a Policy,
    pub(super) places: Vec<Place<'a>>,
    pub(super) machines: Vec<Machine>,
    pub(super) kinds: Vec<Known>,
    pub(super) latency: LatencyModel,
    pub(super) now: f64,
    pub(super) last_end: f64,
    pub(super) arrived: u64,
    pub(super) ttft: Times,
    pub(super) total: Times,
    pub(super) decided: Vec<Decided>,
    pub(super) draw: Draw,
    events: Moments,
    made: u64,
    under: Vec<Option<Under>>,
    free: Vec<u32>,
    /// Machines on which something changed in this moment.
    touched: Vec<usize>,
}

impl<'a> World<'a> {
    pub(super) fn new(given: Given<'a>, policy: &'a Policy) -> Self {
        let priors = Priors::embedded();
        let mut machines: Vec<Machine> = Vec::new();
        let mut processors = Vec::new();
        for processor in given.processors {
            processors.push((processor, machines.len()));
            machines.extend((0..processor.machines).map(|_| Machine::new(processor.capacity)));
        }
        let place = |fleet| Place::new(fleet, &processors, &mut machines, &priors);
        let places: Vec<Place<'_>> = given.fleet.iter().map(place).collect();
        let kinds = given.kinds.iter().enumerate().map(|(kind, name)| Known {
            name: name.clone(),
            family: given.asked.iter().find(|asked| asked.kind == kind).map_or(Family::Unsure, |asked| asked.family),
            rule: String::new(),
            answered: 0,
            unanswered: 0,
            fallbacks: 0,
            ttft: Times::new(),
            total: Times::new(),
        });
        World {
            kinds: kinds.collect(),
            places,
            machines,
            latency: LatencyModel::new(priors, LatencySettings::default()),
            now: 0.0,
            last_end: 0.0,
            arrived: 0,
            ttft: Times::new(),
            total: Times::new(),
            decided: vec![Decided { plan: Rc::new([]), at: f64::NEG_INFINITY }; given.asked.len()],
            draw: Draw::new(given.seed),
            events: BinaryHeap::new(),
            made: 0,
            under: Vec::new(),
            free: Vec::new(),
            touched: Vec::new(),
            given,
            policy,
        }
    }

    pub(super) fn run(mut self) -> Report {
        self.at(0.0, What::Arrives);
        while let Some(Reverse((nanos, _, Order(what)))) = self.events.pop() {
            self.now = nanos as f64 / 1e9;
            match what {
                What::Arrives => self.arrives(),
                What::Reaches { machine, generation } => {
                    if let Some(mark) = self.machines[machine].reached(generation, self.now) {
                        self.touched.push(machine);
                        self.reaches(mark);
                    }
                }
                What::TimeIsOver { request, ticket } => self.time_is_over(request, ticket),
            }
            while let Some(machine) = self.touched.pop() {
                self.touched.retain(|other| *other != machine);
                let under = &self.under;
                let alive = |mark: &Mark| {
                    under[mark.request as usize].as_ref().is_some_and(|under| under.ticket == mark.ticket)
                };
                if let Some((at, generation)) = self.machines[machine].next(alive, self.now) {
                    self.at(at, What::Reaches { machine, generation });
                }
            }
        }
        self.report()
    }

    fn at(&mut self, seconds: f64, what: What) {
        self.made += 1;
        self.events.push(Reverse(((seconds * 1e9) as u64, self.made, Order(what))));
    }

    fn arrives(&mut self) {
        let asked_at = self.draw_asked();
        self.arrived += 1;
        if self.arrived < self.given.requests {
            let next = self.next_arrival();
            self.at(next, What::Arrives);
        }
        let says = &self.given.asked[asked_at];
        let prompt_tokens = self.draw.around(says.prompt_tokens.median, says.prompt_tokens.spread).max(1.0);
        let output_tokens = self.draw.around(says.output_tokens.median, says.output_tokens.spread).max(1.0);
        let work = Work { family: says.family, prompt_tokens, cached: says.cached, output_tokens };
        let plan = self.plan(asked_at);
        let under = Under {
            asked: asked_at,
            arrived: self.now,
            work,
            plan,
            attempt: 0,
            ticket: 0,
            began: self.now,
            started: None,
            first_content: None,
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

    /// Makes attempt `number` of a request, or the first after it that can be placed.
    fn attempt(&mut self, request: u32, number: u32) {
        let mut number = number;
        loop {
            let Some(under) = self.under[request as usize].as_mut() else { return };
            let kind = self.given.asked[under.asked].kind;
            let Some((place_at, budget)) = under.plan.get(number as usize).copied() else {
                self.let_go(request);
                self.kinds[kind].unanswered += 1;
                return;
            };
            if number > 0 {
                self.kinds[kind].fallbacks += 1;
            }
            self.made += 1;
            let ticket = self.made;
            under.attempt = number;
            under.ticket = ticket;
            under.began = self.now;
            under.started = None;
            under.first_content = None;
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
            place.most_at_once = place.most_at_once.max(under.load + 1);
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
        let place = &mut self.places[place_at];
        let server = &mut place.servers[server_at];
        server.running += 1;
        let seat = server.seat;
        place.waited.seen((self.now - under.began) * 1000.0);
        let own = self.given.asked[under.asked].own.as_ref().filter(|own| own.backend == place.says.name);
        let service = place.service(&under.work, own, &mut self.draw);
        under.started = Some((place_at, self.now, service));
        let (work, what) = match place.fails(under.work.family, &mut self.draw) {
            true => (service.ttft_s * self.draw.share(), Reached::Failure),
            false => (service.ttft_s, Reached::FirstContent),
        };
        let machine = &mut self.machines[seat.machine];
        machine.begins(seat, self.now);
        machine.due(seat, work, Mark { request, ticket: under.ticket, what }, self.now);
        self.touched.push(seat.machine);
    }

    /// Gives the place of a request that runs to the next that waits.
    fn leave(&mut self, place_at: usize, server_at: usize, started: f64) {
        let place = &mut self.places[place_at];
        place.busy_s += self.now - started;
        let server = &mut place.servers[server_at];
        server.running -= 1;
        self.machines[server.seat.machine].leaves(server.seat, self.now);
        self.touched.push(server.seat.machine);
        while let Some((waiting, ticket)) = self.places[place_at].servers[server_at].waiting.pop_front() {
            // Who gave up waiting is still in the queue, with an old ticket.
            if self.under[waiting as usize].as_ref().is_some_and(|under| under.ticket == ticket) {
                self.start(waiting, place_at, server_at);
                return;
            }
        }
    }

    fn reaches(&mut self, mark: Mark) {
        let under = self.under[mark.request as usize].as_mut().filter(|under| under.ticket == mark.ticket);
        let Some(under) = under else { return };
        let Some((place_at, started, service)) = under.started else { return };
        let (server_at, attempt) = (under.server, under.attempt);
        match mark.what {
            Reached::FirstContent => {
                under.first_content = Some(self.now);
                let seat = self.places[place_at].servers[server_at].seat;
                let end = Mark { what: Reached::End, ..mark };
                self.machines[seat.machine].due(seat, service.total_s - service.ttft_s, end, self.now);
            }
            Reached::Failure => {
                self.leave(place_at, server_at, started);
                self.places[place_at].failed += 1;
                self.latency.failed(&self.places[place_at].says.name, self.now);
                self.attempt(mark.request, attempt + 1);
            }
            Reached::End => {
                self.leave(place_at, server_at, started);
                self.ends(mark.request, place_at, &service);
            }
        }
    }

    fn ends(&mut self, request: u32, place_at: usize, service: &Service) {
        let under = self.let_go(request);
        let first_content = under.first_content.unwrap_or(self.now);
        let (ttft, total) = (first_content - under.arrived, self.now - under.arrived);
        self.ttft.seen(ttft * 1000.0);
        self.total.seen(total * 1000.0);
        let known = &mut self.kinds[self.given.asked[under.asked].kind];
        known.answered += 1;
        known.ttft.seen(ttft * 1000.0);
        known.total.seen(total * 1000.0);
        self.places[place_at].answered += 1;
        self.learn(&under, place_at, first_content, service);
    }

    fn learn(&mut self, under: &Under, place_at: usize, first_content: f64, service: &Service) {
        let place = &self.places[place_at];
        let prompt = under.work.prompt_tokens;
        let cached = if place.says.caches_prefixes { under.work.cached } else { 0.0 };
        let seen = Seen {
            ask: Ask { prompt_tokens: prompt as u64, in_flight: under.load, ..self.given.asked[under.asked].ask },
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
        if under.first_content.is_some() {
            return;
        }
        if let Some((_, at, _)) = started {
            self.leave(place_at, server_at, at);
        }
        self.places[place_at].over_budget += 1;
        self.attempt(request, attempt + 1);
    }

    fn let_go(&mut self, request: u32) -> Under {
        self.last_end = self.now;
        self.free.push(request);
        let under = self.under[request as usize].take();
        under.expect("only requests under way are let go: each caller has just looked at it")
    }
}
