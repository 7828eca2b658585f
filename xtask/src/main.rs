//! `cargo xtask`: the developer's commands. Every stage of CI is one of them, so that what fails there can be run here.
//! Must never hold a rule of the product: only how it is built, checked and measured.

mod avx512;
mod bench;
mod ci;
mod clients;
mod counts;
mod cuda;
mod dist;
mod fuzz;
mod metadata;
mod neon;
mod node;
mod openclaw;
mod router;
mod sanitize;
mod soak;
mod stage;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Weir's developer commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The house rules: file length, purpose comments, names, metrics in dashboards, crate arrows, licences.
    Tidy,
    /// Tidy, all Rust tests, and the real clients (Node 20).
    Test,
    /// Prints figures; JSON goes to target/bench/.
    Bench(bench::Args),
    /// The gateway under mixed load with faults, leavers, reloads and a Redis restart; judges what is left over.
    Soak(soak::Args),
    /// The binary to install, built by counts of what it does (component llvm-tools).
    Dist,
    /// Fuzzes one reader (nightly compiler); keeps its corpus in fuzz/corpus/.
    Fuzz(fuzz::Args),
    /// The kernels' tests under a sanitizer or Miri (nightly compiler).
    Sanitize(sanitize::Args),
    /// Makes PTX of the GPU kernels and checks the code behind the feature `cuda`; needs no GPU.
    Cuda,
    /// The kernels' tests on an emulated aarch64 (qemu-user, gcc-aarch64-linux-gnu).
    Neon,
    /// The kernels' tests on an emulated x86 CPU with AVX-512 and VNNI (Python 3, a wheel fetched into the cache).
    Avx512,
    /// The real OpenClaw (fetched into the cache) against the real binary: minutes, needs the network once.
    E2eOpenclaw,
    /// Makes the classifier's weights and card again; needs ../shared/data.
    RouterTrain(router::TrainArgs),
    /// Measures the shipped classifier and compares it with its card.
    RouterCard(router::CardArgs),
    /// Everything CI runs: fmt, clippy, deny, cuda where kernels/ changed, test, bench --smoke, soak --smoke.
    Ci {
        /// And what takes long: the kernels on emulated CPUs, the real OpenClaw.
        #[arg(long)]
        full: bool,
    },
}

fn main() -> ExitCode {
    if let Some(code) = dist::compile() {
        return code;
    }
    let done = match Cli::parse().command {
        Command::Tidy => tidy::run(),
        Command::Test => test::command(),
        Command::Bench(args) => bench::command(&args),
        Command::Soak(args) => soak::command(&args),
        Command::Dist => dist::command(),
        Command::Fuzz(args) => fuzz::command(&args),
        Command::Sanitize(args) => sanitize::command(&args),
        Command::Cuda => cuda::command(),
        Command::Neon => neon::command(),
        Command::Avx512 => avx512::command(),
        Command::E2eOpenclaw => openclaw::command(),
        Command::Ci { full } => ci::run(full),
        Command::RouterTrain(args) => router::train(&args),
        Command::RouterCard(args) => router::card(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
