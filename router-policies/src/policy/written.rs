//! A policy file as the operator wrote it, with the place of every value. Shape only: what it means, and whether it
//! makes sense, is for `check`.

use serde::Deserialize;
use toml::Spanned;
use weir_protocol::{DecodeMode, DiffusionOptions};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenPolicy {
    /// What the policy trades, for people.
    #[serde(default, rename = "about")]
    pub(super) _about: String,
    #[serde(default)]
    pub(super) include: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) defaults: WrittenDefaults,
    pub(super) pins: Option<WrittenPins>,
    pub(super) condense: Option<WrittenCondense>,
    #[serde(default, rename = "rule")]
    pub(super) rules: Vec<WrittenRule>,
    #[serde(default, rename = "test")]
    pub(super) tests: Vec<WrittenTest>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenDefaults {
    pub(super) mode: Option<DecodeMode>,
    pub(super) first_content_ms: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) condense: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenPins {
    #[serde(default)]
    pub(super) fallback: Vec<WrittenAttempt>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCondense {
    pub(super) instructions: Spanned<String>,
    pub(super) turns: Option<Spanned<u64>>,
    pub(super) max_bytes: Option<Spanned<u64>>,
    pub(super) max_tools: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRule {
    pub(super) name: Spanned<String>,
    pub(super) when: Option<Spanned<String>>,
    pub(super) route: Spanned<String>,
    pub(super) reason: Spanned<String>,
    pub(super) attempts: Spanned<Vec<WrittenAttempt>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenAttempt {
    pub(super) backend: Spanned<String>,
    pub(super) mode: Option<Spanned<DecodeMode>>,
    pub(super) diffusion: Option<Spanned<DiffusionOptions>>,
    pub(super) first_content_ms: Option<Spanned<u64>>,
    pub(super) condense: Option<Spanned<bool>>,
    pub(super) weight: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTest {
    pub(super) name: Spanned<String>,
    pub(super) given: Option<Spanned<toml::Table>>,
    pub(super) request: Option<Spanned<toml::Value>>,
    pub(super) expect: Spanned<WrittenExpect>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenExpect {
    pub(super) rule: Option<String>,
    pub(super) route: Option<String>,
    pub(super) first: Option<String>,
    pub(super) attempts: Option<Vec<String>>,
    pub(super) condensed: Option<bool>,
}
