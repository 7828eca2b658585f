//! `[request_log]`: as typed and as it runs. Must never open a file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::resolve::Checks;
use crate::record::redact::Redactor;

/// `[request_log]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestLogWritten {
    /// Whether each finished request gets a line. Default false.
    pub enabled: bool,
    /// Where lines are appended. Default empty: standard output.
    pub file: String,
    /// Whether lines hold prompts and answers, redacted. Default false.
    pub content: bool,
    /// Regular expressions (Rust `regex` syntax) of what is taken out of them, besides keys and e-mail addresses.
    /// Default: none.
    pub redact: Vec<String>,
}

/// `[request_log]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestLogSettings {
    /// Where lines go.
    pub target: LogTarget,
    /// What cleans prompts and answers; `None`: they are not kept.
    pub content: Option<Redactor>,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

impl Checks<'_> {
    pub(super) fn request_log(&mut self, typed: &RequestLogWritten) -> Option<RequestLogSettings> {
        let redactor = match Redactor::new(&typed.redact) {
            Ok(redactor) => redactor,
            Err((place, error)) => {
                // The reason alone: the message of the crate is a drawing of several lines.
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let help = "write it in the syntax of Rust's `regex`; a literal `(` is `\\\\(`";
                let path = ["request_log", "redact", &place.to_string()];
                self.say(&path, format!("not a regular expression: {reason}"), help);
                return None;
            }
        };
        if !typed.redact.is_empty() && !typed.content {
            self.say(&["request_log", "redact"], "nothing to redact", "without `content` no text is written at all");
        }
        let target = match typed.file.as_str() {
            "" => LogTarget::Stdout,
            file => LogTarget::File(self.base_dir(&["request_log", "file"]).join(file)),
        };
        typed.enabled.then(|| RequestLogSettings { target, content: typed.content.then_some(redactor) })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Inputs, load};

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, text).unwrap();
        let name = file.display().to_string();
        let error = load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap_err().to_string();
        assert_eq!(error.replace(&name, "FILE"), expect);
    }

    #[test]
    fn patterns_are_read_when_the_config_is() {
        check(
            "[request_log]\nenabled = true\ncontent = true\nredact = [\"ok\", \"(\"]",
            "FILE: `request_log.redact[1]`: not a regular expression: unclosed group\n  \
             help: write it in the syntax of Rust's `regex`; a literal `(` is `\\\\(`",
        );
        check(
            "[request_log]\nredact = [\"x\"]",
            "FILE: `request_log.redact`: nothing to redact\n  help: without `content` no text is written at all",
        );
    }

    #[test]
    fn a_file_lies_beside_the_config_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, "[request_log]\nenabled = true\nfile = \"log/requests.jsonl\"").unwrap();
        let settings = load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap().request_log.unwrap();
        assert_eq!(settings.target, super::LogTarget::File(folder.path().join("log/requests.jsonl")));
        assert!(settings.content.is_none());
    }
}
