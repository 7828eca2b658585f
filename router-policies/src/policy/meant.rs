//! Attempts that cannot do what they say, which only shows where it is known who the backends are. Must never change a
//! plan.

use super::diagnostic::Diagnostic;
use super::{Policy, Rule, Target, Wish};
use crate::facts::{BackendFacts, BackendRole};

impl Policy {
    /// Complaints about attempts that say how AR backends shall denoise, and about shares of one backend under two names.
    pub fn check_attempts(&self, backends: &[BackendFacts]) -> Vec<Diagnostic> {
        self.rules.iter().flat_map(|rule| of_rule(rule, backends)).collect()
    }
}

fn of_rule(rule: &Rule, backends: &[BackendFacts]) -> Vec<Diagnostic> {
    let say = |wish: &Wish, message: String, help: &str| Diagnostic {
        origin: rule.origin.clone(),
        position: Some(wish.position),
        rule: rule.name.clone(),
        message,
        help: help.to_owned(),
    };
    let mut out = Vec::new();
    for wish in rule.attempts.iter().filter(|wish| wish.says_decoding) {
        let mut meant = backends.iter().filter(|backend| wish.target.means(backend)).peekable();
        if meant.peek().is_some() && meant.all(|backend| backend.role == BackendRole::Ar) {
            let message = format!("{} is an AR backend, to which `mode` and `diffusion` mean nothing", wish.target);
            out.push(say(wish, message, "leave them out, or give the backend `role = \"diffusion\"`"));
        }
    }
    for together in rule.attempts.chunk_by(|a, b| a.weight.is_some() && b.weight.is_some()) {
        for (at, wish) in together.iter().enumerate() {
            let both = |earlier: &&Wish| {
                backends.iter().any(|backend| wish.target.means(backend) && earlier.target.means(backend))
            };
            if let Some(earlier) = together[..at].iter().find(both) {
                let message =
                    format!("{} and {} share a backend, so their weights are no shares", earlier.target, wish.target);
                out.push(say(wish, message, "name backends that differ"));
            }
        }
    }
    out
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Named(name) => write!(f, "`{name}`"),
            Target::Role(role) => write!(f, "`role:{}`", role.as_str()),
        }
    }
}
