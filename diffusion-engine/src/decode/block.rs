//! A block from masks to final tokens: counts steps and decides when the decoder is done with it. Terminates for any
//! candidates: each step writes a mask, spends an editing step, or is counted against the levenshtein decoder's limit.

use super::credit::Credits;
use super::levenshtein::{self, ControlTokens, Slot};
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

/// Counters of one block, and what its decoder remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockDecoder {
    steps: usize,
    post_steps: u32,
    /// Whether the block was without masks once.
    filled: bool,
    /// Written tokens that were replaced, deleted or moved by an insertion.
    pub(crate) replaced: u32,
    pub(crate) credits: Credits,
    /// Forwards since one that computed all of the block; `None` before its first.
    pub(crate) since_whole: Option<usize>,
    moving: Moving,
}

/// What the levenshtein decoder remembers.
#[derive(Debug, Clone, Default)]
struct Moving {
    /// Canvases the block had.
    seen: Vec<Vec<u32>>,
    /// Masks the last step opened: the next one writes as many more.
    opened: usize,
    /// Where the last step's tokens came from.
    slots: Option<Vec<Slot>>,
}

impl BlockDecoder {
    /// Writes what `candidates`, one per position from a forward of the canvas as it is, allow. Returns the number of
    /// written tokens that were changed. `runner_up(at, token)` is a position's likeliest token besides `token`.
    pub(crate) fn write(
        &mut self,
        canvas: &mut Canvas,
        candidates: &[Candidate],
        settings: &DecodeSettings,
        control: Option<ControlTokens>,
        runner_up: impl Fn(usize, u32) -> Option<u32>,
    ) -> usize {
        let DecodeSettings { threshold, editing_threshold: editing, .. } = *settings;
        let least = threshold::least_writes(settings.block_length, settings.max_steps, self.steps);
        match (settings.decoder, control) {
            (DecoderKind::Threshold | DecoderKind::Credit, _) => {
                canvas.write(&threshold::edits(canvas, candidates, threshold, least));
                0
            }
            (DecoderKind::Hierarchy, _) => {
                canvas.write(&hierarchy::edits(canvas, candidates, threshold, least));
                0
            }
            (DecoderKind::Levenshtein, Some(control)) => {
                let least = if self.is_last(settings) { canvas.tokens.len() } else { least + self.moving.opened };
                let edits = levenshtein::edits(canvas, candidates, threshold, editing, least);
                self.moving.seen.push(canvas.tokens.clone());
                let seen: &[Vec<u32>] =
                    if self.is_last(settings) || edits.is_empty() { &[] } else { &self.moving.seen };
                let rewritten = levenshtein::avoiding(seen, canvas, &edits, candidates, control, runner_up);
                self.moving.opened = rewritten.opened();
                canvas.tokens = rewritten.tokens;
                self.moving.slots = Some(rewritten.slots);
                let masked =
                    |edit: &&super::Edit| self.moving.seen.last().is_some_and(|old| old[edit.at] == canvas.mask);
                edits.iter().filter(|edit| !masked(edit)).count()
            }
            // Without control tokens there is nothing to delete or insert with: the engine refuses such requests.
            (DecoderKind::Joint | DecoderKind::MultiBlock | DecoderKind::Levenshtein, _) => {
                let edits = joint::edits(canvas, candidates, threshold, editing, least);
                canvas.write(&edits.unmask);
                canvas.write(&edits.replace);
                edits.replace.len()
            }
        }
    }

    /// How far the block is after a step that turned `before` into `canvas`, with `replaced` written tokens changed.
    pub(crate) fn judge(
        &mut self,
        before: &Canvas,
        canvas: &Canvas,
        replaced: usize,
        settings: &DecodeSettings,
    ) -> BlockState {
        let was_last = self.is_last(settings);
        if self.steps == 0 && before.masked().is_empty() {
            // A block that began without masks: its first step is an editing step already.
            (self.filled, self.post_steps) = (true, 1);
        }
        self.steps += 1;
        self.replaced = self.replaced.saturating_add(replaced as u32);
        if before.masked().is_empty() && before.tokens == canvas.tokens {
            return BlockState::Final { confirmed: true };
        }
        let is_full = canvas.masked().is_empty();
        self.filled |= is_full;
        let spent = self.post_steps >= settings.max_post_steps;
        if is_full && (!settings.decoder.edits() || spent || was_last) {
            return BlockState::Final { confirmed: false };
        }
        if self.filled && !spent {
            self.post_steps += 1;
        }
        BlockState::Open
    }

