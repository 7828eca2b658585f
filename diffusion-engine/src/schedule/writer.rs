//! What a request does with the logits of one forward: an autoregressive one takes a token, a diffusion one lets its
//! decoder write into the active block. Knows the canvas, the decoder and the sampler of one request. Must never know
//! the cache, nor decide when a block's K/V is committed: that is the lane's.

use weir_kernels::Kernels;
use weir_protocol::{DiffusionStats, EngineError};

use crate::checkpoint::tokenizer::TextTokenizer;
use crate::decode::block::{BlockDecoder, BlockState};
use crate::decode::sampling::Sampler;
use crate::decode::settings::DecodeSettings;
use crate::decode::{Candidate, Canvas};

use super::answer::Answer;

/// What only a diffusion request has.
pub(crate) struct DiffusionJob {
    pub(crate) settings: DecodeSettings,
    pub(crate) mask: u32,
    pub(crate) drafts: bool,
}

/// One request's logits of one forward, and what is needed to read them.
pub(crate) struct Readout<'a> {
    /// `[rows, vocab]`.
    pub(crate) logits: &'a mut [f32],
    pub(crate) vocab: usize,
    pub(crate) kernels: &'a Kernels,
    pub(crate) tokenizer: &'a TextTokenizer,
}

/// One candidate per row.
fn candidates(sampler: &mut Sampler, mask: Option<u32>, read: &mut Readout<'_>) -> Result<Vec<Candidate>, EngineError> {
    let rows = read.logits.chunks_exact_mut(read.vocab);
    rows.map(|row| {
        let candidate = sampler.pick(read.kernels, row, mask);
        candidate.ok_or_else(|| EngineError::internal("the model's logits are not numbers"))
    })
    .collect()
}

/// Writes token after token.
pub(crate) struct TokenWriter {
    pub(crate) sampler: Sampler,
    /// Never written.
    pub(crate) mask: Option<u32>,
}

impl TokenWriter {
    /// The next token, as a list of one.
    pub(crate) fn step(&mut self, read: &mut Readout<'_>) -> Result<Vec<u32>, EngineError> {
        let candidates = candidates(&mut self.sampler, self.mask, read)?;
        Ok(candidates.into_iter().map(|candidate| candidate.token).collect())
    }
}

/// Writes block after block.
pub(crate) struct BlockWriter {
    job: DiffusionJob,
    sampler: Sampler,
    canvas: Canvas,
    decoder: BlockDecoder,
    stats: DiffusionStats,
    /// The token before the canvas.
    left: Option<u32>,
    /// Most positions the model has.
    context: usize,
}

impl BlockWriter {
    /// Opens the first block, which begins with the prompt's `tail` and ends at a multiple of the block length.
    /// `before` is the prompt without it.
    pub(crate) fn new(job: DiffusionJob, sampler: Sampler, before: &[u32], tail: Vec<u32>, context: usize) -> Self {
        let end = before.len() + tail.len();
        let canvas = open_canvas(tail, end, &job, context);
        let stats = DiffusionStats { blocks: 1, ..DiffusionStats::default() };
        BlockWriter {
            job,
            sampler,
            canvas,
            decoder: BlockDecoder::default(),
            stats,
            left: before.last().copied(),
            context,
        }
    }

    /// Tokens in a block.
    pub(crate) fn block_length(&self) -> usize {
        self.job.settings.block_length
    }

    /// The active block as it stands.
    pub(crate) fn canvas(&self) -> &[u32] {
        &self.canvas.tokens
    }

    /// The active block's tokens that belong to the answer.
    pub(crate) fn generated(&self) -> &[u32] {
        self.canvas.tokens.get(self.canvas.fixed..).unwrap_or_default()
    }

    /// One denoise step.
    pub(crate) fn step(&mut self, read: &mut Readout<'_>, answer: &Answer) -> Result<BlockState, EngineError> {
        self.penalise_repeats(read);
        let candidates = candidates(&mut self.sampler, Some(self.job.mask), read)?;
        self.stats.steps += 1;
        let mut state = self.decoder.step(&mut self.canvas, &candidates, &self.job.settings);
        if !self.job.settings.edits() && self.is_decided(answer) {
            state = BlockState::Final { confirmed: false };
        }
        if self.job.drafts {
            let masked = self.canvas.masked().len() as u32;
            answer.draft(self.snapshot(read.tokenizer), self.stats.steps, masked);
        }
        Ok(state)
    }

    /// A token becomes less likely to the right of itself (sglang's `penalty_lambda` of its joint decoder).
    fn penalise_repeats(&self, read: &mut Readout<'_>) {
        if self.job.settings.repeat_penalty == 0.0 {
            return;
        }
        let left = std::iter::once(self.left).chain(self.canvas.tokens.iter().copied().map(Some));
        for (row, left) in read.logits.chunks_exact_mut(read.vocab).zip(left) {
            if let Some(logit) = left.and_then(|token| row.get_mut(token as usize)) {
                *logit -= self.job.settings.repeat_penalty;
            }
        }
    }

    /// Hands out the finished block and opens the next one, which starts at position `start`.
    pub(crate) fn next_block(&mut self, start: usize) -> Vec<u32> {
        self.stats.blocks += 1;
        self.stats.edits += self.decoder.replaced;
        self.decoder = BlockDecoder::default();
        let next = open_canvas(Vec::new(), start, &self.job, self.context);
        let finished = std::mem::replace(&mut self.canvas, next).tokens;
        self.left = finished.last().copied();
        finished
    }

    /// What the answer of `tokens` tokens cost.
    pub(crate) fn stats(self, tokens: usize) -> DiffusionStats {
        DiffusionStats { edits: self.stats.edits + self.decoder.replaced, tokens: tokens as u32, ..self.stats }
    }

    /// Whether the rest of the block cannot change the answer: a decoder that does not edit never takes a token back, so
    /// everything up to the first end token (or the token limit) being written is enough.
    fn is_decided(&self, answer: &Answer) -> bool {
        let generated = self.canvas.tokens.iter().enumerate().skip(self.canvas.fixed);
        for (count, (at, token)) in generated.enumerate() {
            if count == answer.room() {
                return true;
            }
            if self.canvas.is_masked(at) {
                return false;
            }
            if answer.is_end(*token) {
                return true;
            }
        }
        true
    }

    /// The block as text, masks as `░`.
    fn snapshot(&self, tokenizer: &TextTokenizer) -> String {
        let mut snapshot = String::new();
        for run in self.generated().chunk_by(|a, b| (*a == self.canvas.mask) == (*b == self.canvas.mask)) {
            if run.first() == Some(&self.canvas.mask) {
                snapshot.extend(std::iter::repeat_n('░', run.len()));
            } else {
                snapshot.push_str(&tokenizer.decode(run));
            }
        }
        snapshot
    }
}

/// The block that holds position `end`, masked behind the prompt's `tail`; shorter where the context ends.
fn open_canvas(tail: Vec<u32>, end: usize, job: &DiffusionJob, context: usize) -> Canvas {
    let fixed = tail.len();
    let length = job.settings.block_length.min(context.saturating_sub(end - fixed));
    let mut tokens = tail;
    tokens.resize(length.max(fixed), job.mask);
    Canvas { tokens, fixed, mask: job.mask }
}
