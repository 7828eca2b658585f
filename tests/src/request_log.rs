//! Reads a request log as a strict reader does: whole lines, each a JSON object of the version it knows.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::wait::until;

/// All lines of a log; none where there is no file yet.
///
/// # Errors
/// A line is no JSON object of version 1, or the last has no end.
pub fn lines(file: &Path) -> Result<Vec<Value>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("the request log"),
    };
    ensure!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    let read = |line: &str| -> Result<Value> {
        let line: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        ensure!(line["v"] == 1, "another version: {line}");
        Ok(line)
    };
    text.lines().map(read).collect()
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
