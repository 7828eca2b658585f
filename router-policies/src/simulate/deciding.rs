//! Which request comes next, when, and whom its plan asks. Must never look at a server.

use std::rc::Rc;

use super::asked::Coming;
use super::fleet::Place;
use super::world::{Decided, Step, World};
use crate::policy::PIN;
use crate::question::{Moment, Question};

impl World<'_> {
    /// When the next request comes, this one having come now.
    pub(super) fn next_arrival(&mut self) -> f64 {
        match &self.given.coming {
            Coming::Drawn(arrivals, _) => {
                let in_burst = arrivals.burst_every_s > 0.0 && self.now % arrivals.burst_every_s < arrivals.burst_s;
                let rate = arrivals.per_s * if in_burst { arrivals.burst_factor } else { 1.0 };
                self.now + self.draw.wait(rate)
            }
            Coming::Recorded(times, again_s) => {
                let (round, at) = (self.arrived / times.len() as u64, self.arrived as usize % times.len());
                times[at] + again_s * round as f64
            }
        }
    }

    pub(super) fn draw_asked(&mut self) -> usize {
        match &self.given.coming {
            Coming::Drawn(_, up_to) => {
                let place = self.draw.share() * up_to.last().copied().unwrap_or(0.0);
                up_to.partition_point(|sum| *sum < place).min(up_to.len().saturating_sub(1))
            }
            Coming::Recorded(times, _) => self.arrived as usize % times.len(),
        }
    }

    /// The plan for a request: decided anew when the last decision is old.
    pub(super) fn plan(&mut self, asked_at: usize) -> Rc<[Step]> {
        let decided = &self.decided[asked_at];
        if self.now - decided.at < self.given.replan_s {
            return Rc::clone(&decided.plan);
        }
        let says = &self.given.asked[asked_at];
        let place_of = |name: &str| self.given.facts.iter().position(|facts| facts.name == name);
        let steps: Rc<[Step]> = match &says.pinned {
            Some(names) => {
                self.kinds[says.kind].rule = PIN.to_owned();
                names.iter().filter_map(|name| Some((place_of(name)?, None))).collect()
            }
            None => {
                let in_flight: Vec<(&str, u32)> =
                    self.places.iter().map(|place| (place.says.name.as_str(), load_of(place))).collect();
                let load = |name: &str| in_flight.iter().find(|(known, _)| *known == name).map_or(0, |(_, load)| *load);
                let predicted = self.latency.predictions(&self.given.facts, &says.ask, load, self.now);
                let plan = self.policy.decide(&Question {
                    family: says.judged.clone(),
                    predicted: &predicted,
                    tenant: &says.tenant,
                    now: Moment::of_unix((self.given.begins_unix + self.now) as u64),
                    conversation: says.conversation.unwrap_or_else(|| self.draw.next()),
                    condensed: says.condensed.filter(|_| self.policy.condenses().is_some()),
                    ..Question::about(says.features.clone(), &self.given.facts)
                });
                let step = |attempt: &crate::plan::PlannedAttempt| {
                    let place = place_of(&attempt.backend)?;
                    Some((place, attempt.first_content_ms.map(|ms| ms as f64 / 1000.0)))
                };
                self.kinds[says.kind].rule = plan.rule;
                plan.attempts.iter().filter_map(step).collect()
            }
        };
        self.decided[asked_at] = Decided { plan: Rc::clone(&steps), at: self.now };
        steps
    }
}

/// Others under way on a server of the backend, on average: what one more request meets.
fn load_of(place: &Place<'_>) -> u32 {
    place.in_flight() / place.servers.len().max(1) as u32
}
