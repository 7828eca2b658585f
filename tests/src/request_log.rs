//! Reads a request log as a strict reader does: whole lines, each a JSON object of the version it knows.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::wait::until;

/// All lines of a log; none where there is no file yet.
///
/// # Errors
/// A line is no JSON object of version 1, or the last has no end.
pub fn lines(file: &Path) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    each(file, |line| all.push(line))?;
    Ok(all)
}

/// The ids of a log's requests: of a log too long to hold, all that is needed to count it.
///
/// # Errors
/// As [`lines`].
pub fn ids(file: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    each(file, |line| all.push(line["id"].as_str().unwrap_or_default().to_owned()))?;
    Ok(all)
}

fn each(file: &Path, mut take: impl FnMut(Value)) -> Result<()> {
    let mut reader = match File::open(file) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context("the request log"),
    };
    let mut line = String::new();
    while reader.read_line(&mut line).context("the request log")? > 0 {
        ensure!(line.ends_with('\n'), "the last line has no end");
        let read: Value = serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))?;
        ensure!(read["v"] == 1, "another version: {line}");
        take(read);
        line.clear();
    }
    Ok(())
}

/// Waits until there are so many.
///
/// # Errors
/// There never were, or a line is broken.
pub async fn lines_until(file: &Path, count: usize) -> Result<Vec<Value>> {
    // A line that is being written is looked at again.
    let enough = || async { lines(file).ok().filter(|lines| lines.len() >= count) };
    until(&format!("the request log has {count} lines"), enough).await
}
