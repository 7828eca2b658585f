//! The operator's rules, checked when they are read, and what they say about a request. A [`Policy`] that exists is
//! sound: planning cannot fail. Must never weigh or learn: rules are taken in order, and the first that holds decides.
//!
//! A policy goes down this list: `files` (with what they include) → `written` (a file's shape) → `check` (every mistake
//! at once; `condition`, `node`, `types`, `reach`) → [`Policy`]; `decide` makes plans, `explain` says why, `testing` runs
//! the tests inside the file. Mistakes are [`Diagnostic`]s.

mod check;
mod condition;
mod decide;
mod diagnostic;
mod explain;
mod files;
mod foretold;
mod format;
mod meant;
mod node;
mod reach;
mod testing;
mod types;
mod variables;
mod written;

pub use check::PIN;
pub use condition::Term;
pub use diagnostic::{Diagnostic, PolicyError};
pub use explain::{Explanation, RuleOutcome};
pub use files::ReadFile;
pub use format::{SECTIONS, format};
pub use testing::{PolicyTest, TestOutcome, TestRequest};
pub use variables::{BACKEND_FACTS, PREDICTED_FACTS, VARIABLES, VariableInfo};

use std::collections::BTreeSet;

use weir_protocol::{ChatRequest, DiffusionOptions};

use crate::condense::CondenseSettings;
use crate::facts::{BackendFacts, BackendRole};
use crate::plan::RoutePlan;
use crate::question::Question;
use condition::Condition;
use variables::Variable;

/// A checked policy.
#[derive(Debug)]
pub struct Policy {
    origin: String,
    /// Every file it was read from, the policy's own last.
    files: Vec<String>,
    // INVARIANT: the last rule, and only the last, has no condition (`check::across_rules`).
    rules: Vec<Rule>,
    pin_fallback: Vec<Wish>,
    /// Everything its conditions name.
    named: BTreeSet<Variable>,
    condense: Option<CondenseSettings>,
    tests: Vec<PolicyTest>,
}

#[derive(Debug)]
struct Rule {
    name: String,
    when: Option<String>,
    condition: Option<Condition>,
    route: String,
    reason: String,
    attempts: Vec<Wish>,
    origin: String,
    /// Line and column in the file.
    position: (usize, usize),
}

/// One attempt as the policy wants it, before the facts have had their say.
#[derive(Debug, Clone)]
struct Wish {
    target: Target,
    decoding: DiffusionOptions,
    first_content_ms: Option<u64>,
    condense: Condense,
    /// Its share of the conversations that begin here, among the attempts with a weight beside it.
    weight: Option<u64>,
    /// Whether it says itself how to decode, not only `[defaults]`.
    says_decoding: bool,
    /// Line and column in the file.
    position: (usize, usize),
}

/// Which of the backends that a wish names get the condensed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condense {
    Nobody,
    /// `[defaults]` says so: it was said of no backend in particular.
    Diffusion,
    /// The attempt itself says so, for example for a small local AR model.
    All,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Named(String),
    Role(BackendRole),
}

impl Target {
    /// Whether `backend` is meant.
    fn means(&self, backend: &BackendFacts) -> bool {
        match self {
            Target::Named(name) => backend.answers_to(name),
            Target::Role(role) => backend.role == *role,
        }
    }
}

impl Policy {
    /// Reads a policy without includes. `origin` names the text in messages: a path, or `the embedded default`.
    ///
    /// # Errors
    /// Every mistake found, with its place.
    pub fn parse(text: &str, origin: &str) -> Result<Policy, PolicyError> {
        Policy::parse_with(text, origin, &mut |_| Err("nothing is included here".to_owned()))
    }

    /// Reads a policy with what it includes; `read` gives the text of a file.
    ///
    /// # Errors
    /// Every mistake found, with its place.
    pub fn parse_with(text: &str, origin: &str, read: ReadFile<'_>) -> Result<Policy, PolicyError> {
        check::parse(text, origin, read)
    }

    /// Where it came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Every file it was read from, its own last.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// How requests are condensed, where a rule wants it.
    pub fn condenses(&self) -> Option<&CondenseSettings> {
        let wanted = self.wishes().any(|(_, wish)| wish.condense != Condense::Nobody);
        self.condense.as_ref().filter(|_| wanted)
    }

    /// The tests inside the file.
    pub fn tests(&self) -> &[PolicyTest] {
        &self.tests
    }

    /// Names of the rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }

    /// Every attempt with its rule; pins have none.
    fn wishes(&self) -> impl Iterator<Item = (&str, &Wish)> {
        let of_rules = self.rules.iter().flat_map(|rule| rule.attempts.iter().map(|wish| (rule.name.as_str(), wish)));
        self.pin_fallback.iter().map(|wish| ("", wish)).chain(of_rules)
    }

    /// What the attempts that may reach `backend`, of `role`, say about decoding, each with its line in the file.
    pub fn decodings(&self, backend: &str, role: BackendRole) -> Vec<(usize, &DiffusionOptions)> {
        let reaches = |target: &Target| match target {
            Target::Named(name) => name == backend,
            Target::Role(wanted) => *wanted == role,
        };
        let wishes = self.wishes().filter(|(_, wish)| reaches(&wish.target));
        wishes.map(|(_, wish)| (wish.position.0, &wish.decoding)).collect()
    }