    /// Whether the next step ends the block whatever it brings: then nothing may be deleted or inserted any more, and
    /// all masks are written. Only the levenshtein decoder needs to be told.
    pub(crate) fn is_last(&self, settings: &DecodeSettings) -> bool {
        let spent = self.filled && self.post_steps >= settings.max_post_steps;
        settings.decoder == DecoderKind::Levenshtein && (spent || self.steps >= 2 * settings.block_length)
    }

    /// Where the tokens came from in the last step, if it may have moved any.
    pub(crate) fn slots(&self) -> Option<&[Slot]> {
        self.moving.slots.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: u32 = 9;
    const CONTROL: ControlTokens = ControlTokens { delete: 10, split: 11 };

    impl BlockDecoder {
        fn step(&mut self, canvas: &mut Canvas, of: &[Candidate], settings: &DecodeSettings) -> BlockState {
            let before = canvas.clone();
            let replaced = self.write(canvas, of, settings, Some(CONTROL), |_, token| Some((token + 1) % 9));
            self.judge(&before, canvas, replaced, settings)
        }
    }

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
            refresh_every: 1,
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

    #[test]
    fn levenshtein_deletes_inserts_and_confirms() {
        let (mut canvas, mut block) = (canvas(), BlockDecoder::default());
        let settings = settings(DecoderKind::Levenshtein, 16);
        let first = candidates([(1, 0.9), (2, 0.9), (3, 0.9), (4, 0.9)]);
        assert_eq!(block.step(&mut canvas, &first, &settings), BlockState::Open);
        assert_eq!(canvas.tokens, [7, 2, 3, 4]);
        let delete = candidates([(1, 0.9), (10, 0.9), (3, 0.9), (4, 0.9)]);
        assert_eq!(block.step(&mut canvas, &delete, &settings), BlockState::Open);
        assert_eq!((canvas.tokens.as_slice(), block.replaced), ([7, 3, 4, MASK].as_slice(), 1));
        let insert = candidates([(1, 0.9), (11, 0.9), (4, 0.9), (5, 0.1)]);
        assert_eq!(block.step(&mut canvas, &insert, &settings), BlockState::Open);
        assert_eq!(canvas.tokens, [7, MASK, 3, 4], "the token just written is pushed out");
        let still = candidates([(1, 0.9), (6, 0.9), (3, 0.9), (4, 0.9)]);
        assert_eq!(block.step(&mut canvas, &still, &settings), BlockState::Open);
        assert_eq!(block.step(&mut canvas, &still, &settings), BlockState::Final { confirmed: true });
        assert_eq!(canvas.tokens, [7, 6, 3, 4]);
    }

    #[test]
    fn levenshtein_never_comes_to_a_canvas_twice_and_ends_full() {
        for budget in [0u32, 1, 5, 64] {
            let (mut canvas, mut block) = (canvas(), BlockDecoder::default());
            let settings = settings(DecoderKind::Levenshtein, budget);
            let (mut forwards, mut seen) = (0u32, vec![canvas.tokens.clone()]);
            let confirmed = loop {
                forwards += 1;
                // Tries to delete and insert for ever; the writer lets no control token through where it may not be.
                let wild = if forwards % 2 == 0 { 10 } else { 11 };
                let last = block.is_last(&settings);
                let of: Vec<Candidate> = (0..4)
                    .map(|at| if canvas.is_masked(at) || last { 3 } else { wild })
                    .map(|token| Candidate { token, probability: 0.9 })
                    .collect();
                if let BlockState::Final { confirmed } = block.step(&mut canvas, &of, &settings) {
                    break confirmed;
                }
                if !last {
                    assert!(!seen.contains(&canvas.tokens), "{:?} again, {seen:?}", canvas.tokens);
                    seen.push(canvas.tokens.clone());
                }
            };
            assert!(canvas.masked().is_empty() && forwards <= 2 * 4 + 1 + budget, "{forwards} {confirmed}");
            assert!(!canvas.tokens.iter().any(|token| CONTROL.contains(*token)));
        }
    }
}
