//! The operator's rules, checked when they are read, and what they say about a request. A [`Policy`] that exists is
//! sound: planning cannot fail. Must never weigh or learn: rules are taken in order, and the first that holds decides.
//!
//! A policy goes down this list: `written` (the file's shape) → `check` (every mistake at once) → `condition` (CEL) →
//! [`Policy`]. Mistakes are [`Diagnostic`]s.

mod check;
mod condition;
mod diagnostic;
mod written;

pub use condition::BACKEND_FACTS;
pub use diagnostic::{Diagnostic, PolicyError};

use std::collections::BTreeSet;

use weir_protocol::{ChatRequest, DiffusionOptions};

use crate::facts::{BackendFacts, BackendRole, Obstacle};
use crate::features::Features;
use crate::plan::{PassedOver, PlannedAttempt, RoutePlan};
use condition::{BackendsSeen, Condition};

/// A checked policy.
#[derive(Debug)]
pub struct Policy {
    origin: String,
    // INVARIANT: the last rule, and only the last, has no condition (`check::across_rules`).
    rules: Vec<Rule>,
    pin_fallback: Vec<Wish>,
}

#[derive(Debug)]
struct Rule {
    name: String,
    condition: Option<Condition>,
    route: String,
    reason: String,
    attempts: Vec<Wish>,
}

/// One attempt as the policy wants it, before the facts have had their say.
#[derive(Debug, Clone)]
struct Wish {
    target: Target,
    decoding: DiffusionOptions,
    first_content_ms: Option<u64>,
    /// Line and column in the file.
    position: (usize, usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Named(String),
    Role(BackendRole),
}

impl Policy {
    /// Reads a policy. `origin` names the text in messages: a path, or `the embedded default`.
    ///
    /// # Errors
    /// Every mistake found, with its place.
    pub fn parse(text: &str, origin: &str) -> Result<Policy, PolicyError> {
        check::parse(text, origin)
    }

    /// What the attempts that may reach `backend`, of `role`, say about decoding, each with its line in the file.
    pub fn decodings(&self, backend: &str, role: BackendRole) -> Vec<(usize, &DiffusionOptions)> {
        let wishes = self.rules.iter().flat_map(|rule| &rule.attempts).chain(&self.pin_fallback);
        let reaches = |target: &Target| match target {
            Target::Named(name) => name == backend,
            Target::Role(wanted) => *wanted == role,
        };
        wishes.filter(|wish| reaches(&wish.target)).map(|wish| (wish.position.0, &wish.decoding)).collect()
    }

    /// The backends that are named (not `role:…`), each once, sorted.
    pub fn backends(&self) -> Vec<&str> {
        let wishes = self.rules.iter().flat_map(|rule| &rule.attempts).chain(&self.pin_fallback);
        let names: BTreeSet<&str> = wishes
            .filter_map(|wish| match &wish.target {
                Target::Named(name) => Some(name.as_str()),
                Target::Role(_) => None,
            })
            .collect();
        names.into_iter().collect()
    }

    /// Complaints about named backends that are not among `known`, for the gateway, which alone knows them.
    pub fn check_backends(&self, known: &[&str]) -> Vec<Diagnostic> {
        let of_rules = self.rules.iter().flat_map(|rule| rule.attempts.iter().map(|wish| (rule.name.as_str(), wish)));
        let of_pins = self.pin_fallback.iter().map(|wish| ("", wish));
        of_pins
            .chain(of_rules)
            .filter_map(|(rule, wish)| match &wish.target {
                Target::Named(name) if !known.contains(&name.as_str()) => Some(Diagnostic {
                    origin: self.origin.clone(),
                    position: Some(wish.position),
                    rule: rule.to_owned(),
                    message: format!("unknown backend `{name}`"),
                    help: diagnostic::nearest_help(name, known.iter().copied()),
                }),
                Target::Named(_) | Target::Role(_) => None,
            })
            .collect()
    }

    /// Where to send a request. `auto`, and any id that is no backend's name, goes through the rules; `diffusion`,
    /// `ar` and a backend's own name pin it. Upstreams come before the built-in backend where a rule says `role:…`,
    /// otherwise the order of `backends` is kept.
    pub fn plan(&self, request: &ChatRequest, backends: &[BackendFacts]) -> RoutePlan {
        let model = request.model.as_str();
        if backends.iter().any(|backend| backend.answers_to(model)) {
            return self.plan_pinned(request, model, backends);
        }
        if let Some(role) = BackendRole::ALL.into_iter().find(|role| role.as_str() == model) {
            return self.pin(request, model, Target::Role(role), backends);
        }
        self.plan_by_rules(request, backends)
    }

    /// Like [`Policy::plan`] for a caller who named a model that only `backend`, or only that group, has. If the backend fails before its
    /// first content, or cannot take the request at all, the `[pins] fallback` of the policy follows.
    pub fn plan_pinned(&self, request: &ChatRequest, backend: &str, backends: &[BackendFacts]) -> RoutePlan {
        self.pin(request, backend, Target::Named(backend.to_owned()), backends)
    }

    fn pin(&self, request: &ChatRequest, asked_for: &str, target: Target, backends: &[BackendFacts]) -> RoutePlan {
        let pinned = Wish { target, decoding: DiffusionOptions::default(), first_content_ms: None, position: (0, 0) };
        let wishes: Vec<Wish> = std::iter::once(pinned).chain(self.pin_fallback.iter().cloned()).collect();
        let mut plan = RoutePlan {
            route: asked_for.to_owned(),
            rule: check::PIN.to_owned(),
            reason: format!("the caller asked for {asked_for}"),
            attempts: Vec::new(),
            passed_over: Vec::new(),
            notes: Vec::new(),
            features: Features::of(request),
        };
        fill(&mut plan, &wishes, request, backends);
        plan
    }

