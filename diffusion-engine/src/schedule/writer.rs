//! What a diffusion request does with the logits of one forward: its decoder writes into the active block, as far as the
//! form demanded of the answer allows it. Knows the canvas, the decoder, the sampler and the form of one request. Must
//! never know the cache, nor decide when a block's K/V is committed: that is the lane's.

mod reading;

use weir_protocol::{DiffusionStats, EngineError};

use crate::checkpoint::tokenizer::TextTokenizer;
use crate::constrain::constraint::Constraint;
use crate::decode::Canvas;
use crate::decode::block::{BlockDecoder, BlockState};
use crate::decode::levenshtein::Slot;
use crate::decode::multi_block::{self, MOST_REVISITS};
use crate::model::forward::Visibility;
use crate::options::DecoderKind;

use super::answer::Answer;
use super::lane::DiffusionJob;
use super::rows::Rows;
use super::scorer::{Readout, Scorer};
use super::token_writer::Written;
use super::watch::{Watch, Wish};
use super::window::{Block, Window, open_block};

/// Writes block after block.
pub(crate) struct BlockWriter {
    job: DiffusionJob,
    scorer: Scorer,
    constraint: Option<Constraint>,
    active: Block,
    /// The canvas before the last step.
    before: Canvas,
    /// The frontier's logits before the form restricted them, and memory for others that are read again.
    kept: Vec<f32>,
    again: Vec<f32>,
    decoder: BlockDecoder,
    /// Finished blocks that stay open to edits.
    window: Window,
    watch: Watch,
    stats: DiffusionStats,
    /// Length of the prompt.
    prompt: usize,
    /// Most positions the model has.
    context: usize,
}

/// What leaves when a block is finished.
pub(crate) struct Closed {
    /// Blocks that are final now.
    pub(crate) leaving: Vec<Written>,
    /// All tokens that were open, those of `leaving` included.
    pub(crate) window: Vec<u32>,
}

/// What follows a finished block.
pub(crate) enum Finished {
    Closed(Closed),
    /// The next forward revisits the open blocks: K/V from this position on is scratch.
    Revisit(usize),
}

impl BlockWriter {
    /// Opens the first block, which begins with the prompt's `tail` and ends at a multiple of the block length.
    /// `before` is the prompt without it.
    pub(crate) fn new(
        mut job: DiffusionJob,
        scorer: Scorer,
        constraint: Option<Constraint>,
        before: &[u32],
        tail: Vec<u32>,
        context: usize,
    ) -> Self {
        let prompt = before.len() + tail.len();
        let active = open_block(tail, before.len(), before.last().copied(), &mut job, context);
        // Under a form, a block that was validated is not opened again.
        let revisits = job.settings.decoder == DecoderKind::MultiBlock && constraint.is_none();
        let window = Window::new(if revisits { job.settings.window } else { 0 });
        let stats = DiffusionStats { blocks: 1, ..DiffusionStats::default() };
        let decoder = BlockDecoder::default();
        let watch = Watch::new(job.wish, job.mask);
        BlockWriter {
            job,
            scorer,
            constraint,
            active,
            before: Canvas::default(),
            kept: Vec::new(),
            again: Vec::new(),
            decoder,
            window,
            watch,
            stats,
            prompt,
            context,
        }
    }

    /// Writes what is forced in the block just opened. `true` when the block is final without a forward.
    pub(crate) fn open(&mut self, answer: &Answer, tokenizer: &TextTokenizer) -> Result<bool, EngineError> {
        let mut complete = false;
        if let Some(constraint) = &mut self.constraint {
            complete = constraint.open(&mut self.active.canvas, answer.room())?;
            self.note_forced();
        }
        self.show(true, tokenizer, answer);
        Ok(complete)
    }

    /// Whether the token limit ended the answer before all was said, although its form is whole.
    pub(crate) fn was_cut(&self) -> bool {
        self.constraint.as_ref().is_some_and(Constraint::was_cut)
    }

    /// Tokens in a block.
    pub(crate) fn block_length(&self) -> usize {
        self.job.settings.block_length
    }

    /// Most tokens before the canvas that are fed together with it.
    pub(crate) fn riding_length(&self) -> usize {
        if self.window.is_used() { self.job.settings.window * self.block_length() } else { self.block_length() }
    }

    /// The next forward's tokens behind those whose K/V is to be made.
    pub(crate) fn fed(&self) -> impl Iterator<Item = u32> {
        let window = self.window.is_due.then(|| self.window.tokens());
        window.into_iter().flatten().chain(self.active.canvas.tokens.iter().copied())
    }

    /// What the next forward's tokens see of each other.
    pub(crate) fn visibility(&self) -> Visibility {
        let length = self.block_length();
        match self.window.start().filter(|_| self.window.is_due) {
            Some(from) => Visibility::Window { length, from },
            None => Visibility::Blocks(length),
        }
    }

    /// Positions below this will not change.
    pub(crate) fn settled(&self) -> usize {
        self.window.start().unwrap_or(self.active.start)
    }

