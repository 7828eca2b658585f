//! What a caller got wrong about shapes. Checked once at the border, so that the loops behind it can trust them.

/// A shape that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}: expected {expected} elements, got {got}")]
pub struct KernelError {
    /// Which argument.
    pub what: &'static str,
    /// Elements it must have.
    pub expected: usize,
    /// Elements it has.
    pub got: usize,
}

/// `Ok` when `got` is exactly `expected`; an overflowed product (`None`) never fits.
pub(crate) fn expect(what: &'static str, expected: Option<usize>, got: usize) -> Result<(), KernelError> {
    match expected {
        Some(expected) if expected == got => Ok(()),
        Some(expected) => Err(KernelError { what, expected, got }),
        None => Err(KernelError { what, expected: usize::MAX, got }),
    }
}
