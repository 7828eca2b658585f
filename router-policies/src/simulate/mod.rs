//! A discrete-event simulation of a fleet under a policy: arrivals, a mix of requests, servers with places and queues,
//! failures, outages, fallbacks and time budgets. Millions of requests in seconds to minutes, to choose a policy and to
//! size a fleet before it is bought. The policy, its features, families and predictions are the real ones; only the
//! servers are made up. Must never look at a clock: the same scenario gives the same report.
//!
//! [`Scenario`]: what is simulated; `world`: what happens; `fleet`: servers; [`Report`]: what came of it.

mod draw;
mod events;
mod fleet;
mod report;
mod scenario;
mod told;
mod world;

pub use report::{BackendRow, Percentiles, Report, Row};
pub use scenario::{Arrivals, Fleet, Kind, Outage, Scenario, Spread};

use crate::policy::Policy;

/// Runs a scenario under a policy.
pub fn run(scenario: &Scenario, policy: &Policy) -> Report {
    world::World::new(scenario, policy).run()
}