    /// Open tokens whose K/V is to be made under the strict mask.
    pub(crate) fn open_tokens(&self) -> Vec<u32> {
        self.window.tokens().collect()
    }

    /// Whether the next forward is a revisit.
    pub(crate) fn is_revisiting(&self) -> bool {
        self.window.is_due
    }

    /// One denoise step: candidates of the forward, the decoder's edits, the form demanded, the verdict.
    pub(crate) fn step(&mut self, read: &mut Readout<'_>, answer: &Answer) -> Result<BlockState, EngineError> {
        self.stats.steps += 1;
        self.decoder.since_whole =
            Some(if self.is_partial() { self.decoder.since_whole.map_or(0, |count| count + 1) } else { 0 });
        self.adjust(read);
        let restricted = self.restrict(read)?;
        let candidates = self.candidates(read)?;
        // Lost where the step fails: then the request does.
        let mut before = std::mem::take(&mut self.before);
        before.copy(&self.active.canvas);
        if let (Some(constraint), DecoderKind::Levenshtein) = (&self.constraint, self.job.settings.decoder) {
            // It moves tokens; what is validated must stay in its place.
            self.active.canvas.fixed = constraint.frontier();
        }
        let (settings, control) = (&self.job.settings, self.job.control);
        let runner_up = |at: usize, token: u32| {
            let mut row = read.row(at)?.to_vec();
            *row.get_mut(token as usize)? = f32::NEG_INFINITY;
            u32::try_from(read.kernels.top1(&row)?.index).ok()
        };
        let mut replaced = self.decoder.write(&mut self.active.canvas, &candidates, settings, control, runner_up);
        self.active.canvas.fixed = before.fixed;
        let drafted = if self.scorer.reports() { self.active.canvas.tokens.clone() } else { Vec::new() };
        let mut decided = !settings.decoder.edits();
        if let Some(constraint) = &mut self.constraint {
            let kept = restricted.map(|at| (at, &*self.kept));
            let again = &mut self.again;
            let rows = &mut Rows { read, scorer: &self.scorer, start: self.active.start, kept, again };
            let canvas = &mut self.active.canvas;
            let settled = constraint.settle(&before, canvas, answer.room(), settings.threshold, rows)?;
            replaced = settled.replaced;
            decided = settled.complete || (decided && constraint.is_decided());
        } else {
            decided = decided && self.is_decided(answer);
        }
        self.note(&before, &drafted, read);
        let mut state = self.decoder.judge(&before, &self.active.canvas, replaced, &self.job.settings);
        if state == BlockState::Open && decided {
            state = BlockState::Final { confirmed: false };
        }
        self.before = before;
        self.show(false, read.tokenizer, answer);
        Ok(state)
    }

    /// Keeps the log-probabilities of what this step wrote, under the distribution of this step's forward. `drafted` is
    /// what the decoder made of `before`; the form may have chosen otherwise since, each token among its own place's logits.
    fn note(&mut self, before: &Canvas, drafted: &[u32], read: &Readout<'_>) {
        if !self.scorer.reports() {
            return;
        }
        let tokens = &self.active.canvas.tokens;
        let slot = |at: usize| match self.decoder.slots().and_then(|slots| slots.get(at)) {
            Some(slot) if drafted.get(at) == tokens.get(at) => *slot,
            None if before.tokens.get(at) == tokens.get(at) => Slot::Kept(at),
            _ => Slot::Written(at),
        };
        let scores = tokens.iter().enumerate().map(|(at, token)| match slot(at) {
            // What the answer began from was written by no forward: the first one that lets it stand says how likely it is.
            Slot::Kept(from) => match self.active.scores.get(from) {
                Some(None) if *token != before.mask => self.scorer.score(read, from, *token),
                known => known.cloned().flatten(),
            },
            Slot::Written(row) => self.scorer.score(read, row, *token),
            Slot::Opened => None,
        });
        self.active.scores = scores.collect();
        self.note_forced();
    }

    /// A forced token is certain, whatever the model thinks of it.
    fn note_forced(&mut self) {
        let Some(constraint) = self.constraint.as_ref().filter(|_| self.scorer.reports()) else { return };
        for (at, (score, token)) in self.active.scores.iter_mut().zip(&self.active.canvas.tokens).enumerate() {
            if constraint.is_forced(at) {
                *score = self.scorer.certain(*token);
            }
        }
    }

    /// The active block is finished.
    pub(crate) fn finish(&mut self, answer: &Answer) -> Finished {
        match self.window.start() {
            Some(start) if self.window.revisits < MOST_REVISITS => {
                self.window.is_due = true;
                Finished::Revisit(start)
            }
            _ => Finished::Closed(self.close(answer)),
        }
    }

