//! `[request_log]` and `[tracing]`: as typed and as it runs. Must never open a file or a connection.

use std::fmt;
use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::resolve::Checks;
use super::settings::Secret;
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

/// `[tracing]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingWritten {
    /// Where spans go.
    pub otlp: OtlpWritten,
}

/// `[tracing.otlp]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpWritten {
    /// A collector that speaks OTLP over HTTP (protobuf), such as `http://127.0.0.1:4318`. Default empty: no spans.
    pub endpoint: String,
    /// Environment variable with headers for it, `name=value,name=value`. Default empty: none.
    pub headers_env: String,
    /// Share of traces recorded, 0 to 1, where the caller has not decided it. Default 1.
    pub sample: f64,
    /// The name Weir has there. Default `weir`.
    pub service: String,
}

impl Default for OtlpWritten {
    fn default() -> Self {
        OtlpWritten { endpoint: String::new(), headers_env: String::new(), sample: 1.0, service: "weir".into() }
    }
}

/// What is recorded of requests, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TelemetrySettings {
    /// Lines.
    pub request_log: Option<RequestLogSettings>,
    /// Spans.
    pub otlp: Option<OtlpSettings>,
}

/// `[tracing.otlp]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpSettings {
    /// Where spans are posted to, path included.
    pub endpoint: String,
    /// Headers that go with them.
    pub headers: Vec<(String, Secret)>,
    /// Share of traces that begin here and are recorded.
    pub sample: f64,
    /// `service.name`.
    pub service: String,
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

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogTarget::Stdout => f.write_str("standard output"),
            LogTarget::File(path) => path.display().fmt(f),
        }
    }
}

/// Where collectors take spans.
const TRACES: &str = "v1/traces";

impl Checks<'_> {
    pub(super) fn telemetry(&mut self, log: &RequestLogWritten, tracing: &TracingWritten) -> TelemetrySettings {
        TelemetrySettings { request_log: self.request_log(log), otlp: self.otlp(&tracing.otlp) }
    }

    fn otlp(&mut self, typed: &OtlpWritten) -> Option<OtlpSettings> {
        if !(0.0..=1.0).contains(&typed.sample) {
            self.say(&["tracing", "otlp", "sample"], "must lie between 0 and 1", "");
        }
        if typed.endpoint.is_empty() {
            return None;
        }
        let path = ["tracing", "otlp", "endpoint"];
        let url = reqwest::Url::parse(&typed.endpoint).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some());
        let Some(mut url) = url else {
            self.say(&path, "not an http or https address", "write it like `http://127.0.0.1:4318`");
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            self.say(&path, "must not carry credentials or a query", "put them into a variable: `headers_env`");
            return None;
        }
        if url.path() == "/" {
            url.set_path(TRACES);
        }
        let headers = self.otlp_headers(&typed.headers_env)?;
        Some(OtlpSettings { endpoint: url.into(), headers, sample: typed.sample, service: typed.service.clone() })
    }

    fn otlp_headers(&mut self, variable: &str) -> Option<Vec<(String, Secret)>> {
        if variable.is_empty() {
            return Some(Vec::new());
        }
        let path = ["tracing", "otlp", "headers_env"];
        let Some(text) = self.variable(variable) else {
            self.no_variable(&path, "this key names the variable, not its value");
            return None;
        };
        let read = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            let (name, value) = (HeaderName::try_from(name.trim()).ok()?, value.trim());
            HeaderValue::try_from(value).ok()?;
            Some((name.as_str().to_owned(), Secret::new(value)))
        };
        let headers: Option<Vec<_>> = text.split(',').map(read).collect();
        if headers.is_none() {
            self.say(&path, "the variable holds no headers", "write them like `name=value,name=value`");
        }
        headers
    }

    fn request_log(&mut self, typed: &RequestLogWritten) -> Option<RequestLogSettings> {
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
    use crate::config::tests::check_error;
    use crate::config::{Inputs, load};

    #[test]
    fn patterns_are_read_when_the_config_is() {
        check_error(
            "[request_log]\nenabled = true\ncontent = true\nredact = [\"ok\", \"(\"]",
            "FILE: `request_log.redact[1]`: not a regular expression: unclosed group\n  \
             help: write it in the syntax of Rust's `regex`; a literal `(` is `\\\\(`",
        );
        check_error(
            "[request_log]\nredact = [\"x\"]",
            "FILE: `request_log.redact`: nothing to redact\n  help: without `content` no text is written at all",
        );
    }

    #[test]
    fn a_collector_is_an_address_without_secrets() {
        check_error(
            "[tracing.otlp]\nendpoint = \"localhost:4318\"\nsample = 2.0",
            "FILE: `tracing.otlp.sample`: must lie between 0 and 1\n\
             FILE: `tracing.otlp.endpoint`: not an http or https address\n  help: write it like `http://127.0.0.1:4318`",
        );
        check_error(
            "[tracing.otlp]\nendpoint = \"http://a:b@127.0.0.1:4318\"",
            "FILE: `tracing.otlp.endpoint`: must not carry credentials or a query\n  \
             help: put them into a variable: `headers_env`",
        );
        check_error(
            "[tracing.otlp]\nendpoint = \"http://127.0.0.1:4318\"\nheaders_env = \"NO_SUCH_VARIABLE\"",
            "FILE: `tracing.otlp.headers_env`: no such environment variable\n  \
             help: this key names the variable, not its value",
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        let text = "[tracing.otlp]\nendpoint = \"http://127.0.0.1:4318\"\nheaders_env = \"OTLP\"";
        std::fs::write(&file, text).unwrap();
        let env = vec![("OTLP".to_owned(), "x-token=secret, other = 2".to_owned())];
        let otlp = load(&Inputs { file: Some(file), env, ..Inputs::default() }).unwrap().telemetry.otlp.unwrap();
        assert_eq!(otlp.endpoint, "http://127.0.0.1:4318/v1/traces");
        let headers: Vec<_> = otlp.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(headers, [("x-token", "secret"), ("other", "2")]);
        assert!(!format!("{otlp:?}").contains("secret"));
    }

    #[test]
    fn a_file_lies_beside_the_config_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, "[request_log]\nenabled = true\nfile = \"log/requests.jsonl\"").unwrap();
        let settings = load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap().telemetry.request_log.unwrap();
        assert_eq!(settings.target, super::LogTarget::File(folder.path().join("log/requests.jsonl")));
        assert!(settings.content.is_none());
    }
}
