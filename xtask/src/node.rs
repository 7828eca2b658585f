//! Tests that are written for Node and run the programs we built. Must never count a run that says nothing as a success.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::counts::{self, Counts};
use crate::{metadata, stage};

/// A real Prometheus over a real Weir: every panel, rule and alert. Skipped, and said so, where there is none.
pub(crate) fn dashboards(root: &Path) -> Result<Counts> {
    counted(Command::new("node").args(["--test", "--test-reporter=tap"]).arg(root.join("tests/dashboards/run.mjs")))
}

/// Runs it with the names of our programs, and reads node's closing lines.
pub(crate) fn counted(command: &mut Command) -> Result<Counts> {
    let release = metadata::release_dir()?;
    let programs = command
        .env("WEIR_BIN", release.join("weir"))
        .env("WEIR_FAULT_UPSTREAM_BIN", release.join("weir-fault-upstream"));
    let ran = stage::run_reading(programs).context("Node 20 is needed")?;
    counts::of_node(&ran.text).of_run("node", ran.success)
}
