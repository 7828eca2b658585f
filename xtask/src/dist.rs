//! `cargo xtask dist`: the binary that is to be installed. Built once to count what it does under the soak's mixed load, and
//! once more, the whole program at once, by these counts: a third less CPU a request (docs/speed.md). Takes a quarter of an
//! hour. Must never change what the program does, nor count under a load that a bench measures.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::stage::{self, Stages};
use crate::{metadata, soak};

/// The command.
pub(crate) fn command() -> Result<()> {
    let (root, target) = (metadata::root()?, metadata::target_dir()?);
    let merger = merger()?;
    let folder = target.join("counting");
    let (raw, counts) = (folder.join("raw"), folder.join("weir.profdata"));
    if raw.exists() {
        std::fs::remove_dir_all(&raw).with_context(|| raw.display().to_string())?;
    }
    let mut stages = Stages::default();
    stages.run("soak, built", || {
        stage::run(stage::cargo(&root).args(["build", "--release", "--package", "weir-tests", "--bin", "weir-soak"]))
    })?;
    stages.run("weir that counts, built", || {
        let mut build = build(&root, "release", &format!("-Cprofile-generate={}", raw.display()));
        stage::run(build.env("CARGO_TARGET_DIR", &folder))
    })?;
    stages.run("counted", || soak::run(&["--smoke"], &folder.join("release/weir")))?;
    stages.run("counts, merged", || {
        stage::run(Command::new(&merger).arg("merge").arg("--output").arg(&counts).arg(&raw))
    })?;
    stages.run("weir, built by them", || {
        stage::run(&mut build(&root, "dist", &format!("-Cprofile-use={}", counts.display())))
    })?;
    stages.print();
    println!("{}", target.join("dist/weir").display());
    Ok(())
}

/// `weir` alone, with one more flag for the compiler.
fn build(root: &Path, profile: &str, flag: &str) -> Command {
    let mut flags: OsString = std::env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(" ");
    flags.push(flag);
    let mut command = stage::cargo(root);
    command.args(["build", "--locked", "--package", "weir-gateway", "--bin", "weir", "--profile", profile]);
    command.env("RUSTFLAGS", flags);
    command
}

/// The compiler's own program that merges counts: another version would not read them.
fn merger() -> Result<PathBuf> {
    let told = Command::new("rustc").args(["--print", "target-libdir"]).output().context("rustc")?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&told.stdout).trim());
    let tool = libraries.with_file_name("bin").join(format!("llvm-profdata{}", std::env::consts::EXE_SUFFIX));
    if !tool.exists() {
        bail!("there is no {}: `rustup component add llvm-tools`", tool.display());
    }
    Ok(tool)
}
