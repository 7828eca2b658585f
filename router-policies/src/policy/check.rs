//! What was written → what runs: every mistake of a policy is found here, all of them at once. Must never repair a
//! mistake by guessing.

use std::collections::HashSet;

use toml::Spanned;
use weir_protocol::DiffusionOptions;

use super::condition::Condition;
use super::diagnostic::{Diagnostic, PolicyError, nearest, position};
use super::written::{WrittenAttempt, WrittenPolicy, WrittenRule};
use super::{Policy, Rule, Target, Wish};
use crate::facts::BackendRole;

/// The rule name plans for pinned models carry.
pub(super) const PIN: &str = "pin";

const ROLE_PREFIX: &str = "role:";
const MAX_RULES: usize = 200;
const MAX_LABEL_CHARS: usize = 64;
const MAX_REASON_CHARS: usize = 200;
const MAX_FIRST_CONTENT_MS: u64 = 600_000;

pub(super) fn parse(text: &str, origin: &str) -> Result<Policy, PolicyError> {
    let mut found = Findings { text, origin, diagnostics: Vec::new() };
    let written: WrittenPolicy = match toml::from_str(text) {
        Ok(written) => written,
        Err(error) => {
            found.toml_error(&error);
            return Err(PolicyError { diagnostics: found.diagnostics });
        }
    };
    let pin_fallback: Vec<Wish> = written.pins.fallback.iter().filter_map(|attempt| found.wish("", attempt)).collect();
    let rules: Vec<Rule> = written.rules.iter().filter_map(|rule| found.rule(rule)).collect();
    found.across_rules(&written.rules);
    if found.diagnostics.is_empty() {
        Ok(Policy { origin: origin.to_owned(), rules, pin_fallback })
    } else {
        Err(PolicyError { diagnostics: found.diagnostics })
    }
}

/// Collects mistakes, so that an operator sees all of them at once.
struct Findings<'a> {
    text: &'a str,
    origin: &'a str,
    diagnostics: Vec<Diagnostic>,
}

