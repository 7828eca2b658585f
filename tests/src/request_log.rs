//! Reads a request log as a strict reader does: whole lines, each a JSON object of the version it knows.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::wait::until;

/// All lines of a log; none where there is no file yet.
///
/// # Errors
/// A line is no JSON object of version 1, or the last has no end.
pub fn lines(file: &Path) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    each(file, 0, |line| all.push(line))?;
    Ok(all)
}

/// The ids of a log's requests: of a log too long to hold, all that is needed to count it.
///
/// # Errors
/// As [`lines`].
pub fn ids(file: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    each(file, 0, |line| all.push(line["id"].as_str().unwrap_or_default().to_owned()))?;
    Ok(all)
}

/// From byte `from` on; where it ends.
fn each(file: &Path, from: u64, mut take: impl FnMut(Value)) -> Result<u64> {
    let mut reader = match File::open(file) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(from),
        Err(error) => return Err(error).context("the request log"),
    };
    let mut end = reader.seek(SeekFrom::Start(from)).context("the request log")?;
    let mut line = String::new();
    while reader.read_line(&mut line).context("the request log")? > 0 {
        ensure!(line.ends_with('\n'), "the last line has no end");
        let read: Value = serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))?;
        ensure!(read["v"] == 1, "another version: {line}");
        take(read);
        end += line.len() as u64;
        line.clear();
    }
    Ok(end)
}

/// A log that is read piece by piece.
pub struct Pieces {
    file: PathBuf,
    end: u64,
}

impl Pieces {
    /// Of a log of which nothing was read.
    pub fn of(file: &Path) -> Self {
        Pieces { file: file.to_owned(), end: 0 }
    }

    /// Waits for the next `count` lines and takes all there are.
    ///
    /// # Errors
    /// As [`lines_until`].
    pub async fn next(&mut self, count: usize) -> Result<Vec<Value>> {
        let (file, from) = (&self.file, self.end);
        let enough = || async move {
            let mut piece = Vec::new();
            let end = each(file, from, |line| piece.push(line)).ok()?;
            (piece.len() >= count).then_some((piece, end))
        };
        let (piece, end) = until(&format!("the request log has {count} more lines"), enough).await?;
        self.end = end;
        Ok(piece)
    }
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
