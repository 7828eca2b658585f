//! A simulation's input from a request log: the requests as they were understood, when they came and how large they and
//! their answers were; the servers as the log saw them work. Must never need a prompt, and must never leave out a line
//! without counting it.
//!
//! `requests`: what came; `measured`: who answered, by `sharing` (what was under way at once) and `fit` (what is left).

mod fit;
mod measured;
mod requests;
mod sharing;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::measured::{Measured, Sharer};
use super::asked::{Asked, Coming};
use super::report::{Percentiles, Report, Times};
use super::scenario::Arrivals;
use super::servers::{Fleet, Servers};
use super::world::{Given, World};
use crate::facts::BackendFacts;
use crate::policy::Policy;
use crate::replay::Logged;

/// Requests without which nothing is simulated.
const LEAST: usize = 20;

/// A backend, as the config that is in force knows it.
#[derive(Debug, Clone)]
pub struct Host {
    /// As policies see it.
    pub facts: BackendFacts,
    /// Requests it works on at once, and that may wait; `None`: it takes all.
    pub places: Option<(u32, u32)>,
    /// The processor it shares with others; `None`: it has its own.
    pub processor: Option<String>,
}

/// Why a log is not simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLittle {
    /// Hardly any request was decided.
    #[error("{0} requests with a decision, at least {LEAST} are needed")]
    Requests(usize),
    /// They all came in one moment.
    #[error("all requests came at the same moment: no rate can be told")]
    Moment,
    /// Nobody answered often enough.
    #[error("no backend has {least} measured answers: {seen}", least = measured::LEAST)]
    Answers {
        /// Backends with their answers.
        seen: String,
    },
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The servers, as the log saw them.
    pub servers: Servers,
    /// What was read.
    pub summary: Summary,
    asked: Vec<Asked>,
    kinds: Vec<String>,
    times: Vec<f64>,
    facts: Vec<BackendFacts>,
    begins_unix: f64,
}

/// What a log came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Requests that are simulated.
    pub requests: u64,
    /// Seconds from the first to the last.
    pub seconds: f64,
    /// Requests a second, on average.
    pub per_s: f64,
    /// Requests for a model that the caller named: no policy decides about them.
    pub pinned: u64,
    /// Requests without a whole answer: their answers are taken to be as long as those of their family.
    pub without_answer: u64,
    /// Lines that are not simulated, by why.
    pub left_out: BTreeMap<String, u64>,
    /// First content of the answered requests that are simulated, as recorded.
    pub ttft_ms: Option<Percentiles>,
    /// Their ends.
    pub total_ms: Option<Percentiles>,
    /// Who answered.
    pub backends: Vec<Measured>,
    /// What they share.
    pub processors: Vec<Sharer>,
}

/// How the requests come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComesAs {
    /// At the recorded moments, nearer to each other where the load is raised.
    Recorded,
    /// At random, at the recorded mean rate.
    Poisson,
}

/// How a log is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replaying {
    /// How many times more come in a second than were recorded.
    pub load: f64,
    /// How they come.
    pub comes_as: ComesAs,
    /// How many; `None`: as many as were recorded. More: they come again from the first on.
    pub requests: Option<u64>,
    /// Draws are made from it.
    pub seed: u64,
}

impl Recorded {
    /// Reads `lines`. `unread` are the lines that could not be read, by why: they are counted with the others that are left
    /// out. `hosts` are a config's backends; one that only the log knows is taken for an AR backend that takes everything.
    ///
    /// # Errors
    /// There is too little to go by.
    pub fn of(lines: &[Logged], unread: BTreeMap<String, u64>, hosts: &[Host]) -> Result<Recorded, TooLittle> {
        let found = measured::servers(lines, hosts);
        let read = requests::read(lines, &found.own, unread);
        if read.asked.len() < LEAST {
            return Err(TooLittle::Requests(read.asked.len()));
        }
        let seconds = read.times.last().copied().unwrap_or(0.0);
        if seconds <= 0.0 {
            return Err(TooLittle::Moment);
        }
        let (servers, backends) = (found.servers, found.backends);
        if servers.backend.is_empty() {
            let seen = backends.iter().map(|one| format!("{} {}", one.name, one.answers));
            let seen = seen.collect::<Vec<_>>().join(", ");
            return Err(TooLittle::Answers { seen: if seen.is_empty() { "nobody answered".into() } else { seen } });
        }
        let (mut ttft, mut total) = (Times::new(), Times::new());
        for line in lines.iter().filter(|line| line.plan.is_some() && line.outcome == "finished") {
            line.ttft_ms.iter().for_each(|ms| ttft.seen(*ms));
            line.total_ms.iter().for_each(|ms| total.seen(*ms));
        }
        let facts = |fleet: &Fleet| {
            let host = hosts.iter().find(|host| host.facts.name == fleet.name);
            host.map_or_else(|| BackendFacts::of_log(&fleet.name), |host| host.facts.clone())
        };
        Ok(Recorded {
            facts: servers.backend.iter().map(facts).collect(),
            summary: Summary {
                requests: read.asked.len() as u64,
                seconds,
                per_s: (read.asked.len() - 1) as f64 / seconds,
                pinned: read.asked.iter().filter(|asked| asked.pinned.is_some()).count() as u64,
                without_answer: read.without_answer,
                left_out: read.left_out,
                ttft_ms: ttft.told(),
                total_ms: total.told(),
                backends,
                processors: found.processors,
            },
            servers,
            asked: read.asked,
            kinds: read.kinds,
            times: read.times,
            begins_unix: read.begins_unix,
        })
    }

    /// Runs the requests on `servers` under a policy.
    pub fn run(&self, servers: &Servers, policy: &Policy, how: &Replaying) -> Report {
        let load = if how.load.is_finite() && how.load > 0.0 { how.load } else { 1.0 };
        let per_s = self.summary.per_s * load;
        let calm = Arrivals { per_s, burst_every_s: 0.0, burst_s: 0.0, burst_factor: 1.0 };
        let coming = match how.comes_as {
            ComesAs::Poisson => Coming::drawn(calm, self.asked.iter().map(|_| 1.0)),
            ComesAs::Recorded => {
                let times = self.times.iter().map(|at| at / load).collect();
                Coming::Recorded(times, self.summary.seconds / load + 1.0 / per_s)
            }
        };
        let facts = |fleet: &Fleet| {
            let known = self.facts.iter().find(|facts| facts.name == fleet.name);
            known.cloned().unwrap_or_else(|| fleet.facts())
        };
        let given = Given {
            seed: how.seed,
            requests: how.requests.unwrap_or(self.summary.requests).max(1),
            replan_s: 1.0,
            begins_unix: self.begins_unix,
            coming,
            kinds: self.kinds.clone(),
            asked: &self.asked,
            processors: &servers.processor,
            fleet: &servers.backend,
            facts: servers.backend.iter().map(facts).collect(),
        };
        World::new(given, policy).run()
    }
}