impl Findings<'_> {
    fn add(&mut self, at: Option<usize>, rule: &str, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic {
            origin: self.origin.to_owned(),
            position: at.map(|offset| position(self.text, offset)),
            rule: rule.to_owned(),
            message: message.into(),
            help: help.into(),
        });
    }

    fn toml_error(&mut self, error: &toml::de::Error) {
        let message = error.message();
        // Serde names the unknown word first and the known ones after it, each in backticks.
        let mut quoted = message.split('`').skip(1).step_by(2);
        let near = quoted.next().and_then(|word| nearest(word, quoted));
        let help = match near {
            Some(near) if message.starts_with("unknown") => format!("did you mean `{near}`?"),
            _ => String::new(),
        };
        self.add(error.span().map(|span| span.start), "", message.lines().collect::<Vec<_>>().join(" "), help);
    }

    /// A rule, if nothing in it is wrong.
    fn rule(&mut self, written: &WrittenRule) -> Option<Rule> {
        let before = self.diagnostics.len();
        let name = written.name.get_ref();
        self.label("name", name, &written.name);
        self.label("route", name, &written.route);
        self.reason(name, &written.reason);
        if name == PIN {
            self.add(
                Some(written.name.span().start),
                name,
                "`pin` is the name of plans for pinned models",
                "choose another name",
            );
        }
        let condition = match &written.when {
            None => None,
            Some(when) => match Condition::parse(when.get_ref()) {
                Ok(condition) => Some(condition),
                Err(fault) => {
                    self.add(Some(when.span().start), name, fault.message, fault.help);
                    None
                }
            },
        };
        if written.attempts.get_ref().is_empty() {
            self.add(
                Some(written.attempts.span().start),
                name,
                "the rule has no attempts",
                "name a backend: `attempts = [{ backend = \"role:ar\" }]`",
            );
        }
        let attempts = written.attempts.get_ref().iter().filter_map(|attempt| self.wish(name, attempt)).collect();
        (self.diagnostics.len() == before).then(|| Rule {
            name: name.clone(),
            condition,
            route: written.route.get_ref().clone(),
            reason: written.reason.get_ref().clone(),
            attempts,
        })
    }

    fn wish(&mut self, rule: &str, written: &WrittenAttempt) -> Option<Wish> {
        let before = self.diagnostics.len();
        let name = written.backend.get_ref();
        let at = Some(written.backend.span().start);
        let target = match name.strip_prefix(ROLE_PREFIX) {
            None => {
                self.label("backend", rule, &written.backend);
                Target::Named(name.clone())
            }
            Some(role) => match BackendRole::ALL.into_iter().find(|known| known.as_str() == role) {
                Some(role) => Target::Role(role),
                None => {
                    let known =
                        BackendRole::ALL.map(|known| format!("`{ROLE_PREFIX}{}`", known.as_str())).join(" and ");
                    self.add(at, rule, format!("unknown backend role `{role}`"), format!("there are {known}"));
                    return None;
                }
            },
        };
        let is_ar = target == Target::Role(BackendRole::Ar) || name == BackendRole::Ar.as_str();
        let decoding = self.decoding(rule, written, is_ar);
        if let Some(wait) = &written.first_content_ms
            && !(1..=MAX_FIRST_CONTENT_MS).contains(wait.get_ref())
        {
            let message = format!("`first_content_ms` is {}", wait.get_ref());
            self.add(
                Some(wait.span().start),
                rule,
                message,
                format!("between 1 and {MAX_FIRST_CONTENT_MS}; leave it out for the backend's own limit"),
            );
        }
        (self.diagnostics.len() == before).then(|| Wish {
            target,
            decoding,
            first_content_ms: written.first_content_ms.as_ref().map(|wait| *wait.get_ref()),
            position: position(self.text, written.backend.span().start),
        })
    }

    /// How the attempt's diffusion engine decodes where the caller says nothing.
    fn decoding(&mut self, rule: &str, written: &WrittenAttempt, is_ar: bool) -> DiffusionOptions {
        let table = written.diffusion.as_ref();
        let mut decoding = table.map(|table| table.get_ref().clone()).unwrap_or_default();
        let places = [
            ("mode", written.mode.as_ref().map(|mode| mode.span().start)),
            ("diffusion", table.map(|table| table.span().start)),
        ];
        for (field, at) in places.into_iter().filter(|(_, at)| is_ar && at.is_some()) {
            let message = format!("`{field}` is for diffusion engines");
            self.add(at, rule, message, "leave it out of an `ar` attempt");
        }
        if let Some(mode) = &written.mode
            && decoding.mode.replace(*mode.get_ref()).is_some()
        {
            self.add(Some(mode.span().start), rule, "`mode` is said twice", "leave it out of `diffusion`");
        }
        for wrong in decoding.out_of_range() {
            let message = format!("`diffusion.{}` {}", wrong.field, wrong.message);
            self.add(table.map(|table| table.span().start), rule, message, "");
        }
        decoding
    }

    /// A word that becomes a header and a metric label.
    fn label(&mut self, field: &str, rule: &str, written: &Spanned<String>) {
        let label = written.get_ref();
        let fine = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if label.is_empty() || label.len() > MAX_LABEL_CHARS || !fine {
            // A hostile name is not repeated as the name of its rule.
            let rule = if field == "name" { "" } else { rule };
            self.add(
                Some(written.span().start),
                rule,
                format!("`{field}` is not a plain word"),
                format!("letters, digits, `-`, `_` and `.`, at most {MAX_LABEL_CHARS}"),
            );
        }
    }

    /// A line that is returned in a header.
    fn reason(&mut self, rule: &str, written: &Spanned<String>) {
        let reason = written.get_ref();
        let fine = reason.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if reason.trim().is_empty() || reason.len() > MAX_REASON_CHARS || !fine {
            self.add(
                Some(written.span().start),
                rule,
                "`reason` is not one plain line",
                format!("it is returned in a header: printable ASCII, at most {MAX_REASON_CHARS} characters"),
            );
        }
    }

    fn across_rules(&mut self, rules: &[WrittenRule]) {
        if rules.len() > MAX_RULES {
            self.add(None, "", format!("the policy has {} rules, {MAX_RULES} are allowed", rules.len()), "");
        }
        let mut names = HashSet::<&str, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>::default();
        for rule in rules {
            let name = rule.name.get_ref();
            if !names.insert(name) {
                self.add(
                    Some(rule.name.span().start),
                    name,
                    "another rule has this name",
                    "names tell rules apart in plans and metrics",
                );
            }
        }
        match rules.iter().position(|rule| rule.when.is_none()) {
            None => self.add(
                None,
                "",
                "no rule applies to every request",
                "end with a rule without `when`, so that every request has a plan",
            ),
            Some(last) => {
                for rule in &rules[last + 1..] {
                    let message =
                        format!("never reached: `{}` before it applies to every request", rules[last].name.get_ref());
                    self.add(
                        Some(rule.name.span().start),
                        rule.name.get_ref(),
                        message,
                        "move it up, or give the other rule a `when`",
                    );
                }
            }
        }
    }
}
