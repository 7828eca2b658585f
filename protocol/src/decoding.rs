//! How a diffusion engine should decode: what callers, policies and operators may say about it, and the ranges. Must
//! never know what a model needs; that is the engine's to say.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// How a diffusion engine should decode. `None` fields take the preset's or the engine's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionOptions {
    /// Named preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<DecodeMode>,
    /// Which decoder fills a block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder: Option<DecoderKind>,
    /// Confidence above which a mask becomes a token, in [0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// Confidence above which a written token is replaced, in [0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub editing_threshold: Option<f32>,
    /// Most extra editing steps after a block is full, 0..=64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_post_steps: Option<u32>,
    /// Tokens in a block, a power of two in 1..=256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_length: Option<u32>,
    /// Denoise steps in which a block's masks must be gone, 1..=block_length: fewer steps write more a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u32>,
    /// Blocks that stay open to edits, 2..=4 (`multi_block` only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multi_block_window: Option<u32>,
    /// Subtracted from the logit of the token to the left, 0..=10: keeps a token from being written twice in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f32>,
    /// Every so many-th forward of a block computes all of it, 1..=256; those between only what is still open and what was
    /// just written, beside what was made of the rest before. 1 is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_every: Option<u32>,
    /// Goes over [`crate::Sampling::seed`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Begin from this answer instead of masks, and edit it (decoders that edit). One request's own, no policy's.
    #[serde(skip)]
    pub start_from: Option<String>,
    /// Send [`crate::Event::Draft`] snapshots. One request's own, no policy's.
    #[serde(skip)]
    pub drafts: bool,
}

impl DiffusionOptions {
    /// Whether the caller left decoding to others: half a preset is not a preset, so one word about it counts. A seed
    /// or a wish for drafts is none.
    pub fn is_silent(&self) -> bool {
        *self == DiffusionOptions { seed: self.seed, drafts: self.drafts, ..DiffusionOptions::default() }
    }

    /// The values that no engine takes.
    pub fn out_of_range(&self) -> Vec<OutOfRange> {
        let wrong_length = |length: &u32| !length.is_power_of_two() || *length > MOST_BLOCK_LENGTH;
        let message = format!("must be a power of two from 1 to {MOST_BLOCK_LENGTH}");
        let block_length =
            self.block_length.filter(wrong_length).map(|_| OutOfRange { field: "block_length", message });
        let checks = [
            within("threshold", self.threshold, 0.0..=1.0),
            within("editing_threshold", self.editing_threshold, 0.0..=1.0),
            within("max_post_steps", self.max_post_steps, 0..=64),
            block_length,
            within("max_steps", self.max_steps, 1..=self.block_length.unwrap_or(MOST_BLOCK_LENGTH)),
            within("multi_block_window", self.multi_block_window, 2..=4),
            within("repeat_penalty", self.repeat_penalty, 0.0..=10.0),
            within("refresh_every", self.refresh_every, 1..=MOST_BLOCK_LENGTH),
        ];
        checks.into_iter().flatten().collect()
    }
}

/// A setting that no engine takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfRange {
    /// The field of [`DiffusionOptions`].
    pub field: &'static str,
    /// What would be right.
    pub message: String,
}

const MOST_BLOCK_LENGTH: u32 = 256;

fn within<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: Option<T>,
    range: RangeInclusive<T>,
) -> Option<OutOfRange> {
    let message = || format!("must be from {} to {}", range.start(), range.end());
    value.filter(|value| !range.contains(value)).map(|_| OutOfRange { field, message: message() })
}

/// Presets of thresholds: of the decoder that decodes, which a preset does not choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecodeMode {
    /// LLaDA2.1's S, 0.5 and 0.0 (tech report 2.1, model card); 0.85 where nothing is edited (tech report 2.0, §6.3).
    Speed,
    /// LLaDA2.1's Q, 0.7 and 0.5; 0.95 where nothing is edited.
    Quality,
    /// No preset: the engine's own settings and the values given.
    Custom,
}

impl DecodeMode {
    /// All of them with the words callers and configs use.
    pub const ALL: [(&'static str, DecodeMode); 3] =
        [("speed", DecodeMode::Speed), ("quality", DecodeMode::Quality), ("custom", DecodeMode::Custom)];

    /// What it sets for masks ([`DiffusionOptions::threshold`]) and for written tokens
    /// ([`DiffusionOptions::editing_threshold`]) with this decoder; `None`: it brings nothing.
    pub fn thresholds(self, decoder: DecoderKind) -> Option<(f32, f32)> {
        match (self, decoder.edits()) {
            (DecodeMode::Speed, true) => Some((0.5, 0.0)),
            (DecodeMode::Quality, true) => Some((0.7, 0.5)),
            (DecodeMode::Speed, false) => Some((0.85, 0.0)),
            (DecodeMode::Quality, false) => Some((0.95, 0.0)),
            (DecodeMode::Custom, _) => None,
        }
    }
}

/// Which decoder fills a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderKind {
    /// LLaDA2.0: masks become tokens above a confidence, written tokens stay.
    Threshold,
    /// LLaDA2.1: the same, and written tokens are replaced above a second confidence.
    Joint,
    /// LLaDA2.2: written tokens are replaced, deleted, or pushed right by an insertion.
    Levenshtein,
    /// LLaDA2.1's Multi-Block Editing: finished blocks stay open to edits while the next ones are written.
    MultiBlock,
    /// dInfer: a token into each gap between written ones, so that gaps halve.
    Hierarchy,
    /// dInfer: tokens that were proposed again and again get credit.
    Credit,
}

impl DecoderKind {
    /// All of them with the words callers and configs use.
    pub const ALL: [(&'static str, DecoderKind); 6] = [
        ("threshold", DecoderKind::Threshold),
        ("joint", DecoderKind::Joint),
        ("levenshtein", DecoderKind::Levenshtein),
        ("multi_block", DecoderKind::MultiBlock),
        ("hierarchy", DecoderKind::Hierarchy),
        ("credit", DecoderKind::Credit),
    ];

    /// Whether it replaces written tokens.
    pub fn edits(self) -> bool {
        match self {
            DecoderKind::Joint | DecoderKind::Levenshtein | DecoderKind::MultiBlock => true,
            DecoderKind::Threshold | DecoderKind::Hierarchy | DecoderKind::Credit => false,
        }
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}
