//! What decoding a request gets: the engine's defaults, a preset, single values, each checked. Must never clamp
//! silently.

use std::ops::RangeInclusive;

use weir_protocol::{DecodeMode, DiffusionOptions, EngineError};

use crate::error::LoadError;
use crate::options::{DecodeDefaults, DecoderKind};

const MOST_BLOCK_LENGTH: usize = 256;

/// Checked settings of one diffusion request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecodeSettings {
    pub(crate) decoder: DecoderKind,
    pub(crate) threshold: f32,
    pub(crate) editing_threshold: f32,
    pub(crate) max_post_steps: u32,
    pub(crate) block_length: usize,
    pub(crate) max_steps: usize,
    pub(crate) window: usize,
    pub(crate) repeat_penalty: f32,
}

/// A setting out of its range.
struct OutOfRange {
    field: &'static str,
    message: String,
}

impl DecodeSettings {
    /// The operator's defaults.
    pub(crate) fn from_defaults(defaults: &DecodeDefaults) -> Result<Self, LoadError> {
        let settings = DecodeSettings {
            decoder: defaults.decoder,
            threshold: defaults.threshold,
            editing_threshold: defaults.editing_threshold,
            max_post_steps: defaults.max_post_steps,
            block_length: defaults.block_length,
            max_steps: defaults.max_steps_per_block as usize,
            window: defaults.multi_block_window as usize,
            repeat_penalty: defaults.repeat_penalty,
        };
        settings.checked().map_err(|OutOfRange { field, message }| LoadError::Config {
            file: "options".into(),
            field: format!("defaults.{field}"),
            message,
        })
    }

    /// As an operator would write them.
    pub(crate) fn as_defaults(&self) -> DecodeDefaults {
        DecodeDefaults {
            decoder: self.decoder,
            threshold: self.threshold,
            editing_threshold: self.editing_threshold,
            max_post_steps: self.max_post_steps,
            block_length: self.block_length,
            max_steps_per_block: self.max_steps as u32,
            multi_block_window: self.window as u32,
            repeat_penalty: self.repeat_penalty,
        }
    }

    /// The request's settings over these. A named preset brings its thresholds (LLaDA2.1 model card) and a decoder that
    /// edits; single values go over the preset's.
    pub(crate) fn for_request(&self, options: &DiffusionOptions) -> Result<Self, EngineError> {
        let mut settings = self.clone();
        let preset = match options.mode {
            Some(DecodeMode::Speed) => Some((0.5, 0.0)),
            Some(DecodeMode::Quality) => Some((0.7, 0.5)),
            Some(DecodeMode::Custom) | None => None,
        };
        if let Some((threshold, editing)) = preset {
            (settings.threshold, settings.editing_threshold) = (threshold, editing);
            settings.max_post_steps = 16;
            if !settings.edits() {
                settings.decoder = DecoderKind::Joint;
            }
        }
        if let Some(length) = options.block_length {
            let length = length as usize;
            // A share of the block stays the same share.
            settings.max_steps = (self.max_steps * length).div_ceil(self.block_length).max(1);
            settings.block_length = length;
        }
        put(&mut settings.decoder, options.decoder);
        put(&mut settings.threshold, options.threshold);
        put(&mut settings.editing_threshold, options.editing_threshold);
        put(&mut settings.max_post_steps, options.max_post_steps);
        put(&mut settings.max_steps, options.max_steps.map(|steps| steps as usize));
        put(&mut settings.window, options.multi_block_window.map(|blocks| blocks as usize));
        put(&mut settings.repeat_penalty, options.repeat_penalty);
        settings
            .checked()
            .map_err(|OutOfRange { field, message }| EngineError::invalid(format!("diffusion.{field}"), message))
    }

    /// Whether the decoder replaces written tokens.
    pub(crate) fn edits(&self) -> bool {
        match self.decoder {
            DecoderKind::Joint | DecoderKind::Levenshtein | DecoderKind::MultiBlock => true,
            DecoderKind::Threshold | DecoderKind::Hierarchy | DecoderKind::Credit => false,
        }
    }

