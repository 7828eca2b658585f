//! What decoding a request gets: the engine's defaults, a preset, single values, each checked. Must never clamp
//! silently.

use weir_protocol::{DecodeMode, DiffusionOptions, EngineError};

use crate::error::LoadError;
use crate::options::{DecodeDefaults, DecoderKind};

const MOST_POST_STEPS: u32 = 64;
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
}

impl DecodeSettings {
    /// The operator's defaults.
    pub(crate) fn from_defaults(defaults: &DecodeDefaults) -> Result<Self, LoadError> {
        let wrong = |field: &str, message: &str| LoadError::Config {
            file: "options".into(),
            field: format!("defaults.{field}"),
            message: message.into(),
        };
        if !(0.0..=1.0).contains(&defaults.threshold) {
            return Err(wrong("threshold", "expected a number in 0..=1"));
        }
        if !(0.0..=1.0).contains(&defaults.editing_threshold) {
            return Err(wrong("editing_threshold", "expected a number in 0..=1"));
        }
        if defaults.max_post_steps > MOST_POST_STEPS {
            return Err(wrong("max_post_steps", "expected at most 64"));
        }
        if !(1..=MOST_BLOCK_LENGTH).contains(&defaults.block_length) {
            return Err(wrong("block_length", "expected 1..=256"));
        }
        let max_steps = defaults.max_steps_per_block as usize;
        if !(1..=defaults.block_length).contains(&max_steps) {
            return Err(wrong("max_steps_per_block", "expected 1..=block_length"));
        }
        Ok(DecodeSettings {
            decoder: defaults.decoder,
            threshold: defaults.threshold,
            editing_threshold: defaults.editing_threshold,
            max_post_steps: defaults.max_post_steps,
            block_length: defaults.block_length,
            max_steps,
        })
    }

    /// The request's settings over these. A named preset brings the joint decoder and its thresholds (LLaDA2.1 model
    /// card), single values go over the preset's.
    pub(crate) fn for_request(&self, options: &DiffusionOptions) -> Result<Self, EngineError> {
        let mut settings = self.clone();
        if let Some(mode) = options.mode {
            settings.decoder = DecoderKind::Joint;
            settings.max_post_steps = 16;
            (settings.threshold, settings.editing_threshold) = match mode {
                DecodeMode::Speed => (0.5, 0.0),
                DecodeMode::Quality => (0.7, 0.5),
            };
        }
        for (value, place, field) in [
            (options.threshold, &mut settings.threshold, "diffusion.threshold"),
            (options.editing_threshold, &mut settings.editing_threshold, "diffusion.editing_threshold"),
        ] {
            match value {
                Some(value) if (0.0..=1.0).contains(&value) => *place = value,
                Some(_) => return Err(EngineError::invalid(field, "must be a number from 0 to 1")),
                None => {}
            }
        }
        match options.max_post_steps {
            Some(steps) if steps > MOST_POST_STEPS => {
                return Err(EngineError::invalid("diffusion.max_post_steps", "must be a whole number from 0 to 64"));
            }
            Some(steps) => settings.max_post_steps = steps,
            None => {}
        }
        Ok(settings)
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
        let plain = base.for_request(&DiffusionOptions::default()).expect("nothing asked");
        assert_eq!(plain, base);
        let speed = DiffusionOptions {
            mode: Some(DecodeMode::Speed),
            editing_threshold: Some(0.25),
            ..DiffusionOptions::default()
        };
        let speed = base.for_request(&speed).expect("in range");
        assert_eq!((speed.decoder, speed.threshold, speed.editing_threshold), (DecoderKind::Joint, 0.5, 0.25));
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
