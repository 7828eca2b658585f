//! What a request does with the logits of one forward: an autoregressive one takes a token, a diffusion one lets its
//! decoder write into the active block. Knows the canvas, the decoder and the sampler of one request. Must never know
//! the cache, nor decide when a block's K/V is committed: that is the lane's.

use weir_protocol::{DiffusionStats, EngineError};

use crate::checkpoint::tokenizer::TextTokenizer;
use crate::decode::Canvas;
use crate::decode::block::{BlockDecoder, BlockState};
use crate::decode::levenshtein::{ControlTokens, Slot};
use crate::decode::logprobs::TokenScore;
use crate::decode::settings::DecodeSettings;
use crate::options::DecoderKind;

use super::answer::Answer;
use super::scorer::{Readout, Scorer};

/// What only a diffusion request has.
pub(crate) struct DiffusionJob {
    pub(crate) settings: DecodeSettings,
    pub(crate) mask: u32,
    /// Present for a model that was trained with them.
    pub(crate) control: Option<ControlTokens>,
    pub(crate) drafts: bool,
}

/// Final tokens with the log-probabilities asked for: as many, or none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) tokens: Vec<u32>,
    pub(crate) scores: Vec<TokenScore>,
}

/// Writes token after token.
pub(crate) struct TokenWriter {
    scorer: Scorer,
    /// Absolute position of the next token.
    position: usize,
    /// Tokens written.
    count: usize,
}

impl TokenWriter {
    /// `prompt` is the prompt's length.
    pub(crate) fn new(scorer: Scorer, prompt: usize) -> Self {
        TokenWriter { scorer, position: prompt, count: 0 }
    }

    /// The next token.
    pub(crate) fn step(&mut self, read: &mut Readout<'_>) -> Result<Written, EngineError> {
        let written = self.scorer.rules.with_canvas(std::iter::empty());
        for row in read.rows_mut() {
            self.scorer.rules.apply(row, self.count, &written, None);
        }
        let candidates = self.scorer.candidates(read, self.position)?;
        let tokens: Vec<u32> = candidates.iter().map(|candidate| candidate.token).collect();
        self.scorer.rules.commit(&tokens);
        self.position += tokens.len();
        self.count += tokens.len();
        let scores = tokens.iter().enumerate().filter_map(|(at, token)| self.scorer.score(read, at, *token)).collect();
        Ok(Written { tokens, scores })
    }
}

/// Writes block after block.
pub(crate) struct BlockWriter {
    job: DiffusionJob,
    scorer: Scorer,
    canvas: Canvas,
    /// Absolute position of the canvas.
    start: usize,
    /// Length of the prompt.
    prompt: usize,
    decoder: BlockDecoder,
    /// By position of the canvas: the log-probabilities asked for of what is written there.
    scores: Vec<Option<TokenScore>>,
    stats: DiffusionStats,
    /// The token before the canvas.
    left: Option<u32>,
    /// Most positions the model has.
    context: usize,
}

