//! The OpenClaw plugin's own tests, and the run of everything against the real OpenClaw. Must never install anything
//! into the repository or into the user's own OpenClaw.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::counts::{self, Counts};
use crate::{clients, metadata, stage, test};

/// The plugin's tests: Node 20, no OpenClaw, the real binary.
pub(crate) fn plugin_tests(root: &Path) -> Result<Counts> {
    let folder = root.join("openclaw-plugin");
    let tests: Vec<_> = std::fs::read_dir(folder.join("test"))
        .context("openclaw-plugin/test")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".test.js"))
        .collect();
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter=tap"]).args(tests).current_dir(&folder);
    counted(&mut command)
}

/// `cargo xtask e2e-openclaw`: builds, then the real OpenClaw against the real binary, scenario by scenario.
pub(crate) fn command() -> Result<()> {
    test::build(&metadata::root()?)?;
    let counts = end_to_end()?;
    println!("{counts}");
    test::verdict(counts)
}

/// The same for programs that are built already.
pub(crate) fn end_to_end() -> Result<Counts> {
    let root = metadata::root()?;
    let mut command = Command::new("node");
    command.arg(root.join("tests/openclaw/run.mjs")).env("WEIR_OPENCLAW_CACHE", clients::cache()?.join("openclaw"));
    counted(&mut command)
}

fn counted(command: &mut Command) -> Result<Counts> {
    let release = metadata::release_dir()?;
    let programs = command
        .env("WEIR_BIN", release.join("weir"))
        .env("WEIR_FAULT_UPSTREAM_BIN", release.join("weir-fault-upstream"));
    let ran = stage::run_reading(programs).context("Node 20 is needed")?;
    let mut counts = counts::of_node(&ran.text);
    if counts == Counts::default() {
        bail!("node ran no test");
    }
    if !ran.success && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}
