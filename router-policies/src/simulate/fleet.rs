//! The servers of one backend: places, a queue each, and how much work a request is there. Knows nothing of plans.

use std::collections::VecDeque;

use super::asked::Own;
use super::draw::Draw;
use super::machine::{Machine, Seat};
use super::report::Times;
use super::servers::{ANY, Fleet, Processor};
use crate::classify::Family;
use crate::facts::BackendRole;
use crate::latency::Priors;

/// Tokens of a block, which a diffusion engine finishes before it shows anything.
pub(super) const BLOCK: f64 = 32.0;

/// A request as a server sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) family: Family,
    pub(super) prompt_tokens: f64,
    /// Of the prompt, what a cache would have.
    pub(super) cached: f64,
    pub(super) output_tokens: f64,
}

/// How long it would take, from its start on, if nothing else were there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    pub(super) ttft_s: f64,
    pub(super) total_s: f64,
    pub(super) steps: f64,
}

/// One server. What waits is named by request and ticket.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) running: u32,
    pub(super) waiting: VecDeque<(u32, u64)>,
    pub(super) seat: Seat,
}

/// A backend.
pub(super) struct Place<'a> {
    pub(super) says: &'a Fleet,
    pub(super) role: BackendRole,
    pub(super) servers: Vec<Server>,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) over_budget: u64,
    pub(super) shed: u64,
    pub(super) busy_s: f64,
    pub(super) most_at_once: u32,
    pub(super) waited: Times,
    /// By family.
    per_forward: Vec<f64>,
    failures: Vec<f64>,
    factors: Vec<&'a [f64]>,
}

impl<'a> Place<'a> {
    /// Its servers are seated on the machines of their processor, which begin at `processors`' number, or on machines of
    /// their own.
    pub(super) fn new(
        says: &'a Fleet,
        processors: &[(&Processor, usize)],
        machines: &mut Vec<Machine>,
        priors: &Priors,
    ) -> Self {
        let processor = processors.iter().find(|(one, _)| says.processor.as_deref() == Some(&one.name));
        let seat = |at: usize| {
            let machine = match processor {
                Some((one, first)) => first + at % one.machines,
                None => {
                    machines.push(Machine::new(f64::INFINITY));
                    machines.len() - 1
                }
            };
            machines[machine].seat(machine, says.slowdown, says.demand)
        };
        let seats = (0..says.replicas).map(seat).map(|seat| Server { seat, ..Server::default() });
        let servers = seats.collect();
        let role = says.role();
        let of = |family: &Family| match (role, says.tokens_per_forward.get(family.as_str())) {
            (BackendRole::Ar, _) => 1.0,
            (BackendRole::Diffusion, Some(said)) => *said,
            (BackendRole::Diffusion, None) => priors.tokens_per_forward(role, *family),
        };
        let failures = |family: &Family| *says.failures_by.get(family.as_str()).unwrap_or(&says.failures);
        let factors = |family: &Family| {
            let own = says.factors.get(family.as_str()).or_else(|| says.factors.get(ANY));
            own.map_or(&[] as &[f64], Vec::as_slice)
        };
        Place {
            says,
            role,
            servers,
            answered: 0,
            failed: 0,
            over_budget: 0,
            shed: 0,
            busy_s: 0.0,
            most_at_once: 0,
            waited: Times::new(),
            per_forward: Family::ALL.iter().map(of).collect(),
            failures: Family::ALL.iter().map(failures).collect(),
            factors: Family::ALL.iter().map(factors).collect(),
        }
    }

    /// Whether every attempt fails at this time.
    pub(super) fn is_out(&self, now: f64) -> bool {
        self.says.outage.iter().any(|outage| (outage.from_s..outage.until_s).contains(&now))
    }

    /// Whether an attempt that starts now fails.
    pub(super) fn fails(&self, family: Family, draw: &mut Draw) -> bool {
        let share = self.failures[family.index()];
        share > 0.0 && draw.share() < share
    }

    /// The better placed of two servers drawn at random, as a balancer with little knowledge would choose.
    pub(super) fn choose(&self, draw: &mut Draw) -> usize {
        let load = |at: usize| self.servers[at].running as usize + self.servers[at].waiting.len();
        let one = draw.below(self.servers.len());
        let other = draw.below(self.servers.len());
        if load(other) < load(one) { other } else { one }
    }

    /// Requests under way on all servers.
    pub(super) fn in_flight(&self) -> u32 {
        self.servers.iter().map(|server| server.running + server.waiting.len() as u32).sum()
    }

    /// How long `work` takes undisturbed; `own`: how it was seen to be answered here.
    pub(super) fn service(&self, work: &Work, own: Option<&Own>, draw: &mut Draw) -> Service {
        let says = self.says;
        let cached = if says.caches_prefixes { work.cached } else { 0.0 };
        let per_forward = self.per_forward[work.family.index()];
        let steps = own.map_or(work.output_tokens / per_forward, |own| own.steps).max(1.0);
        let first = first_steps(self.role, work.output_tokens, steps);
        let read = work.prompt_tokens * (1.0 - cached) / 1000.0;
        let begin = says.overhead_ms + says.prefill_ms_per_1k * read;
        let luck = match (own, self.factors[work.family.index()]) {
            (Some(own), _) => own.factor,
            (None, []) => draw.around(1.0, says.spread),
            (None, factors) => draw.among(factors),
        };
        let ttft_s = (begin + says.forward_ms * first) * luck / 1000.0;
        Service { ttft_s, total_s: ttft_s + says.forward_ms * (steps - first).max(0.0) * luck / 1000.0, steps }
    }
}

/// Of the `steps` of an answer, those before its first content.
pub(super) fn first_steps(role: BackendRole, output_tokens: f64, steps: f64) -> f64 {
    match role {
        BackendRole::Ar => 1.0,
        BackendRole::Diffusion => (steps * BLOCK.min(output_tokens) / output_tokens.max(1.0)).max(1.0),
    }
}