    /// One revisit ([`crate::decode::multi_block`]). `None` when it changed an older block, so that the active one is to
    /// be edited again.
    pub(crate) fn revisit(&mut self, read: &mut Readout<'_>, answer: &Answer) -> Result<Option<Closed>, EngineError> {
        self.window.is_due = false;
        self.window.revisits += 1;
        self.stats.steps += 1;
        let counts = self.counts();
        let mut open = std::mem::take(&mut self.window.open);
        let (mut row, mut changed) = (0, 0);
        for block in &mut open {
            let rows = row..row + block.canvas.tokens.len();
            row = rows.end;
            let mut candidates = Vec::with_capacity(rows.len());
            for (at, row) in rows.clone().enumerate() {
                if at < block.canvas.fixed {
                    candidates.push(block.unasked(at));
                    continue;
                }
                if let Some(logits) = read.row_mut(row) {
                    self.apply_rules(logits, block, at, &counts);
                }
                candidates.push(self.scorer.candidate_at(read, row, (block.start + at).saturating_sub(row))?);
            }
            let edits = multi_block::edits(&block.canvas, &candidates, self.job.settings.editing_threshold);
            block.canvas.write(&edits);
            for edit in &edits {
                block.scores[edit.at] = self.scorer.score(read, rows.start + edit.at, edit.token);
            }
            changed += edits.len();
        }
        let mut left = open.front().and_then(|block| block.left);
        for block in open.iter_mut().chain([&mut self.active]) {
            block.left = left;
            left = block.canvas.tokens.last().copied();
        }
        self.window.open = open;
        self.stats.edits += changed as u32;
        self.show(false, read.tokenizer, answer);
        if changed == 0 || self.window.revisits >= MOST_REVISITS {
            return Ok(Some(self.close(answer)));
        }
        self.stats.edits += self.decoder.replaced;
        self.decoder = BlockDecoder::default();
        Ok(None)
    }

    /// The blocks that leave now that the active one is finished.
    fn close(&mut self, answer: &Answer) -> Closed {
        let window = self.window.tokens().chain(self.active.canvas.tokens.iter().copied()).collect();
        let answered = || self.window.open.iter().chain([&self.active]).flat_map(Block::answered);
        let ends = answered().any(|token| answer.is_end(*token)) || answered().count() >= answer.room();
        let leaving = self.window.push(self.active.clone(), ends);
        for block in &leaving {
            self.scorer.rules.commit(block.answered());
        }
        Closed { leaving: leaving.iter().map(Block::written).collect(), window }
    }

    /// Opens the next block; returns the tokens of the one before.
    pub(crate) fn next_block(&mut self) -> Vec<u32> {
        self.stats.blocks += 1;
        self.stats.edits += self.decoder.replaced;
        self.decoder = BlockDecoder::default();
        let tokens = &self.active.canvas.tokens;
        let (start, left) = (self.active.start + tokens.len(), tokens.last().copied());
        let next = open_block(Vec::new(), start, left, &mut self.job, self.context);
        std::mem::replace(&mut self.active, next).canvas.tokens
    }

    /// What the answer of `tokens` tokens cost.
    pub(crate) fn stats(self, tokens: usize) -> DiffusionStats {
        // A stop text may have ended it within what was forced.
        let behind = (self.prompt + tokens).saturating_sub(self.active.start)..self.active.canvas.tokens.len();
        let forced_tokens = self.constraint.map_or(0, |constraint| {
            let behind = behind.filter(|at| constraint.is_forced(*at)).count() as u32;
            constraint.forced_tokens.saturating_sub(behind)
        });
        let edits = self.stats.edits + self.decoder.replaced;
        DiffusionStats { edits, tokens: tokens as u32, forced_tokens, ..self.stats }
    }

    /// Whether the rest of the block cannot change the answer: a decoder that does not edit never takes a token back, so
    /// everything up to the first end token (or the token limit) being written is enough.
    fn is_decided(&self, answer: &Answer) -> bool {
        let generated = self.active.canvas.tokens.iter().enumerate().skip(self.active.canvas.fixed);
        for (count, (at, token)) in generated.enumerate() {
            if count == answer.room() {
                return true;
            }
            if self.active.canvas.is_masked(at) {
                return false;
            }
            if answer.is_end(*token) {
                return true;
            }
        }
        true
    }

    /// Shows what is not final yet, if asked for; a block just opened is no draft.
    fn show(&mut self, opened: bool, tokenizer: &TextTokenizer, answer: &Answer) {
        let Wish { drafts, steps } = self.watch.wish;
        if !(drafts && !opened || steps) {
            return;
        }
        let open: Vec<u32> = self.window.open.iter().chain([&self.active]).flat_map(Block::answered).copied().collect();
        if drafts && !opened {
            self.watch.draft(&open, self.stats.steps, tokenizer, answer);
        }
        if steps {
            let (canvas, constraint) = (&self.active.canvas, self.constraint.as_ref());
            let forced = |at: usize| {
                let at = (at + canvas.tokens.len()).checked_sub(open.len());
                at.is_some_and(|at| constraint.is_some_and(|constraint| constraint.is_forced(at)))
            };
            self.watch.step(&open, (self.stats.steps, self.stats.blocks), forced, tokenizer, answer);
        }
    }
}
