//! What an upstream wants back with a call (Gemini's thought signatures), as callers of other dialects keep it: where the
//! seal of thinking stands, marked as ours and with the model it comes from. Must never go to another model, which would
//! refuse it.

/// No backend's own seals begin so.
const MARK: &str = "weir:";

/// For the caller.
pub(in crate::backends) fn marked(model: &str, seal: &str) -> String {
    format!("{MARK}{model}:{seal}")
}

/// As this model gave it; `None` for what it did not give.
pub(in crate::backends) fn own<'a>(told: &'a str, model: &str) -> Option<&'a str> {
    told.strip_prefix(MARK)?.strip_prefix(model)?.strip_prefix(':')
}

/// Whether the caller has it from us, so that no backend of its own dialect can read it.
pub(in crate::backends) fn is_marked(told: &str) -> bool {
    told.starts_with(MARK)
}
