//! The rules of unwrapping as data, for `docs/unwrap.md`, which a test compares with this table. Must never differ from
//! what `strip`, `runtime` and the module above do: a test holds each rule to its example.

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct UnwrapRule {
    /// What is found.
    pub wrapping: &'static str,
    /// Where.
    pub place: &'static str,
    /// What becomes of it.
    pub effect: &'static str,
    /// Where it was measured: a section of `facts/openclaw.md`.
    pub source: &'static str,
    /// A user message with it.
    pub example: &'static str,
    /// What is left.
    pub asked: &'static str,
}

/// Every rule, in the order in which they apply to one user message.
pub const RULES: [UnwrapRule; 9] = [
    UnwrapRule {
        wrapping: "`<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>` … `<<<END_OPENCLAW_INTERNAL_CONTEXT>>>`",
        place: "at the start of a user message, the last one of an agent turn",
        effect: "cut with what is inside; a message that is empty then is skipped",
        source: "§0.2",
        example: "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nnotes\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>\nplay jazz",
        asked: "play jazz",
    },
    UnwrapRule {
        wrapping: "`[Mon 2026-11-23 08:33 UTC] `",
        place: "before the text",
        effect: "cut",
        source: "§0.2",
        example: "[Mon 2026-11-23 08:33 UTC] play jazz",
        asked: "play jazz",
    },
    UnwrapRule {
        wrapping: "`[cron:<job> <name>] `",
        place: "before the text",
        effect: "cut; the trigger is `cron`",
        source: "§1.2",
        example: "[cron:7f3a nightly] play jazz",
        asked: "play jazz",
    },
    UnwrapRule {
        wrapping: "`[Subagent Context] `",
        place: "before the text",
        effect: "cut; the trigger is `subagent`",
        source: "§1.2",
        example: "[Subagent Context] play jazz",
        asked: "play jazz",
    },
    UnwrapRule {
        wrapping: "`[Inter-session message] … isUser=false` and its line",
        place: "before the text",
        effect: "cut; the trigger is `inter_session`",
        source: "§1.2",
        example: "[Inter-session message] from=agent:main:subagent:1 isUser=false\nplay jazz",
        asked: "play jazz",
    },
    UnwrapRule {
        wrapping: "`[Retry after the previous model attempt …]`",
        place: "before the text of a request that is made again",
        effect: "cut; `repeated`, and the trigger is `retry` where nothing else says who asked",
        source: "§1.4",
        example: "[Retry after the previous model attempt failed or timed out]\n\nplay jazz",
        asked: "play jazz",
    },
    UnwrapRule {
        wrapping: "`[Queued user message …]`, and its paragraph `Continue the current task…`",
        place: "before, and before or after, the text of a request that is made again",
        effect: "cut; as above",
        source: "§1.4",
        example: "[Queued user message from a previous active turn]\n\nplay jazz\n\nContinue the current task if it is open.",
        asked: "play jazz",
    },
    UnwrapRule {
        wrapping: "`Runtime: agent=… | session=… | …`",
        place: "last paragraph of a session's first user message; in the system text for `/v1/responses`",
        effect: "cut; names the agent and the session, and a session `agent:…:cron:…` or `…:subagent:…` the trigger",
        source: "§0.2, §1.2",
        example: "play jazz\n\nRuntime: agent=main | session=agent:main:main | sessionId=0b0e2f5c",
        asked: "play jazz",
    },
    UnwrapRule {
        wrapping: "`Follow the heartbeat monitor scratch context…`",
        place: "the text itself",
        effect: "kept; the trigger is `heartbeat`",
        source: "§1.2",
        example: "Follow the heartbeat monitor scratch context now.",
        asked: "Follow the heartbeat monitor scratch context now.",
    },
];
