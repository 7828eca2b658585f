//! Who waits and how many run, shared between callers and the engine's thread. First in, first out. Must never hold
//! its lock while anything is computed.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use weir_protocol::EngineError;

use crate::options::EngineLoad;

use super::lane::Job;

/// The waiting room.
pub(crate) struct Queue {
    max_running: usize,
    queue_limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    running: usize,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(max_running: usize, queue_limit: usize) -> Self {
        Queue { max_running: max_running.max(1), queue_limit, state: Mutex::default(), changed: Condvar::new() }
    }

    /// A panic elsewhere cannot leave the state half changed: every change is one assignment or push.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job, unless `queue_limit` wait already for one of `max_running` places.
    pub(crate) fn push(&self, job: Job) -> Result<(), EngineError> {
        let mut state = self.state();
        let room = self.max_running.saturating_add(self.queue_limit);
        if state.waiting.len() + state.running >= room {
            state.waiting.retain(|job| !job.answer.is_abandoned());
        }
        if state.waiting.len() + state.running >= room {
            return Err(EngineError::Overloaded { limit: self.queue_limit as u64 });
        }
        state.waiting.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// Called by the engine's thread between two steps with the number it runs: the jobs that may join. Waits while
    /// there is nothing to do; `None` when nothing will ever come.
    pub(crate) fn admit(&self, running: usize) -> Option<Vec<Job>> {
        let mut state = self.state();
        state.running = running;
        loop {
            state.waiting.retain(|job| !job.answer.is_abandoned());
            if running > 0 || !state.waiting.is_empty() {
                break;
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let joining = state.waiting.len().min(self.max_running.saturating_sub(running));
        state.running = running + joining;
        Some(state.waiting.drain(..joining).collect())
    }

    /// Nothing will be pushed any more.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// How many wait and run now.
    pub(crate) fn load(&self) -> EngineLoad {
        let state = self.state();
        EngineLoad { queued: state.waiting.len(), running: state.running }
    }
}
