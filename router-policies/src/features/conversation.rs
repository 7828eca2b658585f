//! Where a conversation is, and what it holds besides text. Must never look at what is said.

use weir_protocol::{ChatRequest, Role};

use crate::unwrap;
use crate::words_of::words;

words! {
    /// Where a conversation is.
    pub enum Conversation {
        /// The user spoke for the first time.
        FirstTurn = "first_turn",
        /// The user spoke before.
        FollowUp = "follow_up",
        /// Tools were called since the user last spoke.
        ToolLoop = "tool_loop",
    }
}

words! {
    /// What the messages hold besides text.
    pub enum Modality {
        /// Nothing.
        Text = "text",
        /// Images.
        Image = "image",
        /// Audio, files, or anything else.
        Other = "other",
    }
}

impl Modality {
    pub(super) fn of(images: bool, others: bool) -> Self {
        match (others, images) {
            (true, _) => Modality::Other,
            (false, true) => Modality::Image,
            (false, false) => Modality::Text,
        }
    }
}

/// How far a conversation is.
pub(super) struct Progress {
    pub(super) state: Conversation,
    pub(super) tail_is_tool_result: bool,
    pub(super) user_turns: u64,
    pub(super) tool_rounds: u64,
}

pub(super) fn progress(request: &ChatRequest) -> Progress {
    let (mut user_turns, mut tool_rounds) = (0, 0);
    for message in &request.messages {
        match message.role {
            Role::User if !unwrap::is_context(message) => (user_turns, tool_rounds) = (user_turns + 1, 0),
            Role::Assistant if !message.tool_calls.is_empty() => tool_rounds += 1,
            Role::User | Role::Assistant | Role::System | Role::Tool => {}
        }
    }
    let tail_is_tool_result = unwrap::tail_is_tool_result(request);
    let state = match (tool_rounds > 0 || tail_is_tool_result, user_turns > 1) {
        (true, _) => Conversation::ToolLoop,
        (false, true) => Conversation::FollowUp,
        (false, false) => Conversation::FirstTurn,
    };
    Progress { state, tail_is_tool_result, user_turns, tool_rounds }
}

/// A name that may stand in logs and conditions: a plain word, or nothing.
pub(super) fn plain_name(name: &str) -> Option<String> {
    let fine = name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    fine.then(|| name.to_owned())
}
