//! What active checks say about a backend. Pure: `backends/checking.rs` does the asking.

/// Well until told otherwise.
#[derive(Debug)]
pub(super) struct Health {
    failures_max: u32,
    in_a_row: u32,
}

impl Health {
    pub(super) fn new(failures_max: u32) -> Self {
        Health { failures_max: failures_max.max(1), in_a_row: 0 }
    }

    /// A check came back. Says whether that changed anything.
    pub(super) fn checked(&mut self, well: bool) -> bool {
        let before = self.is_well();
        self.in_a_row = if well { 0 } else { self.in_a_row.saturating_add(1) };
        before != self.is_well()
    }

    pub(super) fn is_well(&self) -> bool {
        self.in_a_row < self.failures_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_failures_in_a_row_take_it_out_and_one_good_check_brings_it_back() {
        let mut health = Health::new(2);
        assert_eq!((health.checked(false), health.is_well()), (false, true));
        assert_eq!((health.checked(true), health.checked(false), health.is_well()), (false, false, true));
        assert_eq!((health.checked(false), health.is_well()), (true, false));
        assert_eq!((health.checked(false), health.checked(true), health.is_well()), (false, true, true));
    }
}
