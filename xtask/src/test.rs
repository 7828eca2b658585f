//! `cargo xtask test`: tidy, the Rust tests, then what runs against the real binary: clients, the plugin, a real
//! Prometheus over the dashboards, the deployment files. Goes on after a failure,
//! so that one run shows everything, and must then still fail.

use std::path::Path;

use anyhow::{Result, bail};

use crate::counts::{self, Counts};
use crate::stage::{self, Stages};
use crate::{clients, metadata, node, openclaw, tidy};

/// The command: all stages, the table, the sum.
pub(crate) fn command() -> Result<()> {
    let mut stages = Stages::default();
    let result = run(&mut stages);
    stages.print();
    let counts = result?;
    println!("{counts}");
    verdict(counts)
}

/// A run without tests, or with a failed one, is a failure.
pub(crate) fn verdict(counts: Counts) -> Result<()> {
    if counts.failed > 0 || counts.passed == 0 {
        bail!("{counts}");
    }
    Ok(())
}

/// Runs the stages; an error means that something could not be run at all.
pub(crate) fn run(stages: &mut Stages) -> Result<Counts> {
    let root = metadata::root()?;
    stages.run("tidy", tidy::run)?;
    stages.run("build", || build(&root))?;
    let mut sum = stages.run("rust tests", || rust(&root))?;
    sum += stages.run("client tests", || clients::run(&root))?;
    sum += stages.run("plugin tests", || openclaw::plugin_tests(&root))?;
    sum += stages.run("dashboards", || node::dashboards(&root))?;
    sum += stages.run("deployment files", || clients::deployment(&root))?;
    Ok(sum)
}

/// One build for tests, programs and benches: a second one with other features would cost as much again.
pub(crate) fn build(root: &Path) -> Result<()> {
    stage::run(stage::cargo(root).args(["build", "--release", "--workspace", "--all-targets"]))
}

fn rust(root: &Path) -> Result<Counts> {
    let binary = metadata::release_dir()?.join("weir");
    let ran = stage::run_reading(
        stage::cargo(root).args(["test", "--release", "--workspace", "--no-fail-fast"]).env("WEIR_BIN", binary),
    )?;
    counts::of_cargo(&ran.text).of_run("cargo test", ran.success)
}
