//! How many connections are open, against the most there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub(super) struct Count(AtomicUsize);

/// One of them; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place(Arc<Count>);

impl Count {
    /// A place among `most`, if one is free.
    pub(super) fn take(self: &Arc<Self>, most: usize) -> Option<Place> {
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
        let count = Arc::new(Count::default());
        let first = count.take(1).unwrap();
        assert!(count.take(1).is_none());
        let second = count.take(2).unwrap();
        drop(first);
        assert!(count.take(1).is_none(), "one is still there");
        drop(second);
        assert!(count.take(1).is_some());
    }
}
