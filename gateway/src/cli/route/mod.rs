//! `weir route`: what routing would do, and what it would have done. Asks no backend.

mod explain;
mod log;
mod recorded;
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
    /// Simulate a fleet under a policy: arrivals, mix, servers, queues and failures of a scenario file, or of a log.
    Simulate {
        /// The scenario (docs/simulate.md); with `--log` servers in place of those measured.
        #[arg(required_unless_present = "log")]
        scenario: Option<PathBuf>,
        /// A file that `[request_log]` wrote: its requests come again, to servers as it saw them work.
        #[arg(long)]
        log: Option<PathBuf>,
        /// How many times more of the log's requests come in a second.
        #[arg(long, requires = "log", default_value_t = 1.0)]
        load: f64,
        /// How the log's requests come.
        #[arg(long, requires = "log", value_enum, default_value_t)]
        arrivals: recorded::Arrivals,
        /// Write the servers measured from the log, to be edited and given again.
        #[arg(long, requires = "log", value_name = "FILE")]
        save: Option<PathBuf>,
        /// A policy file or profile instead of the config's.
        #[arg(long, value_name = "FILE_OR_PROFILE")]
        policy: Option<String>,
        /// Requests instead of the scenario's or the log's.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
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
            explain::command(&told, &config.load_to_read()?, json)
        }
        RouteCommand::Simulate { scenario, log, load, arrivals, save, policy, requests, seed, json, config } => {
            let told = simulate::Told { policy, requests, seed, json };
            let settings = config.load_to_read()?;
            match (log, scenario) {
                (Some(log), servers) => {
                    let from = recorded::From { log, load, arrivals, save, servers };
                    recorded::command(&from, &told, &settings)
                }
                (None, Some(scenario)) => simulate::command(&scenario, &told, &settings),
                (None, None) => anyhow::bail!("a scenario or --log must be given"),
            }
        }
        RouteCommand::Replay { log, policy, html, json, config } => {
            replay::command(&replay::Told { log, policy, html, json }, &config.load_to_read()?)
        }
    }
}
