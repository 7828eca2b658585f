//! How fast callers ask: slower when sound requests are turned away or run out of time, faster again while they are served.
//! A machine with little to spare is soaked, too, and not only refused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Shortest and longest pause between two requests of a caller, in microseconds.
const SHORTEST: u64 = 20_000;
const LONGEST: u64 = 2_000_000;

/// Shared by all callers.
#[derive(Debug)]
pub(crate) struct Pace {
    pause: AtomicU64,
    sound: AtomicU64,
    served: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { pause: AtomicU64::new(SHORTEST), sound: AtomicU64::default(), served: AtomicU64::default() }
    }
}

impl Pace {
    /// A request that nothing stood against was answered, or was not.
    pub(crate) fn sound(&self, served: bool) {
        self.sound.fetch_add(1, Ordering::Relaxed);
        self.served.fetch_add(u64::from(served), Ordering::Relaxed);
        let next = |pause: u64| match served {
            true => Some((pause - pause / 64).max(SHORTEST)),
            false => Some((pause + pause / 4).min(LONGEST)),
        };
        // Always some, so it is never refused.
        let _ = self.pause.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Until a caller's next request; `fraction` of 64 spreads them.
    pub(crate) fn pause(&self, fraction: u64) -> Duration {
        let pause = self.pause.load(Ordering::Relaxed);
        Duration::from_micros(pause / 2 + pause * fraction / 64)
    }

    /// How many of the sound requests were served, and how many there were.
    pub(crate) fn served(&self) -> (u64, u64) {
        (self.served.load(Ordering::Relaxed), self.sound.load(Ordering::Relaxed))
    }
}
