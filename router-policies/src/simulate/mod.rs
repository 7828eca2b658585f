//! A discrete-event simulation of a fleet under a policy: arrivals, a mix of requests, servers with places and queues,
//! processors they share, failures, outages, fallbacks and time budgets. Millions of requests in seconds to minutes, to
//! choose a policy and to size a fleet before it is bought. The policy, its features, families and predictions are the
//! real ones; only the servers are made up. Must never look at a clock: the same input gives the same report.
//!
//! [`Scenario`]: what is simulated, from a file; [`Recorded`]: the same from a request log; `world`: what happens;
//! `fleet`: servers; `machine`: what they share; [`Report`]: what came of it.

mod asked;
mod deciding;
mod draw;
mod events;
mod fleet;
mod machine;
mod recorded;
mod report;
mod scenario;
mod servers;
mod told;
mod world;

pub use recorded::{ComesAs, Host, Measured, Recorded, Replaying, Sharer, Summary, TooLittle};
pub use report::{BackendRow, Percentiles, ProcessorRow, Report, Row};
pub use scenario::{Arrivals, Kind, Scenario, Spread};
pub use servers::{Fleet, Outage, Processor, Servers};

use self::asked::Coming;
use self::world::{Given, World};
use crate::policy::Policy;

/// Runs a scenario under a policy.
pub fn run(scenario: &Scenario, policy: &Policy) -> Report {
    let given = Given {
        seed: scenario.seed,
        requests: scenario.requests,
        replan_s: scenario.replan_s,
        begins_unix: 0.0,
        coming: Coming::drawn(scenario.arrivals, scenario.mix.iter().map(|kind| kind.share)),
        kinds: scenario.mix.iter().map(|kind| kind.name.clone()).collect(),
        asked: &asked::of_scenario(scenario),
        processors: &scenario.processor,
        fleet: &scenario.backend,
        facts: scenario.backend.iter().map(Fleet::facts).collect(),
    };
    World::new(given, policy).run()
}
