//! What is counted, through guards only: nothing here may be raised or lowered by hand.

/// The registry and its families.
#[derive(Default)]
pub struct Metrics {}
