//! `cargo xtask sanitize`: the kernels' tests under the sanitizers of a nightly compiler. AddressSanitizer and
//! ThreadSanitizer see every instruction set this CPU has; Miri knows the plain code only and takes minutes. Must never
//! run in CI: it needs a nightly compiler.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::{metadata, stage};

/// What to look with.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum)]
    with: With,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum With {
    /// Memory outside of buffers, and after its end.
    Address,
    /// Data races; needs the component rust-src.
    Thread,
    /// Undefined behaviour of the plain code; needs the component miri.
    Miri,
}

/// The tests of the CPU kernels. Those of the GPU kernels run foreign code, which only their own checks can look into.
pub(crate) const TESTS: [&str; 10] =
    ["--test", "every_kernel", "--test", "attention", "--test", "packed", "--test", "routing", "--test", "team"];

/// The command.
pub(crate) fn command(args: &Args) -> Result<()> {
    let root = metadata::root()?;
    let host = "x86_64-unknown-linux-gnu";
    let mut command = Command::new("cargo");
    // Products of another compiler and other flags: beside the usual ones, not among them.
    command.arg("+nightly").env("CARGO_TARGET_DIR", root.join("target/sanitize")).env_remove("RUSTUP_TOOLCHAIN");
    match args.with {
        // Left to itself Miri gives the last bits of an exponential by chance, and tests compare such numbers.
        With::Miri => {
            command.args(["miri", "test"]).env("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-deterministic-floats")
        }
        With::Address => command.args(["test", "--release", "--target", host]).env("RUSTFLAGS", "-Zsanitizer=address"),
        With::Thread => {
            command.args(["test", "--release", "--target", host, "-Zbuild-std"]).env("RUSTFLAGS", "-Zsanitizer=thread")
        }
    };
    stage::run(command.args(["--package", "weir-kernels"]).args(TESTS).current_dir(root))
}
