//! What is believed before anything was seen, from `config/policies/priors.toml`, where each figure has its source. Must
//! never be relied on longer than it takes to see a few answers.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::classify::Family;
use crate::facts::BackendRole;

/// The embedded file.
const EMBEDDED: &str = include_str!("../../../config/policies/priors.toml");

/// Beliefs by role and family.
#[derive(Debug, Clone, PartialEq)]
pub struct Priors {
    ar: RolePrior,
    diffusion: RolePrior,
    families: BTreeMap<Family, FamilyPrior>,
}

/// A backend of a role that nobody has seen yet.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RolePrior {
    /// Until the first content beside prefill and decoding, in ms.
    pub(super) overhead_ms: f64,
    /// To read a thousand tokens of prompt that are in no cache, in ms.
    pub(super) prefill_ms_per_1k: f64,
    /// One forward: a token, or a denoise step, in ms.
    pub(super) forward_ms: f64,
    /// What each other request under way adds to the wait, in ms.
    pub(super) queue_ms: f64,
}

/// A kind of work.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyPrior {
    /// Tokens a diffusion engine commits in a denoise step.
    tokens_per_forward: f64,
    /// Tokens of an answer.
    output_tokens: f64,
    /// Where the figures are from.
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    ar: RolePrior,
    diffusion: RolePrior,
    family: BTreeMap<String, FamilyPrior>,
}

impl Priors {
    /// The embedded ones.
    pub fn embedded() -> Priors {
        // A test reads the file; were it wrong all the same, every family would be taken alike.
        let fallback = RolePrior { overhead_ms: 20.0, prefill_ms_per_1k: 100.0, forward_ms: 20.0, queue_ms: 20.0 };
        Priors::parse(EMBEDDED).unwrap_or(Priors { ar: fallback, diffusion: fallback, families: BTreeMap::new() })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// One line that names what is wrong.
    pub fn parse(text: &str) -> Result<Priors, String> {
        let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mut families = BTreeMap::new();
        for (word, prior) in file.family {
            let family = Family::named(&word).ok_or_else(|| format!("`{word}` is no family"))?;
            let sound = prior.tokens_per_forward >= 1.0 && prior.output_tokens >= 1.0 && !prior.source.is_empty();
            if !sound || !prior.tokens_per_forward.is_finite() || !prior.output_tokens.is_finite() {
                return Err(format!("family `{word}` needs a source and figures of at least 1"));
            }
            families.insert(family, prior);
        }
        for (name, role) in [("ar", &file.ar), ("diffusion", &file.diffusion)] {
            let figures = [role.overhead_ms, role.prefill_ms_per_1k, role.forward_ms, role.queue_ms];
            if !figures.iter().all(|figure| figure.is_finite() && *figure > 0.0) {
                return Err(format!("`{name}` needs figures above 0"));
            }
        }
        Ok(Priors { ar: file.ar, diffusion: file.diffusion, families })
    }

    pub(super) fn of_role(&self, role: BackendRole) -> &RolePrior {
        match role {
            BackendRole::Ar => &self.ar,
            BackendRole::Diffusion => &self.diffusion,
        }
    }

    /// Tokens per forward: 1 for a backend that writes them one by one.
    pub fn tokens_per_forward(&self, role: BackendRole, family: Family) -> f64 {
        match role {
            BackendRole::Ar => 1.0,
            BackendRole::Diffusion => self.families.get(&family).map_or(3.0, |prior| prior.tokens_per_forward),
        }
    }

    /// Tokens of an answer.
    pub fn output_tokens(&self, family: Family) -> f64 {
        self.families.get(&family).map_or(150.0, |prior| prior.output_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_file_has_every_family_with_a_source() {
        let priors = Priors::parse(EMBEDDED).unwrap();
        assert!(Family::ALL.iter().all(|family| priors.families.contains_key(family)));
        let tpf = |family| priors.tokens_per_forward(BackendRole::Diffusion, family);
        assert!(tpf(Family::CodeGeneration) > 3.0 * tpf(Family::Prose), "what the published tables say");
        assert_eq!(priors.tokens_per_forward(BackendRole::Ar, Family::Sql), 1.0);
    }

    #[test]
    fn a_wrong_file_is_told_why() {
        assert!(Priors::parse("[ar]").is_err());
        let changed = |from: &str, to: &str| Priors::parse(&EMBEDDED.replace(from, to)).unwrap_err();
        assert!(changed("[family.sql]", "[family.sqll]").contains("sqll"));
        assert!(changed("queue_ms", "queue").contains("queue"));
    }
}
