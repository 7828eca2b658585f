//! Whether what Weir writes can be written: the request log, and the file of learnt latencies. Leaves no file behind.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use super::{Finding, Subject};
use crate::config::Settings;
use crate::config::latency::written_first;
use crate::config::telemetry::LogTarget;

const LATENCY: &str = "latency.file";
const FIX: &str = "make its folder, let this user write there, or name another file";

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let Ok(settings) = &subject.settings else {
        return vec![Finding::note("not looked at: the config comes first")];
    };
    let mut findings = vec![match settings.telemetry.request_log.as_ref().map(|log| &log.target) {
        None => Finding::ok("no request log"),
        Some(LogTarget::Stdout) => Finding::ok("requests are logged to standard output"),
        Some(LogTarget::File(path)) => {
            judge("request_log.file", path, path, format!("requests are logged to {}", path.display()))
        }
    }];
    if let Some(path) = &settings.latency.file {
        let text = format!("what is learnt of latencies is kept in {}", path.display());
        findings.push(judge(LATENCY, path, &written_first(path), text));
    }
    findings
}

/// What keeps learnt latencies from being kept. The gateway starts all the same, and learns anew after a restart.
pub(in crate::cli) fn unkept(settings: &Settings) -> Option<String> {
    let path = settings.latency.file.as_ref()?;
    try_to_write(&written_first(path)).err().map(|error| refused(LATENCY, path, &error))
}

/// What keeps the request log from being written, for `weir check`: the gateway would not start.
pub(in crate::cli) fn unwritable(settings: &Settings) -> Option<String> {
    match &settings.telemetry.request_log.as_ref()?.target {
        LogTarget::File(path) => try_to_write(path).err().map(|error| refused("request_log.file", path, &error)),
        LogTarget::Stdout => None,
    }
    .map(|why| format!("{why}\n  help: {FIX}"))
}

/// `tried` is what is written in truth.
fn judge(key: &str, path: &Path, tried: &Path, fine: String) -> Finding {
    match try_to_write(tried) {
        Ok(()) => Finding::ok(fine),
        Err(error) => Finding::problem(refused(key, path, &error)).fix(FIX),
    }
}

fn refused(key: &str, path: &Path, error: &io::Error) -> String {
    format!("`{key}`: {} cannot be written: {error}", path.display())
}

fn try_to_write(path: &Path) -> io::Result<()> {
    if path.exists() {
        return OpenOptions::new().append(true).open(path).map(drop);
    }
    // Another name beside it: a gateway that runs may make the file itself meanwhile, and that one must stay.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".check-{}", std::process::id()));
    let tried = path.with_file_name(name);
    OpenOptions::new().create_new(true).append(true).open(&tried)?;
    std::fs::remove_file(tried)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_file_that_can_be_written_is_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        assert!(try_to_write(&path).is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
        std::fs::write(&path, "line\n").expect("a file");
        assert!(try_to_write(&path).is_ok());
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "line\n");
        assert!(try_to_write(&folder.path().join("no/log")).is_err());
    }

    #[test]
    fn both_files_are_looked_at_and_named_by_their_keys() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("weir.toml");
        let text = "[request_log]\nenabled = true\nfile = \"no/log\"\n[latency]\nfile = \"no/times\"";
        std::fs::write(&file, text).expect("a file");
        let settings = crate::config::load(&crate::config::Inputs { file: Some(file), ..Default::default() });
        let why = unwritable(settings.as_ref().expect("a config")).expect("a reason");
        assert!(why.starts_with("`request_log.file`: ") && why.contains("no/log") && why.contains("help: "), "{why}");
        let why = unkept(settings.as_ref().expect("a config")).expect("a reason");
        assert!(why.starts_with("`latency.file`: ") && why.contains("no/times"), "{why}");
        let findings = look(&Subject { settings, calls: std::cell::OnceCell::new() });
        let found: Vec<_> = findings.iter().map(|finding| (finding.level, finding.text.split(':').next())).collect();
        let expected = [Some("`request_log.file`"), Some("`latency.file`")].map(|key| (Level::Problem, key));
        assert_eq!(found, expected);
    }
}
