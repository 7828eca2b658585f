//! What the grammar library says of a form, in words for whoever demanded it. Must never hold answer text, nor what only
//! the library's own people could use.

use weir_protocol::EngineError;

/// Most characters of a reason: the library quotes expressions of its own making, of any length.
const SAID_MAX: usize = 300;

/// The grammar grew beyond the library's limits, or it contradicts itself.
pub(super) fn broken<E: std::fmt::Display>(field: &'static str) -> impl FnOnce(E) -> EngineError {
    move |reason| {
        let message = format!("what it demands cannot be followed any further: {}", said(&reason));
        EngineError::Unsupported { field: field.to_owned(), message }
    }
}

/// The reason without stack traces and states of the parser.
pub(in crate::constrain) fn said(reason: &dyn std::fmt::Display) -> String {
    let reason = reason.to_string();
    match reason.split("\n<").next().unwrap_or_default().trim() {
        "NoExtensionBias" => "no text fits it".to_owned(),
        panic if panic.starts_with("panic:") => "the grammar library gave up on it".to_owned(),
        reason if reason.chars().nth(SAID_MAX).is_some() => reason.chars().take(SAID_MAX).chain(['…']).collect(),
        reason => reason.to_owned(),
    }
}
