//! What was written → what runs: every mistake of a policy is found here, all of them at once. Must never repair a
//! mistake by guessing.

use std::collections::BTreeSet;

use toml::Spanned;
use weir_protocol::DiffusionOptions;

use super::condition::Condition;
use super::diagnostic::{Diagnostic, PolicyError, position};
use super::files::{self, File, ReadFile};
use super::node::Node;
use super::reach;
use super::testing::PolicyTest;
use super::written::{WrittenAttempt, WrittenCondense, WrittenDefaults, WrittenRule};
use super::{Condense, Policy, Rule, Target, Wish};
use crate::condense::{CondenseSettings, limits};
use crate::facts::BackendRole;

/// The rule name plans for pinned models carry.
pub const PIN: &str = "pin";

const ROLE_PREFIX: &str = "role:";
const MAX_RULES: usize = 200;
const MAX_LABEL_CHARS: usize = 64;
const MAX_REASON_CHARS: usize = 200;
const MAX_FIRST_CONTENT_MS: u64 = 600_000;
const MAX_WEIGHT: u64 = 1000;

pub(super) fn parse(text: &str, origin: &str, read: ReadFile<'_>) -> Result<Policy, PolicyError> {
    let files = files::read(text, origin, read).map_err(|diagnostics| PolicyError { diagnostics })?;
    let mut found = Findings { text, origin, diagnostics: Vec::new(), condense: None };
    let mut policy = Policy {
        origin: origin.to_owned(),
        files: files.iter().map(|file| file.origin.clone()).collect(),
        rules: Vec::new(),
        pin_fallback: Vec::new(),
        named: BTreeSet::new(),
        condense: None,
        tests: Vec::new(),
    };
    for file in &files {
        (found.text, found.origin) = (&file.text, &file.origin);
        found.file(file, &mut policy);
    }
    policy.condense = found.condense.take();
    found.across_rules(&policy, &files);
    if found.diagnostics.is_empty() {
        policy.named =
            policy.rules.iter().filter_map(|rule| Some(rule.condition.as_ref()?.named.clone())).flatten().collect();
        Ok(policy)
    } else {
        Err(PolicyError { diagnostics: found.diagnostics })
    }
}

/// Collects mistakes, so that an operator sees all of them at once.
struct Findings<'a> {
    text: &'a str,
    origin: &'a str,
    diagnostics: Vec<Diagnostic>,
    condense: Option<CondenseSettings>,
}

