//! A block from masks to final tokens: counts steps and decides when the decoder is done with it. Terminates for any
//! candidates: each step writes a mask or spends an editing step.

use super::settings::DecodeSettings;
use super::{Candidate, Canvas, hierarchy, joint, threshold};
use crate::options::DecoderKind;

/// How far a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockState {
    /// Needs another forward.
    Open,
    /// Will not change. `confirmed`: the forward just seen had the final tokens as its input, so its K/V may be
    /// committed (report 2.1: the last step, which changes nothing).
    Final {
        /// Whether that forward is good for the cache.
        confirmed: bool,
    },
}

/// Counters of one block.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockDecoder {
    steps: usize,
    post_steps: u32,
    /// Written tokens that were replaced.
    pub(crate) replaced: u32,
}

impl BlockDecoder {
    /// Writes what `candidates`, one per position from a forward of the canvas as it is, allow.
    pub(crate) fn step(
        &mut self,
        canvas: &mut Canvas,
        candidates: &[Candidate],
        settings: &DecodeSettings,
    ) -> BlockState {
        let was_full = canvas.masked().is_empty();
        let least = threshold::least_writes(settings.block_length, settings.max_steps, self.steps);
        let replaced = match settings.decoder {
            DecoderKind::Hierarchy => {
                canvas.write(&hierarchy::edits(canvas, candidates, settings.threshold, least));
                0
            }
            DecoderKind::Joint => {
                let edits = joint::edits(canvas, candidates, settings.threshold, settings.editing_threshold, least);
                canvas.write(&edits.unmask);
                canvas.write(&edits.replace);
                edits.replace.len()
            }
            // The engine refuses what it has no decoder for before a request gets here.
            DecoderKind::Threshold | DecoderKind::Credit | DecoderKind::Levenshtein | DecoderKind::MultiBlock => {
                canvas.write(&threshold::edits(canvas, candidates, settings.threshold, least));
                0
            }
        };
        self.steps += 1;
        self.replaced = self.replaced.saturating_add(replaced as u32);
        if was_full && replaced == 0 {
            return BlockState::Final { confirmed: true };
        }
        if !canvas.masked().is_empty() {
            return BlockState::Open;
        }
        if !settings.edits() || self.post_steps >= settings.max_post_steps {
            return BlockState::Final { confirmed: false };
        }
        self.post_steps += 1;
        BlockState::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: u32 = 9;

    fn settings(decoder: DecoderKind, max_post_steps: u32) -> DecodeSettings {
        DecodeSettings {
            decoder,
            threshold: 0.5,
            editing_threshold: 0.5,
            max_post_steps,
            block_length: 4,
            max_steps: 4,
            window: 2,
            repeat_penalty: 0.0,
        }
    }

    fn candidates(of: [(u32, f32); 4]) -> Vec<Candidate> {
        of.into_iter().map(|(token, probability)| Candidate { token, probability }).collect()
    }

    fn canvas() -> Canvas {
        Canvas { tokens: vec![7, MASK, MASK, MASK], fixed: 1, mask: MASK }
    }

    #[test]
    fn threshold_ends_when_full_and_leaves_the_commit_to_another_forward() {
        let (mut canvas, mut block) = (canvas(), BlockDecoder::default());
        let settings = settings(DecoderKind::Threshold, 16);
        let first = candidates([(1, 0.9), (2, 0.9), (3, 0.1), (4, 0.2)]);
        assert_eq!(block.step(&mut canvas, &first, &settings), BlockState::Open);
        assert_eq!(canvas.tokens, [7, 2, MASK, MASK], "the sure one only; the prompt stays");
        let second = candidates([(1, 0.9), (5, 0.9), (3, 0.1), (4, 0.2)]);
        assert_eq!(block.step(&mut canvas, &second, &settings), BlockState::Open);
        assert_eq!(canvas.tokens, [7, 2, MASK, 4], "the likeliest of the unsure; written tokens stay");
        assert_eq!(block.step(&mut canvas, &second, &settings), BlockState::Final { confirmed: false });
        assert_eq!(canvas.tokens, [7, 2, 3, 4]);
    }

    #[test]
    fn joint_edits_until_nothing_changes() {
        let (mut canvas, mut block) = (canvas(), BlockDecoder::default());
        let settings = settings(DecoderKind::Joint, 16);
        let first = candidates([(1, 0.9), (2, 0.9), (3, 0.9), (4, 0.9)]);
        assert_eq!(block.step(&mut canvas, &first, &settings), BlockState::Open, "full, but not confirmed");
        let second = candidates([(1, 0.9), (2, 0.9), (8, 0.9), (6, 0.4)]);
        assert_eq!(block.step(&mut canvas, &second, &settings), BlockState::Open);
        assert_eq!((canvas.tokens.as_slice(), block.replaced), ([7, 2, 8, 4].as_slice(), 1));
        assert_eq!(block.step(&mut canvas, &second, &settings), BlockState::Final { confirmed: true });
    }

    #[test]
    fn joint_gives_up_after_the_editing_budget() {
        for budget in [0u32, 1, 3] {
            let (mut canvas, mut block) = (canvas(), BlockDecoder::default());
            let settings = settings(DecoderKind::Joint, budget);
            let mut forwards = 0;
            let end = loop {
                forwards += 1;
                let token = forwards % 8;
                let restless = candidates([(token, 0.9); 4]);
                if let end @ BlockState::Final { .. } = block.step(&mut canvas, &restless, &settings) {
                    break end;
                }
            };
            assert_eq!((end, forwards), (BlockState::Final { confirmed: false }, 1 + budget));
        }
    }
}
