//! The OpenClaw plugin's own tests, and the run of everything against the real OpenClaw. Must never install anything
//! into the repository or into the user's own OpenClaw.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::counts::Counts;
use crate::node::counted;
use crate::{clients, metadata, test};

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
