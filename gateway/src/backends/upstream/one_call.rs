//! One call at most, where the caller takes no more (`parallel_tool_calls: false`, `disable_parallel_tool_use`): many servers
//! read that wish and ignore it, some have no word for it. Must never touch the answers of callers who take several.

use weir_protocol::Event;

/// The first call of one answer.
#[derive(Debug)]
pub(super) struct OneCall {
    backend: String,
    told: bool,
}

impl OneCall {
    /// `backend`: whose answer it is.
    pub(super) fn of(backend: &str) -> Self {
        OneCall { backend: backend.to_owned(), told: false }
    }

    /// The answer went on with `events[from..]`: other calls than the first are taken out. Whether there were any.
    pub(super) fn keep(&mut self, from: usize, events: &mut Vec<Event>) -> bool {
        let is_other = |event: &mut Event| {
            matches!(event, Event::ToolCallStarted { index: 1.., .. } | Event::ToolCallDelta { index: 1.., .. })
        };
        let others = events.extract_if(from.., is_other).count();
        if others > 0 && !std::mem::replace(&mut self.told, true) {
            let backend = &self.backend;
            tracing::info!(%backend, "more tool calls than the one that the caller takes: the others are left out");
        }
        others > 0
    }
}
