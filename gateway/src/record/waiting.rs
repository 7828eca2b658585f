//! Waiting for threads that end by themselves, for a time: a thread cannot be joined with a deadline. Must never be called
//! where requests are served.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often what is waited for is looked at.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Returns when all of them have ended, and at `until` at the latest.
pub(crate) fn wait_for(threads: &[JoinHandle<()>], until: Instant) {
    while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
        std::thread::sleep(LOOK_AGAIN);
    }
}