impl BlockWriter {
    /// Opens the first block, which begins with the prompt's `tail` and ends at a multiple of the block length.
    /// `before` is the prompt without it.
    pub(crate) fn new(job: DiffusionJob, scorer: Scorer, before: &[u32], tail: Vec<u32>, context: usize) -> Self {
        let (start, left) = (before.len(), before.last().copied());
        let prompt = start + tail.len();
        let canvas = open_canvas(tail, start, &job, context);
        let stats = DiffusionStats { blocks: 1, ..DiffusionStats::default() };
        let scores = vec![None; canvas.tokens.len()];
        let decoder = BlockDecoder::default();
        BlockWriter { job, scorer, canvas, start, prompt, decoder, scores, stats, left, context }
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
    pub(crate) fn generated(&self) -> Written {
        let scores = self.scores.iter().skip(self.canvas.fixed).flatten().cloned().collect();
        Written { tokens: self.answered().to_vec(), scores }
    }

    fn answered(&self) -> &[u32] {
        self.canvas.tokens.get(self.canvas.fixed..).unwrap_or_default()
    }

    /// One denoise step.
    pub(crate) fn step(&mut self, read: &mut Readout<'_>, answer: &Answer) -> Result<BlockState, EngineError> {
        self.stats.steps += 1;
        self.adjust(read);
        let candidates = self.scorer.candidates(read, self.start)?;
        let before = self.canvas.clone();
        let (settings, control) = (&self.job.settings, self.job.control);
        let runner_up = |at: usize, token: u32| {
            let mut row = read.row(at)?.to_vec();
            *row.get_mut(token as usize)? = f32::NEG_INFINITY;
            u32::try_from(read.kernels.top1(&row)?.index).ok()
        };
        let replaced = self.decoder.write(&mut self.canvas, &candidates, settings, control, runner_up);
        self.note(&before, read);
        let mut state = self.decoder.judge(&before, &self.canvas, replaced, &self.job.settings);
        if state == BlockState::Open && !self.job.settings.edits() && self.is_decided(answer) {
            state = BlockState::Final { confirmed: false };
        }
        if self.job.drafts {
            let masked = self.canvas.masked().len() as u32;
            answer.draft(self.snapshot(read.tokenizer), self.stats.steps, masked);
        }
        Ok(state)
    }

    /// Applies to the logits what the caller and the decoder want: afterwards a row's likeliest token is what may be
    /// written there.
    fn adjust(&mut self, read: &mut Readout<'_>) {
        let canvas = &self.canvas;
        let (settings, control) = (&self.job.settings, self.job.control);
        let is_last = self.decoder.is_last(settings);
        let rules = &self.scorer.rules;
        let on_canvas = self.answered().iter().copied().filter(|token| *token != canvas.mask);
        let written = rules.with_canvas(on_canvas);
        let lefts = std::iter::once(self.left).chain(canvas.tokens.iter().copied().map(Some));
        let (kernels, vocab) = (read.kernels, read.vocab);
        for ((at, row), left) in read.logits.chunks_exact_mut(vocab).enumerate().zip(lefts) {
            // sglang's `penalty_lambda`: a token becomes less likely to the right of itself.
            if settings.repeat_penalty > 0.0
                && let Some(logit) = left.and_then(|token| row.get_mut(token as usize))
            {
                *logit -= settings.repeat_penalty;
            }
            let own = canvas.tokens.get(at).copied().filter(|token| at >= canvas.fixed && *token != canvas.mask);
            let index = (self.start + at).saturating_sub(self.prompt);
            rules.apply(row, index, &written, own);
            if settings.decoder == DecoderKind::Levenshtein
                && let Some(control) = control
            {
                let may_move = own.is_some() && !is_last;
                // A deletion before the least length would pull an end token below it.
                forbid(row, control.delete, !may_move || rules.is_early(index));
                forbid(row, control.split, !may_move);
            }
            if settings.decoder == DecoderKind::Credit
                && canvas.is_masked(at)
                && let Some(top) = kernels.top1(row)
            {
                let proposed = crate::decode::Candidate { token: top.index as u32, probability: top.probability };
                for (token, rise) in self.decoder.credits.book(at, proposed) {
                    if let Some(logit) = row.get_mut(token as usize) {
                        *logit += rise;
                    }
                }
            }
        }
    }

    /// Keeps the log-probabilities of what this step wrote, under the distribution of this step's forward.
    fn note(&mut self, before: &Canvas, read: &Readout<'_>) {
        if !self.scorer.reports() {
            return;
        }
        let slot = |at: usize| match self.decoder.slots().and_then(|slots| slots.get(at)) {
            Some(slot) => *slot,
            None if before.tokens.get(at) == self.canvas.tokens.get(at) => Slot::Kept(at),
            None => Slot::Written(at),
        };
        let scores = self.canvas.tokens.iter().enumerate().map(|(at, token)| match slot(at) {
            Slot::Kept(from) => self.scores.get(from).cloned().flatten(),
            Slot::Written(row) => self.scorer.score(read, row, *token),
            Slot::Opened => None,
        });
        self.scores = scores.collect();
    }

    /// Hands out the finished block and opens the next one, which starts at position `start`.
    pub(crate) fn next_block(&mut self, start: usize) -> Vec<u32> {
        self.scorer.rules.commit(self.canvas.tokens.get(self.canvas.fixed..).unwrap_or_default());
        self.stats.blocks += 1;
        self.stats.edits += self.decoder.replaced;
        self.decoder = BlockDecoder::default();
        self.start = start;
        let next = open_canvas(Vec::new(), start, &self.job, self.context);
        self.scores = vec![None; next.tokens.len()];
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
        for run in self.answered().chunk_by(|a, b| (*a == self.canvas.mask) == (*b == self.canvas.mask)) {
            if run.first() == Some(&self.canvas.mask) {
                snapshot.extend(std::iter::repeat_n('░', run.len()));
            } else {
                snapshot.push_str(&tokenizer.decode(run));
            }
        }
        snapshot
    }
}

fn forbid(row: &mut [f32], token: u32, forbidden: bool) {
    if forbidden && let Some(logit) = row.get_mut(token as usize) {
        *logit = f32::NEG_INFINITY;
    }
}

/// The block from position `start` on, masked behind the prompt's `tail`; shorter where the context ends.
fn open_canvas(tail: Vec<u32>, start: usize, job: &DiffusionJob, context: usize) -> Canvas {
    let fixed = tail.len();
    let length = job.settings.block_length.min(context.saturating_sub(start));
    let mut tokens = tail;
    tokens.resize(length.max(fixed), job.mask);
    Canvas { tokens, fixed, mask: job.mask }
}
