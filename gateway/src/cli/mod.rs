//! The commands of the `weir` binary. Nothing here may be needed by a request.

mod check;
mod completions;
mod demo;
mod doctor;
#[cfg(test)]
mod documents;
mod generate;
mod key;
mod metrics_doc;
mod model;
mod policy;
mod route;
pub mod serve;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{ConfigErrors, Inputs, Settings};
use crate::layers::panics;
use crate::said;

/// A gateway with a built-in diffusion engine beside the AR backends you have.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How log lines look; they go to stderr, filtered by RUST_LOG.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer requests until SIGTERM or Ctrl-C.
    Serve(ConfigArgs),
    /// Explain a config: what would run, or what is wrong.
    Check(ConfigArgs),
    /// Look at this machine and the config: what would be used, what is wrong, what to do about it.
    Doctor {
        #[command(flatten)]
        config: ConfigArgs,
        /// Findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the main job on the embedded models: real requests over HTTP, who answered, why, and how fast.
    Demo {
        /// Keep serving afterwards, until Ctrl-C.
        #[arg(long)]
        serve: bool,
    },
    /// Answer at the terminal with a built-in engine, without the server: one prompt, or a conversation.
    Generate(generate::Args),
    /// Write the reference of all metrics, in Markdown.
    MetricsDoc {
        /// Where to; without it, to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Write what a shell needs to complete commands and flags.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Make, replace and list keys of tenants.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Fetch checkpoints, look at them, pack them.
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Check, test and lay out routing policies.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Explain where requests go, replay a log under another policy, simulate a fleet.
    #[command(subcommand)]
    Route(route::RouteCommand),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the config comes from.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// Config file; without it `weir.toml` in the working directory, if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on, over what the config says.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
}

impl ConfigArgs {
    fn inputs(self) -> Inputs {
        Inputs::from_process(self.config, self.listen)
    }

    fn load(self) -> Result<Settings, ConfigErrors> {
        crate::config::load(&self.inputs())
    }

    /// For commands that ask nobody: who writes policies need not have the keys of the service.
    fn load_to_read(self) -> Result<Settings, ConfigErrors> {
        crate::config::load(&Inputs { asks_nobody: true, ..self.inputs() })
    }
}

/// Runs the command the process was started with. The only place that turns an error into words and an exit code:
/// 0 done, 1 could not, 2 not understood.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // A server tells what it does; a command that prints an answer speaks up only in trouble.
    let _saying = said::start();
    start_log(cli.log_format, if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" });
    panics::log_place_only();
    if !matches!(cli.command, Command::Serve(_) | Command::Demo { .. }) {
        end_with_the_reader();
        end_without_paper();
    }
    let done = match cli.command {
        Command::Serve(args) => serve::command(args.inputs()),
        Command::Check(args) => args.load().map_err(anyhow::Error::from).and_then(|settings| check::command(&settings)),
        Command::Doctor { config, json } => doctor::command(config.load(), json),
        Command::Demo { serve } => demo::command(serve),
        Command::Generate(args) => generate::command(&args),
        Command::MetricsDoc { out } => metrics_doc::command(out.as_deref()),
        Command::Completions { shell } => completions::command(shell),
        Command::Key(command) => key::command(command),
        Command::Model(command) => model::command(command),
        Command::Policy(command) => policy::command(command),
        Command::Route(command) => route::command(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            said::complain(format_args!("weir: {error:#}"));
            if error.is::<generate::UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Lets `weir check | head` end quietly, as the system's own tools do, instead of failing at the closed pipe. Not for
/// what serves: there a reader of the output that leaves must not end the program.
fn end_with_the_reader() {
    #[cfg(unix)]
    // SAFETY: no other thread runs yet, and the default action needs no handler.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Lets `weir policy show balanced > file` on a full disk end with a line that says so, where `print!` would panic.
fn end_without_paper() {
    let other = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let why = panic.payload().downcast_ref::<String>();
        if let Some(why) = why.and_then(|text| text.strip_prefix("failed printing to stdout: ")) {
            said::complain(format_args!("weir: standard output: {why}"));
            said::flush();
            std::process::exit(1);
        }
        other(panic);
    }));
}

fn start_log(format: LogFormat, level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| said::Lines).with_ansi(colours);
    // A second start in one process keeps the first log.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => {
            said::in_json();
            log.json().try_init()
        }
    };
}
