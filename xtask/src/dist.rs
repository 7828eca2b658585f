//! `cargo xtask dist`: the binary that is to be installed. Built once to count what it does under the soak's mixed load and
//! the bench's plain one, and once more, the whole program at once, by these counts (docs/speed.md). Takes a quarter of an
//! hour. Must never count what the engine does: what a small model on this CPU does not do is no rare case.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::stage::{self, Stages};
use crate::{metadata, soak};

/// The flag for [`compile`].
const FLAG: &str = "WEIR_DIST_FLAG";

/// Crates that are compiled as ever: their loops are written for models, shapes and CPUs that this machine does not have.
const SPARED: [&str; 2] = ["weir_kernels", "weir_diffusion_engine"];

/// The command.
pub(crate) fn command() -> Result<()> {
    let (root, target) = (metadata::root()?, metadata::target_dir()?);
    let merger = merger()?;
    let folder = target.join("counted");
    let (raw, counts) = (folder.join("raw"), folder.join("weir.profdata"));
    let mut stages = Stages::default();
    stages.run("loads, built", || {
        let loads = ["--bin", "weir-soak", "--bin", "weir-bench"];
        stage::run(stage::cargo(&root).args(["build", "--release", "--package", "weir-tests"]).args(loads))
    })?;
    stages.run("weir that counts, built", || {
        build(&root, &folder, "release", &format!("-Cprofile-generate={}", raw.display()))
    })?;
    // Programs that ran while it was built counted, too.
    remove(&raw)?;
    let counting = folder.join("release/weir");
    stages.run("counted, mixed", || soak::run(&["--smoke"], &counting))?;
    let bench = metadata::release_dir()?.join("weir-bench");
    stages.run("counted, plain", || stage::run(Command::new(&bench).arg("gateway").env("WEIR_BIN", &counting)))?;
    stages.run("counts, merged", || {
        stage::run(Command::new(&merger).arg("merge").arg("--output").arg(&counts).arg(&raw))
    })?;
    // Cargo does not see that the counts are others.
    remove(&folder.join("dist"))?;
    stages
        .run("weir, built by them", || build(&root, &folder, "dist", &format!("-Cprofile-use={}", counts.display())))?;
    let built = folder.join("weir");
    std::fs::copy(folder.join("dist/weir"), &built).with_context(|| built.display().to_string())?;
    stages.print();
    println!("{}", built.display());
    Ok(())
}

/// `weir` alone, all crates but the spared ones with one more flag. A flag in `RUSTFLAGS` would be all crates'.
fn build(root: &Path, folder: &Path, profile: &str, flag: &str) -> Result<()> {
    let own = std::env::current_exe().context("where this program lies")?;
    let mut command = stage::cargo(root);
    command.args(["build", "--locked", "--package", "weir-gateway", "--bin", "weir", "--profile", profile]);
    stage::run(command.env("CARGO_TARGET_DIR", folder).env("RUSTC_WRAPPER", own).env(FLAG, flag))
}

/// What cargo calls in the compiler's place while [`build`] runs: `None` at any other time.
pub(crate) fn compile() -> Option<ExitCode> {
    let flag = std::env::var_os(FLAG)?;
    let mut given = std::env::args_os().skip(1);
    let compiler = given.next()?;
    let given: Vec<OsString> = given.collect();
    let name = given.iter().skip_while(|word| *word != "--crate-name").nth(1).and_then(|name| name.to_str());
    let takes = name.is_some_and(|name| !SPARED.contains(&name));
    let status = Command::new(compiler).args(&given).args(takes.then_some(flag)).env_remove(FLAG).status();
    let code = status.ok().and_then(|status| u8::try_from(status.code()?).ok());
    Some(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
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
