//! `weir doctor`: what this machine has, what Weir would use of it, and what is wrong with the config. Looks only: loads
//! no weights, keeps no socket, asks an upstream for nothing but the list of its models, Redis for nothing but accounts, and a
//! collector to take no span. One file for each thing it looks at; a new one is a file with a function `look` and a row of
//! [`LOOKS`]. Must never print a secret.

mod backends;
mod calls;
mod clock;
mod config;
mod gpu;
mod keys;
mod limits;
mod log;
mod machine;
mod models;
mod ports;
mod tls;
mod traces;

use std::cell::OnceCell;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::config::{ConfigErrors, Settings};

pub(super) use backends::unfit;
pub(super) use log::{unkept, unwritable};

/// A name and who looks.
type Look = (&'static str, fn(&Subject) -> Vec<Finding>);

/// What is looked at, in the order printed.
const LOOKS: [Look; 12] = [
    ("machine", machine::look),
    ("gpu", gpu::look),
    ("config", config::look),
    ("keys", keys::look),
    ("limits", limits::look),
    ("log", log::look),
    ("traces", traces::look),
    ("models", models::look),
    ("backends", backends::look),
    ("ports", ports::look),
    ("tls", tls::look),
    ("clock", clock::look),
];

/// What the looks are about.
struct Subject {
    /// The config, or what is wrong with it.
    settings: Result<Settings, ConfigErrors>,
    calls: OnceCell<Vec<calls::Called>>,
}

impl Subject {
    /// The upstreams, each asked once.
    fn calls(&self) -> &[calls::Called] {
        self.calls.get_or_init(|| self.settings.as_ref().map(calls::all).unwrap_or_default())
    }
}

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// `weir serve` would fail or suffer.
    Problem,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(text: impl Into<String>) -> Self {
        Finding { level: Level::Ok, text: text.into(), fix: None }
    }

    fn note(text: impl Into<String>) -> Self {
        Finding { level: Level::Note, text: text.into(), fix: None }
    }

    fn problem(text: impl Into<String>) -> Self {
        Finding { level: Level::Problem, text: text.into(), fix: None }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Finding { fix: Some(fix.into()), ..self }
    }
}

/// The findings of one look.
#[derive(Debug, Serialize)]
struct Section {
    name: &'static str,
    findings: Vec<Finding>,
}

/// Prints all findings; ends in an error where one of them is a problem.
pub(super) fn command(settings: Result<Settings, ConfigErrors>, json: bool) -> Result<()> {
    let subject = Subject { settings, calls: OnceCell::new() };
    let sections: Vec<Section> = LOOKS.iter().map(|(name, look)| Section { name, findings: look(&subject) }).collect();
    if json {
        println!("{}", serde_json::to_string_pretty(&sections)?);
    } else {
        print!("{}", text(&sections));
    }
    match problems(&sections) {
        0 => Ok(()),
        1 => bail!("1 problem"),
        many => bail!("{many} problems"),
    }
}

fn problems(sections: &[Section]) -> usize {
    let all = sections.iter().flat_map(|section| &section.findings);
    all.filter(|finding| finding.level == Level::Problem).count()
}

fn text(sections: &[Section]) -> String {
    let mut lines = Vec::new();
    for section in sections {
        for (index, finding) in section.findings.iter().enumerate() {
            let name = if index == 0 { section.name } else { "" };
            let mark = match finding.level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Problem => "PROBLEM",
            };
            lines.push(format!("{name:<9} {mark:<8} {}", finding.text));
            lines.extend(finding.fix.iter().map(|fix| format!("{:<9} {:<8}   → {fix}", "", "")));
        }
    }
    lines.join("\n") + "\n"
}

/// Bytes for people.
fn bytes(count: u64) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    const MIB: f64 = (1u64 << 20) as f64;
    let count = count as f64;
    if count >= GIB { format!("{:.1} GiB", count / GIB) } else { format!("{:.1} MiB", count / MIB) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_counted_and_shown_with_its_fix() {
        let findings = vec![Finding::ok("fine"), Finding::note("odd"), Finding::problem("bad").fix("mend it")];
        let sections = [Section { name: "part", findings }];
        assert_eq!(problems(&sections), 1);
        let text = text(&sections);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines[0].starts_with("part ") && lines[2].contains("PROBLEM") && lines[3].contains("→ mend it"),
            "{text}"
        );
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(bytes(1 << 19), "0.5 MiB");
    }
}
