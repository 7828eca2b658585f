//! Whether the request log can be written. Leaves no file behind.

use std::fs::OpenOptions;
use std::path::Path;

use super::{Finding, Subject};
use crate::config::telemetry::LogTarget;

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let Ok(settings) = &subject.settings else {
        return vec![Finding::note("not looked at: the config comes first")];
    };
    vec![match settings.telemetry.request_log.as_ref().map(|log| &log.target) {
        None => Finding::ok("no request log"),
        Some(LogTarget::Stdout) => Finding::ok("requests are logged to standard output"),
        Some(LogTarget::File(path)) => judge(path),
    }]
}

fn judge(path: &Path) -> Finding {
    let is_new = !path.exists();
    let shown = path.display();
    match OpenOptions::new().create(true).append(true).open(path) {
        Ok(_) => {
            if is_new {
                // Not there to stay; an empty file does no harm either.
                let _ = std::fs::remove_file(path);
            }
            Finding::ok(format!("requests are logged to {shown}"))
        }
        Err(error) => Finding::problem(format!("the request log {shown} cannot be written: {error}"))
            .fix("make its folder, let this user write there, or set `request_log.file`"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_file_that_can_be_written_is_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        assert_eq!((judge(&path).level, path.exists()), (Level::Ok, false));
        std::fs::write(&path, "line\n").expect("a file");
        assert_eq!(judge(&path).level, Level::Ok);
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "line\n");
        assert_eq!(judge(&folder.path().join("no/log")).level, Level::Problem);
    }
}
