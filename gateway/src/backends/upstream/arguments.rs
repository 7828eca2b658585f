//! Whether the calls of an answer can be shown to a caller whose dialect has objects for their arguments, and not text: one that
//! cannot be read is none that may be run. Must never look at the answers of others, who judge for themselves.

use weir_protocol::{EngineError, Event, FinishReason};

use crate::api::reading::written;

/// Most bytes of arguments that are kept; more are not checked.
const BYTES_MAX: usize = 1 << 20;

/// The arguments of one answer's calls.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    calls: Vec<(u32, String)>,
    bytes: usize,
}

impl Arguments {
    /// The answer went on with `events[from..]`; an end behind calls that cannot be read is taken from them.
    ///
    /// # Errors
    /// There is such an end.
    pub(super) fn check(&mut self, from: usize, events: &mut Vec<Event>) -> Result<(), EngineError> {
        for event in events.iter().skip(from) {
            match event {
                Event::ToolCallDelta { index, arguments } if self.bytes <= BYTES_MAX => {
                    self.bytes += arguments.len();
                    match self.calls.iter_mut().find(|(known, _)| known == index) {
                        Some((_, text)) => text.push_str(arguments),
                        None => self.calls.push((*index, arguments.clone())),
                    }
                }
                // Another reason says by itself that something may be missing.
                Event::Finished { reason: FinishReason::Stop | FinishReason::ToolCalls } => {
                    let broken = self.calls.iter().any(|(_, text)| written::object(text).is_none());
                    if broken && self.bytes <= BYTES_MAX {
                        events.pop();
                        return Err(written::no_object());
                    }
                    return Ok(());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an answer with these pieces of two calls may end so.
    fn may_end(pieces: &[(u32, &str)], reason: FinishReason) -> bool {
        let (mut arguments, mut events) = (Arguments::default(), vec![Event::Finished { reason: FinishReason::Stop }]);
        for (index, text) in pieces {
            let from = events.len();
            events.push(Event::ToolCallDelta { index: *index, arguments: (*text).into() });
            assert_eq!(arguments.check(from, &mut events), Ok(()));
        }
        let from = events.len();
        events.push(Event::Finished { reason });
        let checked = arguments.check(from, &mut events);
        assert_eq!(events.len() - from, usize::from(checked.is_ok()), "an end that may not be is taken away");
        checked.is_ok()
    }

    #[test]
    fn calls_that_cannot_be_read_have_no_end() {
        let mixed = [(0, "{\"a\":"), (1, "{"), (0, "1}"), (1, "}")];
        assert!(may_end(&mixed, FinishReason::ToolCalls) && may_end(&[(0, " ")], FinishReason::Stop));
        for text in ["{\"a\":", "[1]", "\"x\"", "no", "{}{}"] {
            assert!(!may_end(&[(0, "{}"), (1, text)], FinishReason::ToolCalls), "{text}");
            assert!(!may_end(&[(0, text)], FinishReason::Stop), "{text}");
            assert!(may_end(&[(0, text)], FinishReason::Length), "{text}");
        }
        let long = format!("{{\"a\":\"{}", "x".repeat(BYTES_MAX));
        assert!(may_end(&[(0, &long), (0, "y")], FinishReason::ToolCalls), "too long to be checked");
    }
}