    /// The backends that are named (not `role:…`), each once, sorted.
    pub fn backends(&self) -> Vec<&str> {
        let names: BTreeSet<&str> = self
            .wishes()
            .filter_map(|(_, wish)| match &wish.target {
                Target::Named(name) => Some(name.as_str()),
                Target::Role(_) => None,
            })
            .collect();
        names.into_iter().collect()
    }

    /// Complaints about named backends that are not among `known`, for the gateway, which alone knows them.
    pub fn check_backends(&self, known: &[&str]) -> Vec<Diagnostic> {
        let of_wishes = self.wishes().filter_map(|(rule, wish)| match &wish.target {
            Target::Named(name) if !known.contains(&name.as_str()) => Some(Diagnostic {
                origin: self.rule(rule).map_or(&self.origin, |rule| &rule.origin).clone(),
                position: Some(wish.position),
                rule: rule.to_owned(),
                message: format!("unknown backend `{name}`"),
                help: diagnostic::nearest_help(name, known.iter().copied()),
            }),
            Target::Named(_) | Target::Role(_) => None,
        });
        let roles = BackendRole::ALL.map(BackendRole::as_str);
        let names = roles.into_iter().chain(known.iter().copied().filter(|name| !roles.contains(name)));
        let of_conditions = self.rules.iter().flat_map(|rule| {
            let named = rule.condition.iter().flat_map(|condition| &condition.named);
            named.filter_map(|variable| match variable {
                Variable::Predicted(subject, _)
                    if !roles.contains(&subject.as_str()) && !known.contains(&subject.as_str()) =>
                {
                    Some(Diagnostic {
                        origin: rule.origin.clone(),
                        position: Some(rule.position),
                        rule: rule.name.clone(),
                        message: format!("`{variable}`: unknown backend `{subject}`"),
                        help: diagnostic::nearest_help(subject, names.clone()),
                    })
                }
                _ => None,
            })
        });
        of_wishes.chain(of_conditions).collect()
    }

    /// Complaints about conditions on tenants that are not among `known`, where there are tenants.
    pub fn check_tenants(&self, known: &[&str]) -> Vec<Diagnostic> {
        let strangers = |rule: &Rule| {
            let texts = rule.condition.iter().flat_map(|one| reach::texts_of(&one.node, &Variable::Known("tenant")));
            // An empty text asks whether there is a tenant at all.
            texts.filter(|text| !text.is_empty() && !known.contains(&text.as_str())).collect::<Vec<_>>()
        };
        let rules = self.rules.iter().filter(|_| !known.is_empty());
        let of_rule = |rule: &Rule| {
            let one = |tenant: String| Diagnostic {
                origin: rule.origin.clone(),
                position: Some(rule.position),
                rule: rule.name.clone(),
                message: format!("no tenant is named `{tenant}`"),
                help: diagnostic::nearest_help(&tenant, known.iter().copied()),
            };
            strangers(rule).into_iter().map(one).collect::<Vec<_>>()
        };
        rules.flat_map(of_rule).collect()
    }

    /// Complaints about rules none of whose attempts could ever be made with these backends: nobody is of the role, or
    /// the condition demands what keeps all of them from the request.
    pub fn check_reach(&self, backends: &[BackendFacts]) -> Vec<Diagnostic> {
        let complaint = |rule: &Rule, message: String, help: &str| Diagnostic {
            origin: rule.origin.clone(),
            position: Some(rule.position),
            rule: rule.name.clone(),
            message,
            help: help.to_owned(),
        };
        self.rules
            .iter()
            .filter_map(|rule| {
                let reached: Vec<&BackendFacts> = backends
                    .iter()
                    .filter(|backend| rule.attempts.iter().any(|wish| wish.target.means(backend)))
                    .collect();
                if reached.is_empty() {
                    return Some(complaint(rule, "can reach no backend".into(), "configure one, or take the rule out"));
                }
                let demands =
                    rule.condition.as_ref().map(|condition| reach::demands(&condition.node)).unwrap_or_default();
                let (name, role) = demands.into_iter().find(|(_, role)| reached.iter().all(|one| one.role == *role))?;
                let message =
                    format!("can reach no backend: with `{name}` no {} backend takes a request", role.as_str());
                Some(complaint(rule, message, "add an attempt at `role:ar`"))
            })
            .collect()
    }

    fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// Where to send a request. `auto`, and any id that is no backend's name, goes through the rules; `diffusion`,
    /// `ar` and a backend's own name pin it. Upstreams come before the built-in backend where a rule says `role:…`,
    /// otherwise the order of `backends` is kept.
    pub fn plan(&self, request: &ChatRequest, backends: &[BackendFacts]) -> RoutePlan {
        self.decide(&Question::of(request, backends))
    }

    /// Like [`Policy::plan`] for a caller who named a model that only `backend`, or only that group, has. If the backend
    /// fails before its first content, or cannot take the request at all, the `[pins] fallback` of the policy follows.
    pub fn plan_pinned(&self, request: &ChatRequest, backend: &str, backends: &[BackendFacts]) -> RoutePlan {
        self.decide(&Question { owner: Some(backend), ..Question::of(request, backends) })
    }
}
