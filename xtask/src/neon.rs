//! `cargo xtask neon`: the kernels' tests as an aarch64 program, run by an emulator, so that the NEON loops are run
//! somewhere. What it takes and is not there is named, and counts as skipped. Must never measure: how long an emulator
//! takes says nothing about a CPU.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::counts::{self, Counts};
use crate::{metadata, sanitize, stage, test};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian's cross compiler has the libraries of the emulated machine.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// The command.
pub(crate) fn command() -> Result<()> {
    let counts = run(&metadata::root()?)?;
    println!("{counts}");
    test::verdict(counts)
}

/// Runs them, or says why not.
pub(crate) fn run(root: &Path) -> Result<Counts> {
    if let Some(missing) = missing()? {
        println!("neon: SKIPPED, the kernels were not run on an emulated aarch64: {missing}");
        return Ok(Counts { skipped: 1, ..Counts::default() });
    }
    let mut tests = stage::cargo(root);
    tests.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
    tests.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{EMULATOR} -cpu max -L {LIBRARIES}"));
    tests.args(["test", "--release", "--no-fail-fast", "--target", TARGET, "--package", "weir-kernels"]);
    let ran = stage::run_reading(tests.args(sanitize::TESTS))?;
    counts::of_cargo(&ran.text).of_run("cargo test", ran.success)
}

fn missing() -> Result<Option<String>> {
    for (program, package) in [(EMULATOR, "qemu-user"), (LINKER, "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")] {
        let mut asked = Command::new(program);
        asked.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if !asked.status().is_ok_and(|status| status.success()) {
            return Ok(Some(format!("{program} is missing (Debian: {package})")));
        }
    }
    let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let libraries = asked.context("rustc")?.stdout;
    let is_there = Path::new(String::from_utf8_lossy(&libraries).trim()).is_dir();
    Ok((!is_there).then(|| format!("the compiler cannot make such programs: `rustup target add {TARGET}`")))
}
