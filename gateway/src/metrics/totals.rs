//! Counters that follow a total kept elsewhere: by an engine or a standing, which may be replaced by a new one that counts
//! from 0 again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus::IntCounterVec;

/// What was last seen of each backend's total.
#[derive(Default)]
pub(super) struct Totals(Mutex<HashMap<String, u64>>);

impl Totals {
    /// Raises `family`'s counter of `backend` by what `total` has grown.
    pub(super) fn up_to(&self, family: &IntCounterVec, backend: &str, total: u64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.entry(backend.to_owned()).or_default();
        // Less than before: it is another one, and all it counted is new. One that has counted as far as the one before it by
        // the first page after the change is not told from it, and as much is missing: what Prometheus, too, misses of a
        // counter that began anew. Totals grow by evictions and by breakers that open, a page comes every few seconds, and a
        // backend that a reload did not change keeps its total.
        let grown = if total < *last { total } else { total - *last };
        *last = total;
        family.with_label_values(&[backend]).inc_by(grown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counter;

    #[test]
    fn a_total_that_starts_again_is_counted_on() {
        let (totals, family) = (Totals::default(), counter("a", "b", &["backend"]).unwrap());
        let counts = [3, 3, 5, 1, 2].map(|total| {
            totals.up_to(&family, "x", total);
            family.with_label_values(&["x"]).get()
        });
        assert_eq!(counts, [3, 3, 5, 6, 7]);
    }
}
