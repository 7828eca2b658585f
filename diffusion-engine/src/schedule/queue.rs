//! Who waits and how many run, shared between callers and the engine's thread. Who is next says [`super::planner`].
//! Must never hold its lock while anything is computed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir_protocol::EngineError;

use crate::cache::Pages;
use crate::options::EngineLoad;

use super::lane::Job;
use super::pace::Pace;
use super::planner::{self, Claim, Waiting};

/// The waiting room.
pub(crate) struct Queue {
    max_running: usize,
    queue_limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// In the order of arrival, each with how many went past it.
    waiting: VecDeque<(Job, u32)>,
    /// Was next, but did not fit into memory: goes before all others, so that no small ones starve it.
    held: Option<Job>,
    running: usize,
    /// Places given so far, and the last one of each tenant that waits or runs.
    places: u64,
    served: HashMap<Arc<str>, u64>,
    pace: Pace,
    pages: Pages,
    closed: bool,
}

impl State {
    fn queued(&self) -> usize {
        self.waiting.len() + usize::from(self.held.is_some())
    }

    /// Forgets those that nobody waits for.
    fn drop_abandoned(&mut self) {
        self.waiting.retain(|(job, _)| !job.answer.is_abandoned());
        self.held = self.held.take().filter(|job| !job.answer.is_abandoned());
    }
}

impl Queue {
    pub(crate) fn new(max_running: usize, queue_limit: usize) -> Self {
        Queue { max_running: max_running.max(1), queue_limit, state: Mutex::default(), changed: Condvar::new() }
    }

    /// A panic elsewhere cannot leave the state half changed: every change is one assignment or push.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job, unless `queue_limit` wait already for one of `max_running` places and none of them gives way; one
    /// that does is refused in its stead.
    pub(crate) fn push(&self, job: Job) -> Result<(), EngineError> {
        let mut state = self.state();
        let room = self.max_running.saturating_add(self.queue_limit);
        if state.queued() + state.running >= room {
            state.drop_abandoned();
        }
        if state.queued() + state.running >= room {
            let retry_after = state.pace.until(state.queued() + 1);
            let refused = EngineError::Overloaded { limit: self.queue_limit as u64, retry_after };
            let claims: Vec<Claim<'_>> = state.waiting.iter().map(|(waits, _)| claim(waits)).collect();
            let Some((leaves, _)) = planner::gives_way(&claims, claim(&job)).and_then(|at| state.waiting.remove(at))
            else {
                return Err(refused);
            };
            leaves.answer.fail(refused);
        }
        state.waiting.push_back((job, 0));
        self.changed.notify_one();
        Ok(())
    }

    /// Called by the engine's thread between two steps with the number it runs. Waits while there is nothing to do;
    /// false when nothing will ever come.
    pub(crate) fn wait(&self, running: usize) -> bool {
        let mut state = self.state();
        state.running = running;
        loop {
            state.drop_abandoned();
            if running > 0 || state.queued() > 0 {
                return true;
            }
            if state.closed {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next to join those of `running`, named by their tenants, if there is a place.
    pub(crate) fn next<'a>(&self, running: impl ExactSizeIterator<Item = &'a Arc<str>> + Clone) -> Option<Job> {
        let mut state = self.state();
        let state = &mut *state;
        state.running = running.len();
        if running.len() >= self.max_running {
            return None;
        }
        let job = match state.held.take() {
            Some(job) => job,
            None => {
                let State { waiting, served, .. } = &mut *state;
                if waiting.is_empty() {
                    return None;
                }
                let tenants = running.clone().map(|tenant| &**tenant);
                let here: HashSet<&str> = tenants.chain(waiting.iter().map(|(job, _)| &*job.tenant)).collect();
                served.retain(|tenant, _| here.contains(&**tenant));
                let view: Vec<Waiting> = waiting
                    .iter()
                    .map(|(job, passed)| Waiting {
                        background: job.background,
                        passed: *passed,
                        running: running.clone().filter(|tenant| **tenant == job.tenant).count(),
                        served: served.get(&job.tenant).copied().unwrap_or(0),
                    })
                    .collect();
                let index = planner::next_to_join(&view)?;
                waiting.iter_mut().take(index).for_each(|(_, passed)| *passed = passed.saturating_add(1));
                let (job, _) = waiting.remove(index)?;
                state.places += 1;
                state.served.insert(Arc::clone(&job.tenant), state.places);
                job
            }
        };
        state.running += 1;
        Some(job)
    }

    /// Takes back what [`Queue::next`] gave: it does not fit beside the others, and is next again.
    pub(crate) fn hold(&self, job: Job) {
        let mut state = self.state();
        state.running = state.running.saturating_sub(1);
        state.held = Some(job);
    }

    /// A step took `took`, and `left` requests are complete after it.
    pub(crate) fn stepped(&self, took: Duration, left: usize, pages: Pages) {
        let mut state = self.state();
        state.pace.step(took, left);
        state.pages = pages;
    }

    /// Nothing will be pushed any more.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// How many wait and run now.
    pub(crate) fn load(&self) -> EngineLoad {
        let state = self.state();
        let Pages { free, shared, evicted } = state.pages;
        let (queued, running) = (state.queued(), state.running);
        EngineLoad { queued, running, free_pages: free, shared_pages: shared, evicted_pages: evicted }
    }
}

fn claim(job: &Job) -> Claim<'_> {
    Claim { tenant: &job.tenant, background: job.background }
}