impl<'a> Findings<'a> {
    fn add(&mut self, at: Option<usize>, rule: &str, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic {
            origin: self.origin.to_owned(),
            position: at.map(|offset| position(self.text, offset)),
            rule: rule.to_owned(),
            message: message.into(),
            help: help.into(),
        });
    }

    /// The parts of one file; the including file's pins, condensation and tests win over the included ones'.
    fn file(&mut self, file: &'a File, policy: &mut Policy) {
        let written = &file.written;
        let defaults = &written.defaults;
        if let Some(wait) = &defaults.first_content_ms {
            self.wait("", wait);
        }
        if let Some(condense) = &written.condense {
            self.condense = self.condensation(condense).or(self.condense.take());
        }
        if let Some(pins) = &written.pins {
            policy.pin_fallback = pins
                .fallback
                .iter()
                .filter_map(|attempt| self.wish("", attempt, &WrittenDefaults::default()))
                .collect();
        }
        let rules = written.rules.iter().filter_map(|rule| self.rule(rule, defaults)).collect::<Vec<_>>();
        policy.rules.extend(rules);
        policy.tests.clear();
        for test in &written.tests {
            match PolicyTest::of(test, self.origin, position(self.text, test.name.span().start)) {
                Ok(test) => policy.tests.push(test),
                Err((message, help)) => {
                    let at = test.given.as_ref().map_or(test.name.span().start, |given| given.span().start);
                    self.add(Some(at), "", format!("test `{}`: {message}", test.name.get_ref()), help);
                }
            }
        }
    }

    fn condensation(&mut self, written: &WrittenCondense) -> Option<CondenseSettings> {
        let before = self.diagnostics.len();
        let instructions = written.instructions.get_ref();
        if instructions.trim().is_empty() || instructions.len() > limits::INSTRUCTIONS_BYTES {
            let message = format!("`instructions` has {} bytes", instructions.len());
            let help = format!("say in 1 to {} bytes what the model shall do", limits::INSTRUCTIONS_BYTES);
            self.add(Some(written.instructions.span().start), "", message, help);
        }
        let mut number = |field: &str, typed: &Option<Spanned<u64>>, default: u64, most: u64| {
            let Some(typed) = typed else { return default };
            let value = *typed.get_ref();
            let least = u64::from(field == "max_bytes");
            if !(least..=most).contains(&value) {
                let message = format!("`{field}` is {value}");
                self.add(Some(typed.span().start), "", message, format!("from {least} to {most}"));
            }
            value
        };
        let settings = CondenseSettings {
            instructions: instructions.clone(),
            turns: number("turns", &written.turns, limits::TURNS, limits::MOST_TURNS),
            max_bytes: number("max_bytes", &written.max_bytes, limits::BYTES, limits::MOST_BYTES),
            max_tools: number("max_tools", &written.max_tools, limits::TOOLS, limits::MOST_TOOLS),
        };
        (self.diagnostics.len() == before).then_some(settings)
    }

    /// A rule, if nothing in it is wrong.
    fn rule(&mut self, written: &WrittenRule, defaults: &WrittenDefaults) -> Option<Rule> {
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
        for (at, attempt) in written.attempts.get_ref().iter().enumerate() {
            let backend = &attempt.backend;
            if written.attempts.get_ref()[..at].iter().any(|earlier| earlier.backend.get_ref() == backend.get_ref()) {
                let message = format!("`{}` stands twice, and each backend is asked once", backend.get_ref());
                let help = "leave one out; `retries` of its `[[backend]]` are tries again";
                self.add(Some(backend.span().start), name, message, help);
            }
        }
        for together in written.attempts.get_ref().chunk_by(|a, b| a.weight.is_some() == b.weight.is_some()) {
            if let [WrittenAttempt { weight: Some(weight), .. }] = together {
                let help = "give the attempt beside it a `weight`, too, or leave this one out";
                self.add(
                    Some(weight.span().start),
                    name,
                    "`weight` is a share, and there is nobody to share with",
                    help,
                );
            }
        }
        let mut attempts: Vec<Wish> =
            written.attempts.get_ref().iter().filter_map(|attempt| self.wish(name, attempt, defaults)).collect();
        // A budget lets the next attempt take over; after the last there is none.
        if let (Some(last), Some(typed)) = (attempts.last_mut(), written.attempts.get_ref().last()) {
            last.first_content_ms = typed.first_content_ms.as_ref().map(|wait| *wait.get_ref());
        }
        (self.diagnostics.len() == before).then(|| Rule {
            name: name.clone(),
            when: written.when.as_ref().map(|when| when.get_ref().clone()),
            condition,
            route: written.route.get_ref().clone(),
            reason: written.reason.get_ref().clone(),
            attempts,
            origin: self.origin.to_owned(),
            position: position(self.text, written.name.span().start),
        })
    }

    fn wish(&mut self, rule: &str, written: &WrittenAttempt, defaults: &WrittenDefaults) -> Option<Wish> {
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
        let decoding = self.decoding(rule, written, is_ar, defaults);
        if let Some(wait) = &written.first_content_ms {
            self.wait(rule, wait);
        }
        if let Some(weight) = &written.weight
            && !(1..=MAX_WEIGHT).contains(weight.get_ref())
        {
            let message = format!("`weight` is {}", weight.get_ref());
            self.add(Some(weight.span().start), rule, message, format!("between 1 and {MAX_WEIGHT}"));
        }
        let condense = match written.condense.as_ref().map(|condense| *condense.get_ref()) {
            Some(true) => Condense::All,
            None if defaults.condense && !is_ar => Condense::Diffusion,
            Some(false) | None => Condense::Nobody,
        };
        if condense != Condense::Nobody && self.condense.is_none() {
            let help = "say how: `[condense]` with `instructions`";
            self.add(at, rule, "condensation is on, but nothing says how", help);
        }
        let first_content_ms = written.first_content_ms.as_ref().or(defaults.first_content_ms.as_ref());
        (self.diagnostics.len() == before).then(|| Wish {
            target,
            decoding,
            first_content_ms: first_content_ms.map(|wait| *wait.get_ref()),
            condense,
            weight: written.weight.as_ref().map(|weight| *weight.get_ref()),
            says_decoding: written.mode.is_some() || written.diffusion.is_some(),
            position: position(self.text, written.backend.span().start),
        })
    }

    fn wait(&mut self, rule: &str, wait: &Spanned<u64>) {
        if !(1..=MAX_FIRST_CONTENT_MS).contains(wait.get_ref()) {
            let message = format!("`first_content_ms` is {}", wait.get_ref());
            let help = format!("between 1 and {MAX_FIRST_CONTENT_MS}; leave it out for the backend's own limit");
            self.add(Some(wait.span().start), rule, message, help);
        }
    }

    /// How the attempt's diffusion engine decodes where the caller says nothing.
    fn decoding(
        &mut self,
        rule: &str,
        written: &WrittenAttempt,
        is_ar: bool,
        defaults: &WrittenDefaults,
    ) -> DiffusionOptions {
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
        if !is_ar && table.is_none() {
            decoding.mode = decoding.mode.or(defaults.mode);
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

    /// Mistakes that only all rules together show.
    fn across_rules(&mut self, policy: &Policy, files: &[File]) {
        let written: Vec<(&File, &WrittenRule)> =
            files.iter().flat_map(|file| file.written.rules.iter().map(move |rule| (file, rule))).collect();
        if written.len() > MAX_RULES {
            self.add(None, "", format!("the policy has {} rules, {MAX_RULES} are allowed", written.len()), "");
        }
        let place = |file: &File, rule: &WrittenRule| Some(position(&file.text, rule.name.span().start));
        let mut say = |file: &File, rule: &WrittenRule, message: String, help: &str| {
            self.diagnostics.push(Diagnostic {
                origin: file.origin.clone(),
                position: place(file, rule),
                rule: rule.name.get_ref().clone(),
                message,
                help: help.to_owned(),
            });
        };
        let mut names = BTreeSet::new();
        for (file, rule) in &written {
            if !names.insert(rule.name.get_ref().as_str()) {
                say(file, rule, "another rule has this name".into(), "names tell rules apart in plans and metrics");
            }
        }
        match written.iter().position(|(_, rule)| rule.when.is_none()) {
            None => self.add(
                None,
                "",
                "no rule applies to every request",
                "end with a rule without `when`, so that every request has a plan",
            ),
            Some(last) => {
                for (file, rule) in &written[last + 1..] {
                    let name = written[last].1.name.get_ref();
                    let message = format!("never reached: `{name}` before it applies to every request");
                    say(file, rule, message, "move it up, or give the other rule a `when`");
                }
            }
        }
        self.shadowed(policy);
    }

    /// Rules whose condition can never hold, or only where an earlier rule decides.
    fn shadowed(&mut self, policy: &Policy) {
        let conditions: Vec<_> =
            policy.rules.iter().map_while(|rule| Some((rule, &rule.condition.as_ref()?.node))).collect();
        let work = reach::Work::default();
        let possible = |hold: &Node, fail: &[&Node]| reach::possible(&[hold], fail, &work);
        for (at, (rule, node)) in conditions.iter().enumerate() {
            let earlier: Vec<_> = conditions[..at].iter().map(|(_, node)| *node).collect();
            let (message, help) = if !possible(node, &[]) {
                ("never true: its parts exclude each other".to_owned(), "")
            } else if let Some((by, _)) = conditions[..at].iter().find(|(_, other)| !possible(node, &[*other])) {
                let message = format!("never reached: whenever it holds, `{}` before it holds, too", by.name);
                (message, "move it up, or narrow the other rule")
            } else if !possible(node, &earlier) {
                ("never reached: whenever it holds, one of the rules before it holds, too".to_owned(), "move it up")
            } else {
                continue;
            };
            self.diagnostics.push(Diagnostic {
                origin: rule.origin.clone(),
                position: Some(rule.position),
                rule: rule.name.clone(),
                message,
                help: help.to_owned(),
            });
        }
    }
}
