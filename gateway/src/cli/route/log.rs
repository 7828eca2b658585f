//! Reads a request log for the commands that decide or simulate it again. Must never drop a line without counting it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail};
use weir_router_policies::replay::Logged;

/// Most lines kept; a longer log is read in pieces.
const LINES_MAX: usize = 2_000_000;
/// Reasons that are told apart.
const REASONS_MAX: usize = 12;

/// A log.
pub(super) struct Read {
    pub(super) lines: Vec<Logged>,
    /// Lines that could not be read, by why.
    pub(super) unread: BTreeMap<String, u64>,
}

pub(super) fn read(log: &Path) -> Result<Read> {
    let place = || log.display().to_string();
    let mut file = BufReader::new(std::fs::File::open(log).with_context(place)?);
    let mut read = Read { lines: Vec::new(), unread: BTreeMap::new() };
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line).with_context(place)? > 0 {
        if !line.trim_ascii().is_empty() {
            match Logged::read(&line) {
                Ok(logged) => read.lines.push(logged),
                Err(why) => {
                    let why = why.to_string();
                    let full = read.unread.len() >= REASONS_MAX && !read.unread.contains_key(&why);
                    *read.unread.entry(if full { "other reasons".to_owned() } else { why }).or_default() += 1;
                }
            }
        }
        line.clear();
        if read.lines.len() > LINES_MAX {
            bail!("{}: more than {LINES_MAX} lines; give it in pieces", log.display());
        }
    }
    if read.lines.is_empty() {
        let why: Vec<String> = read.unread.iter().map(|(why, count)| format!("{count} lines: {why}")).collect();
        let why = if why.is_empty() { "it is empty".to_owned() } else { why.join("; ") };
        bail!("{}: no line of it is a request's ({why})", log.display());
    }
    Ok(read)
}
