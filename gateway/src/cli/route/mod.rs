//! `weir route`: what routing would do, and what it would have done. Asks no backend.

mod explain;
mod render;
mod replay;
mod report;
mod simulate;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use super::ConfigArgs;

#[derive(Debug, Subcommand)]
pub(super) enum RouteCommand {
    /// Explain where a request would go: what was understood, each rule with what it came to, the plan.
    Explain {
        /// File with a request's body, in any dialect; `-` reads it from a pipe.
        file: PathBuf,
        /// A policy file or profile instead of the config's.
        #[arg(long, value_name = "FILE_OR_PROFILE")]
        policy: Option<String>,
        /// Dialect of the body: openai_chat, openai_responses, anthropic_messages, openai_completions. Told from its
        /// shape when left out.
        #[arg(long)]
        dialect: Option<String>,
        /// Tenant to ask as.
        #[arg(long)]
        tenant: Option<String>,
        /// As `POST /v1/route/explain` answers.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Simulate a fleet under a policy: arrivals, mix, servers, queues and failures of a scenario file.
    Simulate {
        /// The scenario (docs/simulate.md).
        scenario: PathBuf,
        /// A policy file or profile instead of the config's.
        #[arg(long, value_name = "FILE_OR_PROFILE")]
        policy: Option<String>,
        /// Requests instead of the scenario's.
        #[arg(long)]
        requests: Option<u64>,
        /// Seed instead of the scenario's.
        #[arg(long)]
        seed: Option<u64>,
        /// The result as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Make the decisions of a request log again under another policy: what moves, and what that is expected to change.
    Replay {
        /// A file that `[request_log]` wrote.
        log: PathBuf,
        /// A policy file or profile instead of the config's.
        #[arg(long, value_name = "FILE_OR_PROFILE")]
        policy: Option<String>,
        /// Write a page with plots.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// The result as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) fn command(command: RouteCommand) -> Result<()> {
    match command {
        RouteCommand::Explain { file, policy, dialect, tenant, json, config } => {
            let told = explain::Told { file, policy, dialect, tenant };
            explain::command(&told, &config.load()?, json)
        }
        RouteCommand::Simulate { scenario, policy, requests, seed, json, config } => {
            let told = simulate::Told { scenario, policy, requests, seed };
            simulate::command(&told, &config.load()?, json)
        }
        RouteCommand::Replay { log, policy, html, json, config } => {
            replay::command(&replay::Told { log, policy, html, json }, &config.load()?)
        }
    }
}
