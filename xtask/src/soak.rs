//! `cargo xtask soak`: builds and runs `weir-soak`, which judges. At low priority: the machine may have other work.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::stage::{self, Stages};
use crate::{metadata, test};

/// How long and how much.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long the load lasts.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// About 20 seconds: shows that all books agree, says nothing about memory.
    #[arg(long)]
    smoke: bool,
    /// What all choices are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Callers at once.
    #[arg(long, default_value_t = 6)]
    callers: u64,
}

/// The command.
pub(crate) fn command(args: &Args) -> Result<()> {
    test::build(&metadata::root()?)?;
    let minutes = format!("--minutes={}", args.minutes);
    let (seed, callers) = (format!("--seed={}", args.seed), format!("--callers={}", args.callers));
    let mut given = vec![minutes.as_str(), seed.as_str(), callers.as_str()];
    given.extend(args.smoke.then_some("--smoke"));
    run(&given, &weir()?)
}

/// Briefly; everything is built.
pub(crate) fn smoke(stages: &mut Stages) -> Result<()> {
    stages.run("soak", || run(&["--smoke"], &weir()?))
}

fn weir() -> Result<PathBuf> {
    Ok(metadata::release_dir()?.join("weir"))
}

/// On this binary; `weir-soak` is built.
pub(crate) fn run(arguments: &[&str], weir: &Path) -> Result<()> {
    let mut command = Command::new("nice");
    command.args(["-n", "5"]).arg(metadata::release_dir()?.join("weir-soak")).args(arguments).env("WEIR_BIN", weir);
    stage::run(&mut command)
}
