//! How many of something there are at once, against the most there may be: connections, requests in work. The most is told
//! with each, so that another config may have another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The places taken.
#[derive(Debug, Default)]
pub struct Places(AtomicUsize);

/// One of them; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Places {
    /// A place among `most`, if one is free.
    pub(crate) fn take(self: &Arc<Self>, most: usize) -> Option<Place> {
        let more = |taken: usize| (taken < most).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_the_limit_may_change() {
        let places = Arc::new(Places::default());
        let first = places.take(1).unwrap();
        assert!(places.take(1).is_none());
        let second = places.take(2).unwrap();
        drop(first);
        assert!(places.take(1).is_none(), "one is still there");
        drop(second);
        assert!(places.take(1).is_some());
    }
}