    fn plan_by_rules(&self, request: &ChatRequest, backends: &[BackendFacts]) -> RoutePlan {
        let features = Features::of(request);
        let context = condition::variables(&features, &BackendsSeen::of(&features, backends));
        let mut notes = Vec::new();
        let decides = |rule: &&Rule| match &rule.condition {
            None => true,
            Some(condition) => condition.holds(&context).unwrap_or_else(|why| {
                notes.push(format!("rule `{}` did not match: {why}", rule.name));
                false
            }),
        };
        let rule = self.rules.iter().find(decides);
        let mut plan = RoutePlan {
            route: rule.map_or_else(String::new, |rule| rule.route.clone()),
            rule: rule.map_or_else(String::new, |rule| rule.name.clone()),
            reason: rule.map_or_else(String::new, |rule| rule.reason.clone()),
            attempts: Vec::new(),
            passed_over: Vec::new(),
            notes,
            features,
        };
        fill(&mut plan, rule.map_or(&[], |rule| &rule.attempts), request, backends);
        plan
    }
}

/// Turns wishes into attempts: each backend once, those that cannot take the request set aside with the reason.
fn fill(plan: &mut RoutePlan, wishes: &[Wish], request: &ChatRequest, backends: &[BackendFacts]) {
    let mut seen: Vec<&str> = Vec::new();
    let mut set_aside: Vec<(BackendRole, PlannedAttempt)> = Vec::new();
    for wish in wishes {
        let chosen = chosen_by(&wish.target, backends);
        if chosen.is_empty() {
            let backend = match &wish.target {
                Target::Named(name) => name.clone(),
                Target::Role(role) => format!("role:{}", role.as_str()),
            };
            plan.passed_over.push(PassedOver { backend, why: Obstacle::NotConfigured });
        }
        for backend in chosen {
            if seen.contains(&backend.name.as_str()) {
                continue;
            }
            seen.push(&backend.name);
            let is_diffusion = backend.role == BackendRole::Diffusion;
            let attempt = PlannedAttempt {
                backend: backend.name.clone(),
                decoding: if is_diffusion && request.diffusion.is_silent() {
                    wish.decoding.clone()
                } else {
                    DiffusionOptions::default()
                },
                group: backend.group.clone().filter(|_| wish.target != Target::Named(backend.name.clone())),
                first_content_ms: wish.first_content_ms,
            };
            match backend.obstacle(&plan.features) {
                None => plan.attempts.push(attempt),
                Some(why) => {
                    plan.passed_over.push(PassedOver { backend: backend.name.clone(), why });
                    set_aside.push((backend.role, attempt));
                }
            }
        }
    }
    // The reason says why the plan does not begin where the rule wanted it to.
    if let Some(first) = plan.passed_over.first()
        && wishes.first().is_some_and(|wish| names(&wish.target, first, backends))
    {
        plan.reason = format!("{}; {} passed over: {}", plan.reason, first.backend, first.why);
    }
    if plan.attempts.is_empty() {
        plan.attempts.extend(last_resort(plan.rule == check::PIN, set_aside));
        if let Some(attempt) = plan.attempts.first() {
            plan.notes.push(format!(
                "no backend can take this request; {} is asked so that the refusal is its own",
                attempt.backend
            ));
        }
    }
}

/// Who answers for nobody: the pinned backend, else the last AR one, else the last.
fn last_resort(pinned: bool, mut set_aside: Vec<(BackendRole, PlannedAttempt)>) -> Option<PlannedAttempt> {
    if set_aside.is_empty() {
        return None;
    }
    let last = set_aside.len() - 1;
    let at = if pinned { 0 } else { set_aside.iter().rposition(|(role, _)| *role == BackendRole::Ar).unwrap_or(last) };
    Some(set_aside.swap_remove(at).1)
}

fn chosen_by<'a>(target: &Target, backends: &'a [BackendFacts]) -> Vec<&'a BackendFacts> {
    match target {
        Target::Named(name) => backends.iter().filter(|backend| backend.answers_to(name)).collect(),
        Target::Role(role) => {
            let of_role = || backends.iter().filter(|backend| backend.role == *role);
            let built_in = |backend: &&BackendFacts| backend.name == role.as_str();
            together(of_role().filter(|backend| !built_in(backend)).chain(of_role().filter(built_in)).collect())
        }
    }
}

/// Brings the members of a group up to its first one.
fn together(chosen: Vec<&BackendFacts>) -> Vec<&BackendFacts> {
    let place = |one: &BackendFacts| {
        let same = |other: &&BackendFacts| other.name == one.name || one.group.is_some() && other.group == one.group;
        chosen.iter().position(same)
    };
    let mut sorted = chosen.clone();
    // Stable: within a place the order is kept.
    sorted.sort_by_key(|one| place(one));
    sorted
}

fn names(target: &Target, passed: &PassedOver, backends: &[BackendFacts]) -> bool {
    match target {
        Target::Named(name) => {
            *name == passed.backend
                || backends.iter().any(|backend| backend.name == passed.backend && backend.answers_to(name))
        }
        Target::Role(role) => {
            passed.backend.strip_prefix("role:") == Some(role.as_str())
                || backends.iter().any(|backend| backend.role == *role && backend.name == passed.backend)
        }
    }
}
