//! Who or what caused a request. A closed set of words; must never be read from anything but hints, the wrapping of the
//! asked text, and the request's shape.

use crate::words_of::words;

words! {
    /// Who or what caused the request.
    pub enum Trigger {
        /// A person, or a client that says nothing else.
        User = "user",
        /// An agent's periodic look at its notes.
        Heartbeat = "heartbeat",
        /// A scheduled job.
        Cron = "cron",
        /// A task one agent gave to another.
        Subagent = "subagent",
        /// A message from another session of the same agent.
        InterSession = "inter_session",
        /// A small errand of the application itself: a title, a recap.
        Utility = "utility",
        /// A request an agent repeats after a failure, where nothing says who asked first.
        Retry = "retry",
    }
}

impl Trigger {
    /// Whether nobody waits for the answer, so that interactive requests may go first.
    pub fn is_background(self) -> bool {
        matches!(self, Trigger::Heartbeat | Trigger::Cron)
    }

    /// What a client's hint means; `None` for a word nobody knows.
    pub(super) fn hinted(word: &str) -> Option<Self> {
        let word = word.trim().to_ascii_lowercase().replace('-', "_");
        Self::of_word(&word)
    }

    /// What an OpenClaw session's name says (`agent:main:cron:…`, `agent:main:subagent:…`).
    pub(super) fn of_session(session: &str) -> Option<Self> {
        let kind = session.strip_prefix("agent:")?.split(':').nth(1)?;
        match kind {
            "cron" => Some(Trigger::Cron),
            "subagent" => Some(Trigger::Subagent),
            _ => None,
        }
    }
}
