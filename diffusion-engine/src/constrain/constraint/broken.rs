//! A form that cannot be followed any further, in words for whoever demanded it. Must never hold answer text.

use weir_protocol::EngineError;

/// The grammar grew beyond the library's limits, or it contradicts itself.
pub(super) fn broken<E: std::fmt::Display>(field: &'static str) -> impl FnOnce(E) -> EngineError {
    move |reason| {
        let reason = reason.to_string();
        let reason = match reason.trim_end_matches("<non-verbose/>").trim_end() {
            "NoExtensionBias" => "no text fits it",
            reason => reason,
        };
        let message = format!("what it demands cannot be followed any further: {reason}");
        EngineError::Unsupported { field: field.to_owned(), message }
    }
}
