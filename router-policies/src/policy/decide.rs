//! A plan for one question: the rule that decides, its attempts in the order in which they will be made, and what was
//! passed over. Must never fail: a condition that cannot be evaluated is no match, and is noted.

use std::hash::{DefaultHasher, Hash, Hasher};

use weir_protocol::DiffusionOptions;

use super::condition;
use super::{Condense, Policy, Rule, Target, Wish, check};
use crate::facts::{BackendFacts, BackendRole, Obstacle};
use crate::features::Features;
use crate::plan::{PassedOver, PlannedAttempt, RoutePlan, Stay};
use crate::question::Question;

impl Policy {
    /// The plan.
    pub fn decide(&self, question: &Question<'_>) -> RoutePlan {
        if let Some((asked_for, target)) = pinned(question) {
            return self.pin(question, asked_for, target);
        }
        let context = condition::context(&self.named, question);
        let mut notes = Vec::new();
        let decides = |rule: &&Rule| match &rule.condition {
            None => true,
            Some(condition) => condition.holds(&context).unwrap_or_else(|why| {
                notes.push(format!("rule `{}` did not match: {why}", rule.name));
                false
            }),
        };
        let rule = self.rules.iter().find(decides);
        let (name, route, reason) = rule.map_or(("", "", ""), |rule| (&rule.name, &rule.route, &rule.reason));
        let mut plan = empty(question, route, name, reason.to_owned());
        plan.notes = notes;
        let wishes = rule.map_or_else(Vec::new, |rule| drawn(&rule.attempts, question.conversation));
        fill(&mut plan, &wishes, question);
        stay(&mut plan, question);
        plan
    }

    fn pin(&self, question: &Question<'_>, asked_for: &str, target: Target) -> RoutePlan {
        let pinned = Wish {
            target,
            decoding: DiffusionOptions::default(),
            first_content_ms: None,
            condense: Condense::Nobody,
            weight: None,
            says_decoding: false,
            position: (0, 0),
        };
        let wishes: Vec<&Wish> = std::iter::once(&pinned).chain(&self.pin_fallback).collect();
        let mut plan = empty(question, asked_for, check::PIN, format!("the caller asked for {asked_for}"));
        fill(&mut plan, &wishes, question);
        plan
    }
}

/// What a model id other than `auto` means.
pub(super) fn pinned<'a>(question: &Question<'a>) -> Option<(&'a str, Target)> {
    if let Some(owner) = question.owner {
        return Some((owner, Target::Named(owner.to_owned())));
    }
    if question.backends.iter().any(|backend| backend.answers_to(question.model)) {
        return Some((question.model, Target::Named(question.model.to_owned())));
    }
    let role = BackendRole::ALL.into_iter().find(|role| role.as_str() == question.model)?;
    Some((question.model, Target::Role(role)))
}

fn empty(question: &Question<'_>, route: &str, rule: &str, reason: String) -> RoutePlan {
    RoutePlan {
        route: route.to_owned(),
        rule: rule.to_owned(),
        reason,
        attempts: Vec::new(),
        passed_over: Vec::new(),
        stay: None,
        notes: Vec::new(),
        family: question.family.clone(),
        predicted: question.predicted.to_vec(),
        conversation: question.conversation,
        condensed: question.condensed,
        features: question.features.clone(),
    }
}

/// Attempts with a weight that stand together change places by lot, the same lot for all turns of a conversation.
fn drawn(wishes: &[Wish], conversation: u64) -> Vec<&Wish> {
    let mut out: Vec<&Wish> = Vec::with_capacity(wishes.len());
    for together in wishes.chunk_by(|a, b| a.weight.is_some() == b.weight.is_some()) {
        let mut place: Vec<(f64, &Wish)> = together
            .iter()
            .enumerate()
            .map(|(at, wish)| (wish.weight.map_or(0.0, |weight| lot(conversation, at, weight)), wish))
            .collect();
        // Stable: without weights the order written stays.
        place.sort_by(|a, b| b.0.total_cmp(&a.0));
        out.extend(place.into_iter().map(|(_, wish)| wish));
    }
    out
}

/// Weighted rendezvous hashing: the share of conversations whose highest lot is this one is its share of the weights.
fn lot(conversation: u64, at: usize, weight: u64) -> f64 {
    let mut hasher = DefaultHasher::new();
    (conversation, at).hash(&mut hasher);
    // 53 bits are a double's own; never 0 nor 1.
    let draw = ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -(weight as f64) / draw.ln()
}

/// Turns wishes into attempts: each backend once, those that cannot take the request set aside with the reason.
fn fill(plan: &mut RoutePlan, wishes: &[&Wish], question: &Question<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    let mut set_aside: Vec<(BackendRole, PlannedAttempt)> = Vec::new();
    for wish in wishes {
        let chosen = chosen_by(&wish.target, question.backends);
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
            let attempt = attempt(wish, backend, question);
            match obstacle(&attempt, backend, question) {
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
        && wishes.first().is_some_and(|wish| names(&wish.target, first, question.backends))
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

fn attempt(wish: &Wish, backend: &BackendFacts, question: &Question<'_>) -> PlannedAttempt {
    let is_diffusion = backend.role == BackendRole::Diffusion;
    let decoding =
        if is_diffusion && !question.decodes_itself { wish.decoding.clone() } else { DiffusionOptions::default() };
    let condense = match wish.condense {
        Condense::Nobody => false,
        Condense::Diffusion => is_diffusion,
        Condense::All => true,
    };
    PlannedAttempt {
        backend: backend.name.clone(),
        decoding,
        group: backend.group.clone().filter(|_| wish.target != Target::Named(backend.name.clone())),
        first_content_ms: wish.first_content_ms,
        condensed: condense && question.condensed.is_some(),
    }
}

/// What keeps the backend from the request as it would be sent.
fn obstacle(attempt: &PlannedAttempt, backend: &BackendFacts, question: &Question<'_>) -> Option<Obstacle> {
    match question.condensed.filter(|_| attempt.condensed) {
        None => backend.obstacle(&question.features),
        Some(size) => {
            let smaller = Features { prompt_bytes: size.bytes, tools_count: size.tools, ..question.features.clone() };
            backend.obstacle(&smaller)
        }
    }
}

/// Within a user turn the backend that answered goes on, unless a fact is against it.
fn stay(plan: &mut RoutePlan, question: &Question<'_>) {
    let Some(name) = question.stay else { return };
    let Some(backend) = question.backends.iter().find(|backend| backend.name == name) else { return };
    let at = plan.attempts.iter().position(|attempt| attempt.backend == name);
    let against = match at {
        Some(_) => None,
        None => backend.obstacle(&question.features),
    };
    if against.is_none() {
        let attempt = match at {
            // The one backend, not whoever of its group is best placed now.
            Some(at) => PlannedAttempt { group: None, ..plan.attempts.remove(at) },
            None => PlannedAttempt {
                backend: name.to_owned(),
                decoding: DiffusionOptions::default(),
                group: None,
                first_content_ms: None,
                condensed: false,
            },
        };
        if at != Some(0) {
            plan.reason = format!("{}; {name} goes on until the user speaks again", plan.reason);
        }
        plan.attempts.insert(0, attempt);
    }
    plan.stay = Some(Stay { backend: name.to_owned(), against });
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
