//! `cargo xtask avx512`: the kernels' tests on an emulated x86 CPU that has AVX-512 with VNNI and AVX-VNNI, so that those
//! loops are run where the machine has none. The emulator is Bochs's CPU, out of a wheel (`tests/emulated`). What it takes
//! and is not there is named, and counts as skipped. Must never measure: how long an emulator takes says nothing about a CPU.

use std::path::Path;

use anyhow::Result;

use crate::counts::{self, Counts};
use crate::{clients, metadata, stage, test};

/// Kernels that are rarely to be had; the others are tested without an emulator.
const KERNELS: &str = "avx512,avx512-vnni,avx2-vnni";
/// The tests that go through all kernels. There are no threads.
const TESTS: [&str; 6] = ["--test", "every_kernel", "--test", "attention", "--test", "packed"];

/// The command.
pub(crate) fn command() -> Result<()> {
    let counts = run(&metadata::root()?)?;
    println!("{counts}");
    test::verdict(counts)
}

/// What CI runs: nothing where the CPU itself has the instructions, and `cargo test` has been through them.
pub(crate) fn where_lacking(root: &Path) -> Result<Counts> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vnni") {
        println!("avx512: this CPU has it");
        return Ok(Counts::default());
    }
    run(root)
}

fn run(root: &Path) -> Result<Counts> {
    let folder = root.join("tests/emulated");
    let interpreter = match cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        true => clients::python_installed(&folder),
        false => Err(anyhow::anyhow!("it is for programs of Linux on x86-64")),
    };
    let interpreter = match interpreter {
        Ok(interpreter) => interpreter,
        Err(error) => {
            println!("avx512: SKIPPED, the kernels were not run on an emulated CPU: {error:#}");
            return Ok(Counts { skipped: 1, ..Counts::default() });
        }
    };
    let runner = format!("{} {}", interpreter.display(), folder.join("x86.py").display());
    let mut tests = stage::cargo(root);
    tests.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner).env("WEIR_TEST_KERNELS", KERNELS);
    // Naming what a backtrace goes through takes the emulator longer than the tests.
    tests.env("RUST_BACKTRACE", "0").args(["test", "--release", "--no-fail-fast", "--package", "weir-kernels"]);
    let ran = stage::run_reading(tests.args(TESTS).args(["--", "--test-threads=1"]))?;
    counts::of_cargo(&ran.text).of_run("cargo test", ran.success)
}
