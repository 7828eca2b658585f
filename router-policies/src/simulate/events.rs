//! What can happen, in the order in which it does: by time, and of the same moment in the order in which it was made. Must
//! never depend on what an event holds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Arrives,
    /// Something on a machine comes so far, unless its pace changed since.
    Reaches {
        machine: usize,
        generation: u64,
    },
    /// For a request's attempt with that ticket; one that was given up has another by then.
    TimeIsOver {
        request: u32,
        ticket: u64,
    },
}

/// A moment, in the order of which events happen: nanoseconds, so that equal moments are equal.
pub(super) type Moments = BinaryHeap<Reverse<(u64, u64, Order)>>;

/// An event's content must not decide its order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order(pub(super) What);

impl PartialEq for Order {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