    fn checked(self) -> Result<Self, OutOfRange> {
        within("threshold", self.threshold, 0.0..=1.0)?;
        within("editing_threshold", self.editing_threshold, 0.0..=1.0)?;
        within("max_post_steps", self.max_post_steps, 0..=64)?;
        if !self.block_length.is_power_of_two() || self.block_length > MOST_BLOCK_LENGTH {
            let message = format!("must be a power of two from 1 to {MOST_BLOCK_LENGTH}");
            return Err(OutOfRange { field: "block_length", message });
        }
        within("max_steps", self.max_steps, 1..=self.block_length)?;
        within("multi_block_window", self.window, 2..=4)?;
        within("repeat_penalty", self.repeat_penalty, 0.0..=10.0)?;
        Ok(self)
    }
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), OutOfRange> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(OutOfRange { field, message: format!("must be from {} to {}", range.start(), range.end()) }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::{Candidate, Canvas};
    use super::*;

    /// Random canvases of up to 12 positions with few tokens and few distinct probabilities, so that equals occur.
    pub(crate) fn canvas_and_candidates() -> impl Strategy<Value = (Canvas, Vec<Candidate>)> {
        const MASK: u32 = 5;
        (1usize..12).prop_flat_map(|n| {
            let tokens = proptest::collection::vec(prop_oneof![Just(MASK), 0u32..5], n);
            let candidates = proptest::collection::vec(
                (0u32..5, 1u8..=10)
                    .prop_map(|(token, tenths)| Candidate { token, probability: f32::from(tenths) / 10.0 }),
                n,
            );
            (tokens, 0..=n, candidates)
                .prop_map(|(tokens, fixed, candidates)| (Canvas { tokens, fixed, mask: MASK }, candidates))
        })
    }

    /// The `count` largest by repeated search, the earlier of equals first.
    pub(crate) fn plain_top(values: &[f32], count: usize) -> Vec<bool> {
        let mut chosen = vec![false; values.len()];
        for _ in 0..count {
            let mut best: Option<usize> = None;
            for i in 0..values.len() {
                if !chosen[i] && best.is_none_or(|b| values[i] > values[b]) {
                    best = Some(i);
                }
            }
            if let Some(best) = best {
                chosen[best] = true;
            }
        }
        chosen
    }

    #[test]
    fn presets_and_single_values_go_over_the_defaults() {
        let defaults = DecodeDefaults { decoder: DecoderKind::Threshold, threshold: 0.95, ..DecodeDefaults::default() };
        let base = DecodeSettings::from_defaults(&defaults).expect("in range");
        let none = DiffusionOptions::default();
        assert_eq!(base.for_request(&none).expect("nothing asked"), base);
        let custom = DiffusionOptions { mode: Some(DecodeMode::Custom), ..none.clone() };
        assert_eq!(base.for_request(&custom).expect("nothing else asked"), base);
        let mut asked = DiffusionOptions { mode: Some(DecodeMode::Speed), editing_threshold: Some(0.25), ..none };
        let speed = base.for_request(&asked).expect("in range");
        assert_eq!((speed.decoder, speed.threshold, speed.editing_threshold), (DecoderKind::Joint, 0.5, 0.25));
        asked.decoder = Some(DecoderKind::Hierarchy);
        assert_eq!(base.for_request(&asked).expect("in range").decoder, DecoderKind::Hierarchy);
        let defaults = DecodeDefaults { decoder: DecoderKind::Levenshtein, ..DecodeDefaults::default() };
        let base = DecodeSettings::from_defaults(&defaults).expect("in range");
        asked.decoder = None;
        assert_eq!(base.for_request(&asked).expect("in range").decoder, DecoderKind::Levenshtein, "it edits");
    }

    #[test]
    fn another_block_length_keeps_the_share_written_a_step() {
        let defaults = DecodeDefaults { max_steps_per_block: 8, ..DecodeDefaults::default() };
        let base = DecodeSettings::from_defaults(&defaults).expect("in range");
        let short = DiffusionOptions { block_length: Some(16), ..DiffusionOptions::default() };
        let settings = base.for_request(&short).expect("in range");
        assert_eq!((settings.block_length, settings.max_steps), (16, 4));
        let named = DiffusionOptions { max_steps: Some(16), ..short };
        assert_eq!(base.for_request(&named).expect("in range").max_steps, 16);
    }

    #[test]
    fn out_of_range_values_name_their_field() {
        let base = DecodeSettings::from_defaults(&DecodeDefaults::default()).expect("in range");
        let none = DiffusionOptions::default();
        for (options, field) in [
            (DiffusionOptions { threshold: Some(1.5), ..none.clone() }, "diffusion.threshold"),
            (DiffusionOptions { threshold: Some(f32::NAN), ..none.clone() }, "diffusion.threshold"),
            (DiffusionOptions { editing_threshold: Some(-0.1), ..none.clone() }, "diffusion.editing_threshold"),
            (DiffusionOptions { max_post_steps: Some(65), ..none.clone() }, "diffusion.max_post_steps"),
            (DiffusionOptions { block_length: Some(0), ..none.clone() }, "diffusion.block_length"),
            (DiffusionOptions { block_length: Some(24), ..none.clone() }, "diffusion.block_length"),
            (DiffusionOptions { block_length: Some(512), ..none.clone() }, "diffusion.block_length"),
            (DiffusionOptions { max_steps: Some(0), ..none.clone() }, "diffusion.max_steps"),
            (DiffusionOptions { max_steps: Some(9), block_length: Some(8), ..none.clone() }, "diffusion.max_steps"),
            (DiffusionOptions { multi_block_window: Some(5), ..none.clone() }, "diffusion.multi_block_window"),
            (DiffusionOptions { repeat_penalty: Some(-1.0), ..none.clone() }, "diffusion.repeat_penalty"),
        ] {
            let error = base.for_request(&options).expect_err("out of range");
            assert!(matches!(&error, EngineError::InvalidRequest { field: named, .. } if named == field), "{error:?}");
        }
        for defaults in [
            DecodeDefaults { block_length: 0, ..DecodeDefaults::default() },
            DecodeDefaults { threshold: f32::NAN, ..DecodeDefaults::default() },
            DecodeDefaults { max_steps_per_block: 33, ..DecodeDefaults::default() },
        ] {
            assert!(DecodeSettings::from_defaults(&defaults).is_err());
        }
    }
}
