//! `cargo xtask ci`: what CI runs, stage by stage, cheapest first. The test counts are its last line.

use anyhow::{Context, Result};

use crate::stage::{self, Stages};
use crate::{avx512, bench, cuda, metadata, neon, openclaw, soak, test};

/// Runs everything; with `full` also what takes long.
pub(crate) fn run(full: bool) -> Result<()> {
    let mut stages = Stages::default();
    let result = all(&mut stages, full);
    stages.print();
    let counts = result?;
    println!("{counts}");
    test::verdict(counts)
}

fn all(stages: &mut Stages, full: bool) -> Result<crate::counts::Counts> {
    let root = metadata::root()?;
    stages.run("fmt", || stage::run(stage::cargo(&root).args(["fmt", "--all", "--check"])))?;
    stages.run("clippy", || {
        let lint = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
        stage::run(stage::cargo(&root).args(lint))
    })?;
    stages.run("deny", || deny(&root))?;
    let mut counts = cuda::when_changed(&root, stages)?;
    counts += test::run(stages)?;
    bench::smoke(&root, stages)?;
    soak::smoke(stages)?;
    if full {
        counts += stages.run("kernels with AVX-512", || avx512::where_lacking(&root))?;
        counts += stages.run("kernels on aarch64", || neon::run(&root))?;
        counts += stages.run("the real OpenClaw", openclaw::end_to_end)?;
    }
    Ok(counts)
}

/// Compiling cargo-deny takes longer than all our own tests, so it runs where somebody installed it. `tidy` holds the
/// licence and ban lists of `deny.toml` everywhere. Advisories need their database from the network: by hand.
fn deny(root: &std::path::Path) -> Result<()> {
    let there = stage::cargo(root)
        .args(["deny", "--version"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .context("cargo")?
        .success();
    if !there {
        println!("cargo-deny is not installed; `cargo xtask tidy` checks bans and licences of deny.toml");
        return Ok(());
    }
    stage::run(stage::cargo(root).args(["deny", "--all-features", "check", "bans", "licenses", "sources"]))
}
