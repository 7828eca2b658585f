//! Rules about single files: length, purpose comment, name, lock files. The list of long files is a ratchet: an
//! exception that is no longer needed, or is looser than the file, is itself an error, so it can only shrink.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

const LINES_MAX: usize = 400;
const EXCEPTIONS: &str = "xtask/tidy-exceptions.txt";
/// Names that say nothing, so everything ends up in them.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "helper", "helpers", "common", "misc", "stuff"];

/// Complaints about the files git knows or would take.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let exceptions = std::fs::read_to_string(root.join(EXCEPTIONS)).with_context(|| EXCEPTIONS.to_owned())?;
    let mut exceptions = parse_exceptions(&exceptions)?;
    let mut complaints = Vec::new();
    for path in listed(root)? {
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        if path.ends_with(".rs") {
            complaints.extend(judge_source(&path, &text, exceptions.remove(path.as_str())));
        } else if path.ends_with("package-lock.json") && text.contains("\"resolved\": \"http") {
            complaints.push(format!("{path}: names a registry's host; install with omit-lockfile-registry-resolved"));
        }
    }
    complaints.extend(exceptions.keys().map(|path| format!("{EXCEPTIONS}: {path} does not exist: remove the line")));
    Ok(complaints)
}

fn judge_source(path: &str, text: &str, exception: Option<usize>) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    match exception {
        None if lines > LINES_MAX => {
            complaints.push(format!("{path}: {lines} lines, at most {LINES_MAX}: split it by what a reader looks for"));
        }
        Some(limit) if lines > limit => {
            complaints.push(format!("{path}: {lines} lines, its exception ends at {limit}"))
        }
        Some(_) if lines <= LINES_MAX => complaints.push(format!("{EXCEPTIONS}: {path} needs no exception any more")),
        Some(limit) if lines < limit => complaints.push(format!("{EXCEPTIONS}: lower {path} from {limit} to {lines}")),
        _ => {}
    }
    if !text.starts_with("//!") {
        complaints.push(format!("{path}: begins without a `//!` comment that says what it is for"));
    }
    let names = path.trim_end_matches(".rs").split('/');
    if let Some(name) = names.into_iter().find(|name| EMPTY_NAMES.contains(name)) {
        complaints.push(format!("{path}: `{name}` says nothing about what is inside"));
    }
    complaints
}

fn parse_exceptions(text: &str) -> Result<BTreeMap<&str, usize>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once(' ').map(|(path, limit)| (path, limit.trim().parse())) {
            Some((path, Ok(limit))) => Ok((path, limit)),
            _ => bail!("{EXCEPTIONS}: `{line}` is not `PATH LINES`"),
        })
        .collect()
}

/// Tracked files, and untracked ones that git does not ignore.
fn listed(root: &Path) -> Result<Vec<String>> {
    let git = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(git).current_dir(root).output().context("git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> String {
        format!("//! Purpose.\n{}", "\n".repeat(count - 1))
    }

    #[test]
    fn length_is_held_and_exceptions_only_shrink() {
        assert!(judge_source("a/src/b.rs", &lines(400), None).is_empty());
        assert_eq!(judge_source("a/src/b.rs", &lines(401), None).len(), 1);
        assert!(judge_source("a/src/b.rs", &lines(450), Some(450)).is_empty());
        assert_eq!(judge_source("a/src/b.rs", &lines(451), Some(450)).len(), 1, "grown");
        assert_eq!(judge_source("a/src/b.rs", &lines(449), Some(450)).len(), 1, "slack");
        assert_eq!(judge_source("a/src/b.rs", &lines(300), Some(450)).len(), 1, "not needed");
    }

    #[test]
    fn a_file_says_what_it_is_for_and_has_a_telling_name() {
        assert_eq!(judge_source("a/src/b.rs", "use std::fmt;\n", None).len(), 1);
        assert_eq!(judge_source("a/src/utils.rs", "//! Things.\n", None).len(), 1);
        assert_eq!(judge_source("a/src/common/fast.rs", "//! Things.\n", None).len(), 1);
    }

    #[test]
    fn a_broken_exception_line_is_an_error() {
        assert!(parse_exceptions("# why\nsrc/a.rs 420\n").is_ok_and(|list| list["src/a.rs"] == 420));
        assert!(parse_exceptions("src/a.rs many").is_err());
    }
}
