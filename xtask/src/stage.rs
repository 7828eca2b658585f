//! Runs one child program at a time and says so in plain lines, with its wall time. Must never hide a program's
//! output or turn its failure into success.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What happened, stage by stage, for the closing table.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    done: Vec<(String, Duration)>,
}

impl Stages {
    /// Runs `work` as a stage of this name.
    pub(crate) fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("── {name}");
        let begun = Instant::now();
        let result = work();
        let took = begun.elapsed();
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("── {name}: {word} in {:.1} s", took.as_secs_f64());
        self.done.push((name.to_owned(), took));
        result
    }

    /// The closing table.
    pub(crate) fn print(&self) {
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        for (name, took) in &self.done {
            println!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        println!("{:>8.1} s  in all", total.as_secs_f64());
    }
}

/// The cargo that runs us.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root);
    command
}

/// Runs it with our own output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// What [`run_reading`] saw.
pub(crate) struct Read {
    /// Its standard output.
    pub(crate) text: String,
    /// Whether it succeeded.
    pub(crate) success: bool,
}

/// Runs it, shows its standard output line by line, and keeps it.
pub(crate) fn run_reading(command: &mut Command) -> Result<Read> {
    let shown = format!("{command:?}");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {shown}"))?;
    let mut text = String::new();
    if let Some(out) = child.stdout.take() {
        let mut lines = BufReader::new(out);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).context("reading a program's output")? > 0 {
            std::io::stdout().write_all(&line).context("stdout")?;
            text.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    let success = child.wait().with_context(|| format!("waiting for {shown}"))?.success();
    Ok(Read { text, success })
}
