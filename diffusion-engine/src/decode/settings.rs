//! What decoding a request gets: the engine's defaults, a preset, single values, each checked. Must never clamp
//! silently.

use weir_protocol::{DiffusionOptions, OutOfRange};

use crate::options::DecoderKind;

/// How one request's blocks are decoded. The default is LLaDA2.1's `quality` preset.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeSettings {
    /// Which decoder.
    pub decoder: DecoderKind,
    /// Confidence above which a mask becomes a token, in [0, 1].
    pub threshold: f32,
    /// Confidence above which a written token is replaced, in [0, 1] (decoders that edit).
    pub editing_threshold: f32,
    /// Most editing forwards after a block is full, 0..=64 (decoders that edit).
    pub max_post_steps: u32,
    /// Tokens in a block, a power of two in 1..=256.
    pub block_length: usize,
    /// Steps in which a block's masks must be gone, 1..=block_length: at least an equal share is written in each.
    pub max_steps: usize,
    /// Blocks that stay open to edits, 2..=4 (`multi_block` only).
    pub window: usize,
    /// Subtracted from the logit of the token to the left, 0..=10.
    pub repeat_penalty: f32,
    /// Every so many-th forward of a block computes all of it, 1..=256; the others take what was made of its settled
    /// positions before. Not for `levenshtein`, which moves them, nor for a decoder that edits under a form.
    pub refresh_every: usize,
}

impl Default for DecodeSettings {
    fn default() -> Self {
        DecodeSettings {
            decoder: DecoderKind::Joint,
            threshold: 0.7,
            editing_threshold: 0.5,
            max_post_steps: 16,
            block_length: 32,
            max_steps: 32,
            window: 2,
            repeat_penalty: 0.0,
            refresh_every: 1,
        }
    }
}

impl DecodeSettings {
    /// `options` over these settings. A named preset brings its thresholds for the decoder; single values go over them.
    pub(crate) fn over(&self, options: &DiffusionOptions) -> Result<Self, OutOfRange> {
        if let Some(wrong) = options.out_of_range().into_iter().next() {
            return Err(wrong);
        }
        let mut settings = self.clone();
        put(&mut settings.decoder, options.decoder);
        if let Some(thresholds) = options.mode.and_then(|mode| mode.thresholds(settings.decoder)) {
            (settings.threshold, settings.editing_threshold) = thresholds;
            settings.max_post_steps = 16;
        }
        if let Some(length) = options.block_length {
            let length = length as usize;
            // A share of the block stays the same share.
            settings.max_steps = (self.max_steps * length).div_ceil(self.block_length).max(1);
            settings.block_length = length;
        }
        put(&mut settings.threshold, options.threshold);
        put(&mut settings.editing_threshold, options.editing_threshold);
        put(&mut settings.max_post_steps, options.max_post_steps);
        put(&mut settings.max_steps, options.max_steps.map(|steps| steps as usize));
        put(&mut settings.window, options.multi_block_window.map(|blocks| blocks as usize));
        put(&mut settings.repeat_penalty, options.repeat_penalty);
        put(&mut settings.refresh_every, options.refresh_every.map(|forwards| forwards as usize));
        if settings.max_steps > settings.block_length {
            let message = format!("must be from 1 to {}, the block's length", settings.block_length);
            return Err(OutOfRange { field: "max_steps", message });
        }
        Ok(settings)
    }
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use weir_protocol::DecodeMode;

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
    fn presets_and_single_values_go_over_the_settings() {
        let base = DecodeSettings { decoder: DecoderKind::Threshold, threshold: 0.95, ..DecodeSettings::default() };
        let none = DiffusionOptions::default();
        assert_eq!(base.over(&none), Ok(base.clone()), "nothing asked");
        let custom = DiffusionOptions { mode: Some(DecodeMode::Custom), ..none.clone() };
        assert_eq!(base.over(&custom), Ok(base.clone()), "nothing else asked");
        let preset = |mode, decoder| {
            let asked = DiffusionOptions { mode: Some(mode), decoder, ..none.clone() };
            let got = base.over(&asked).expect("in range");
            (got.decoder, got.threshold, got.editing_threshold)
        };
        assert_eq!(preset(DecodeMode::Speed, None), (DecoderKind::Threshold, 0.85, 0.0), "its own decoder's");
        assert_eq!(preset(DecodeMode::Quality, None), (DecoderKind::Threshold, 0.95, 0.0));
        let joint = Some(DecoderKind::Joint);
        assert_eq!(
            preset(DecodeMode::Speed, joint),
            (DecoderKind::Joint, 0.5, 0.0),
            "the decoder's that was asked for"
        );
        assert_eq!(preset(DecodeMode::Quality, joint), (DecoderKind::Joint, 0.7, 0.5));
        let single = DiffusionOptions { mode: Some(DecodeMode::Speed), threshold: Some(0.25), ..none };
        assert_eq!(base.over(&single).expect("in range").threshold, 0.25);
    }

    #[test]
    fn another_block_length_keeps_the_share_written_a_step() {
        let base = DecodeSettings { max_steps: 8, ..DecodeSettings::default() };
        let short = DiffusionOptions { block_length: Some(16), ..DiffusionOptions::default() };
        let settings = base.over(&short).expect("in range");
        assert_eq!((settings.block_length, settings.max_steps), (16, 4));
        let named = DiffusionOptions { max_steps: Some(16), ..short };
        assert_eq!(base.over(&named).expect("in range").max_steps, 16);
    }

    #[test]
    fn out_of_range_values_name_their_field() {
        let base = DecodeSettings::default();
        let none = DiffusionOptions::default();
        for (options, field) in [
            (DiffusionOptions { threshold: Some(1.5), ..none.clone() }, "threshold"),
            (DiffusionOptions { threshold: Some(f32::NAN), ..none.clone() }, "threshold"),
            (DiffusionOptions { editing_threshold: Some(-0.1), ..none.clone() }, "editing_threshold"),
            (DiffusionOptions { max_post_steps: Some(65), ..none.clone() }, "max_post_steps"),
            (DiffusionOptions { block_length: Some(0), ..none.clone() }, "block_length"),
            (DiffusionOptions { block_length: Some(24), ..none.clone() }, "block_length"),
            (DiffusionOptions { block_length: Some(512), ..none.clone() }, "block_length"),
            (DiffusionOptions { max_steps: Some(0), ..none.clone() }, "max_steps"),
            (DiffusionOptions { max_steps: Some(33), ..none.clone() }, "max_steps"),
            (DiffusionOptions { max_steps: Some(9), block_length: Some(8), ..none.clone() }, "max_steps"),
            (DiffusionOptions { multi_block_window: Some(5), ..none.clone() }, "multi_block_window"),
            (DiffusionOptions { repeat_penalty: Some(-1.0), ..none.clone() }, "repeat_penalty"),
            (DiffusionOptions { refresh_every: Some(0), ..none.clone() }, "refresh_every"),
            (DiffusionOptions { refresh_every: Some(257), ..none.clone() }, "refresh_every"),
        ] {
            let wrong = base.over(&options).expect_err("out of range");
            assert_eq!(wrong.field, field, "{wrong:?}");
        }
    }
}
