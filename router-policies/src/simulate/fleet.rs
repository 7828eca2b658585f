//! The servers of one backend: places, a queue each, and how long a request takes there. Knows nothing of plans.

use std::collections::VecDeque;

use super::draw::Draw;
use super::report::Times;
use super::scenario::Fleet;
use crate::classify::Family;
use crate::facts::BackendRole;
use crate::latency::Priors;

/// Tokens of a block, which a diffusion engine finishes before it shows anything.
const BLOCK: f64 = 32.0;

/// A request as a server sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) family: Family,
    pub(super) prompt_tokens: f64,
    /// Of the prompt, what a cache would have.
    pub(super) cached: f64,
    pub(super) output_tokens: f64,
}

/// How long it takes, from its start on.
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
    pub(super) waited: Times,
    /// Other backends on the same machine, by their place in the scenario, and how much a request there slows this one.
    pub(super) beside: Vec<(usize, f64)>,
    per_forward: Vec<f64>,
}

impl<'a> Place<'a> {
    pub(super) fn new(says: &'a Fleet, all: &[Fleet], priors: &Priors) -> Self {
        let beside = says.slowed_by.iter().filter_map(|(name, share)| {
            let at = all.iter().position(|other| other.name == *name)?;
            Some((at, *share))
        });
        let role = says.role();
        let of = |family: &Family| match (role, says.tokens_per_forward.get(family.as_str())) {
            (BackendRole::Ar, _) => 1.0,
            (BackendRole::Diffusion, Some(said)) => *said,
            (BackendRole::Diffusion, None) => priors.tokens_per_forward(role, *family),
        };
        Place {
            says,
            role,
            servers: (0..says.replicas).map(|_| Server::default()).collect(),
            answered: 0,
            failed: 0,
            over_budget: 0,
            shed: 0,
            busy_s: 0.0,
            waited: Times::new(),
            beside: beside.collect(),
            per_forward: Family::ALL.iter().map(of).collect(),
        }
    }

    /// Whether every attempt fails at this time.
    pub(super) fn is_out(&self, now: f64) -> bool {
        self.says.outage.iter().any(|outage| (outage.from_s..outage.until_s).contains(&now))
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

    /// Requests in work at a server, on average.
    pub(super) fn running(&self) -> f64 {
        let running: u32 = self.servers.iter().map(|server| server.running).sum();
        f64::from(running) / self.servers.len().max(1) as f64
    }

    /// How long `work` takes on a server whose forwards take longer by the share `slowed`. Load is taken at the start
    /// and for the whole of it.
    pub(super) fn service(&self, work: &Work, slowed: f64, draw: &mut Draw) -> Service {
        let says = self.says;
        let cached = if says.caches_prefixes { work.cached } else { 0.0 };
        let forward = says.forward_ms * (1.0 + slowed);
        let per_forward = self.per_forward[work.family.index()];
        let steps = (work.output_tokens / per_forward).max(1.0);
        let first = match self.role {
            BackendRole::Ar => 1.0,
            BackendRole::Diffusion => (BLOCK.min(work.output_tokens) / per_forward).max(1.0),
        };
        let read = work.prompt_tokens * (1.0 - cached) / 1000.0;
        let begin = says.overhead_ms + says.prefill_ms_per_1k * read;
        let luck = draw.around(1.0, says.spread);
        let ttft_s = (begin + forward * first) * luck / 1000.0;
        Service { ttft_s, total_s: ttft_s + forward * (steps - first).max(0.0) * luck / 1000.0, steps }
    }
}
