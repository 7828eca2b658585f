//! The pages under `docs/` that are made from tables in the code, so that they cannot say what is not so. A test compares
//! them with the files; `WEIR_WRITE_DOCS=1 cargo test -p weir-router-policies made_pages` writes them. Must never hold a
//! fact that stands in a table.

use std::fmt::Write;

use crate::features::FEATURES;
use crate::policy::{BACKEND_FACTS, PREDICTED_FACTS, VARIABLES};
use crate::unwrap::RULES;

/// `docs/features.md`.
pub fn features() -> String {
    let mut page = String::from(
        "# Features\n\n\
         Made from the table in `router-policies/src/features/mod.rs`; do not edit by hand (see `docs.rs` there).\n\n\
         What routing knows about a request. Each name is a variable in a rule's `when`, a member of the explanation \
         (`POST /v1/route/explain`) and of the request log. \"Changed by\" says what can change it: a feature of the asked \
         text is the same whatever wrapping, system prompt, tools or earlier turns are around it. No feature holds text \
         of the prompt.\n\n\
         | name | type | changed by | meaning | cost |\n|---|---|---|---|---|\n",
    );
    for info in FEATURES {
        let words = match info.words {
            [] => String::new(),
            words => {
                format!(" One of {}.", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
            }
        };
        let (kind, about, cost) = (info.kind.as_str(), info.about.as_str(), info.cost.as_str());
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{}` | {kind} | {about} | {}{words} | {cost} |", info.name, info.meaning);
    }
    page.push_str(
        "\n## What else a condition may name\n\n\
         `backends.<role>.<fact>` and `predicted.<role, group or backend>.<fact>`; a role is `diffusion` or `ar`. A backend's name \
         that is no plain word stands in brackets: `predicted['gpu-1'].ttft_ms`. Of a role or group, predictions are those of its \
         quickest backend that can take the request; a time that nobody can tell yet is infinite, so it is never the \
         smaller one.\n\n| name | type | meaning |\n|---|---|---|\n",
    );
    let tables = [
        ("", &VARIABLES[..]),
        ("backends.<role>.", &BACKEND_FACTS[..]),
        ("predicted.<subject>.", &PREDICTED_FACTS[..]),
    ];
    for (prefix, table) in tables {
        for info in table {
            let words = match info.words {
                [] => String::new(),
                words => format!(": {}", words.join(", ")),
            };
            let (name, kind, meaning) = (info.name, info.kind.as_str(), info.meaning);
            let _ = writeln!(page, "| `{prefix}{name}` | {kind} | {meaning}{words} |");
        }
    }
    page
}

/// `docs/unwrap.md`.
pub fn unwrapping() -> String {
    let mut page = String::from(
        "# What was really asked\n\n\
         Made from the table in `router-policies/src/unwrap/rules.rs`; do not edit by hand (see `docs.rs` there).\n\n\
         Agents wrap what a person asked, and a router that reads the wrapping gives every request the same score. These \
         rules take it off, in this order, in one pass that is linear in the message; sections are those of the research \
         notes on OpenClaw. A text that begins with none of these passes as it is. System prompts and tools are never \
         read for the asked text.\n\n\
         | wrapping | where | effect | measured |\n|---|---|---|---|\n",
    );
    for rule in RULES {
        // A `|` would end the cell.
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} |",
            cell(rule.wrapping),
            cell(rule.place),
            cell(rule.effect),
            cell(rule.source)
        );
    }
    page.push_str(
        "\nWho asked (`trigger`) is taken from the first that knows: the header `x-weir-trigger` or the body's \
         `x_route_hint.trigger`; the wrapping; the session's name; the request's shape (one question, no tools, at most \
         256 tokens: an errand of the application, `utility`); else `retry` for a request that is made again (its text says so, or `x-weir-attempt` is above 1), and `user`.\n\
         The agent and the session come from `x-weir-agent`, `x-weir-session` (or OpenClaw's `x-openclaw-agent-id`, \
         `x-openclaw-session-key`, `x-session-affinity`), from `x_route_hint`, from `prompt_cache_key`, else from the \
         runtime line. Hints advise routing; whose request it is says its key alone.\n",
    );
    page
}
