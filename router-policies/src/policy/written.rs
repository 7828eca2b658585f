//! A policy file as the operator wrote it, with the place of every value. Shape only: what it means, and whether it
//! makes sense, is for `check`.

use serde::Deserialize;
use toml::Spanned;
use weir_protocol::{DecodeMode, DiffusionOptions};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenPolicy {
    #[serde(default)]
    pub(super) pins: WrittenPins,
    #[serde(default, rename = "rule")]
    pub(super) rules: Vec<WrittenRule>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenPins {
    #[serde(default)]
    pub(super) fallback: Vec<WrittenAttempt>,
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
}
