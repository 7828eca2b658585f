//! Where the dialects are asked. Must never be written out elsewhere.

/// What stands before all of them.
const BASE: &str = "/v1";

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const COMPLETIONS: &str = "/v1/completions";
pub(crate) const RESPONSES: &str = "/v1/responses";
/// Below it callers speak Anthropic's dialect.
pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const COUNT_TOKENS: &str = "/v1/messages/count_tokens";
pub(crate) const INPUT_TOKENS: &str = "/v1/responses/input_tokens";
pub(crate) const MODELS: &str = "/v1/models";

/// Where answers are asked for, below a base URL.
pub(crate) fn answering() -> impl Iterator<Item = &'static str> {
    [CHAT, COMPLETIONS, RESPONSES, MESSAGES].into_iter().map(below)
}

/// All that clients put behind a base URL, the same end once.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    answering().chain([COUNT_TOKENS, INPUT_TOKENS, MODELS].map(below))
}

fn below(path: &'static str) -> &'static str {
    path.strip_prefix(BASE).unwrap_or(path)
}
