//! Predictions that a test in a policy file gives: of a backend, a group or a role, everything that a condition may name.
//! Must never leave one out in silence: a test would be about something else than it says.

use super::diagnostic::nearest_help;
use crate::facts::BackendFacts;
use crate::question::{Interval, Predicted};

/// What is given for one subject.
#[derive(Debug)]
pub(super) struct Foretold {
    subject: String,
    ttft: Interval,
    total: Interval,
    error_rate: f64,
}

/// What may be given, with what it is when it is not: that of another, or a number.
const TTFT: [&str; 3] = ["ttft_ms", "ttft_low_ms", "ttft_high_ms"];
const TOTAL: [&str; 3] = ["total_ms", "total_low_ms", "total_high_ms"];
const ERROR_RATE: &str = "error_rate";

type Fault = (String, String);

/// Reads `predicted = { … }`.
///
/// # Errors
/// What is wrong, and what to do about it.
pub(super) fn read(value: &toml::Value) -> Result<Vec<Foretold>, Fault> {
    let help = "as in `predicted = { diffusion = { ttft_ms = 80, total_ms = 200, error_rate = 0.1 } }`";
    let none = || ("`predicted` holds no predictions".to_owned(), help.to_owned());
    value.as_table().ok_or_else(none)?.iter().map(|(subject, facts)| one(subject, facts, &none)).collect()
}

fn one(subject: &str, facts: &toml::Value, none: &dyn Fn() -> Fault) -> Result<Foretold, Fault> {
    let facts = facts.as_table().ok_or_else(none)?;
    let known = TTFT.into_iter().chain(TOTAL).chain([ERROR_RATE]);
    for (name, value) in facts {
        if !known.clone().any(|known| known == name) {
            return Err((format!("unknown prediction `{name}` of `{subject}`"), nearest_help(name, known)));
        }
        if number(value).is_none_or(|value| value < 0.0 || name == ERROR_RATE && value > 1.0) {
            let wanted = if name == ERROR_RATE { "no share from 0 to 1" } else { "no time in milliseconds" };
            return Err((format!("`{name}` of `{subject}` is {wanted}"), String::new()));
        }
    }
    let given = |name: &str| facts.get(name).and_then(number);
    // Who says when it ends says roughly when it begins; who says nothing of time is as one whose time nobody knows.
    let total = given(TOTAL[0]).or(given(TTFT[0])).unwrap_or(f64::INFINITY);
    let ttft = given(TTFT[0]).unwrap_or(total);
    let interval = |names: [&str; 3], expected_ms: f64| Interval {
        expected_ms,
        low_ms: given(names[1]).unwrap_or(expected_ms),
        high_ms: given(names[2]).unwrap_or(expected_ms),
    };
    Ok(Foretold {
        subject: subject.to_owned(),
        ttft: interval(TTFT, ttft),
        total: interval(TOTAL, total),
        error_rate: given(ERROR_RATE).unwrap_or_default(),
    })
}

fn number(value: &toml::Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|value| value as f64)).filter(|value| value.is_finite())
}

/// What is given for a backend: by its own name, else by its group's, else by its role's.
pub(super) fn of_backend(all: &[Foretold], facts: &BackendFacts) -> Option<Predicted> {
    let by = |name: &str| all.iter().find(|one| one.subject == name);
    let group = facts.group.as_deref().and_then(by);
    let one = by(&facts.name).or(group).or_else(|| by(facts.role.as_str()))?;
    Some(Predicted { backend: facts.name.clone(), ttft: one.ttft, total: one.total, error_rate: one.error_rate })
}

/// A sentence for each subject that none of `backends` is.
pub(super) fn strangers(all: &[Foretold], backends: &[BackendFacts]) -> Vec<String> {
    let is_known = |one: &&Foretold| {
        backends.iter().any(|facts| facts.answers_to(&one.subject) || facts.role.as_str() == one.subject)
    };
    let strange = all.iter().filter(|one| !is_known(one));
    strange.map(|one| format!("`predicted` names `{}`, which is no backend, group or role here", one.subject)).collect()
}
