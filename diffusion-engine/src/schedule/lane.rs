//! One running request. Each step it says which tokens it feeds ([`Lane::plan`]) and takes the logits of those it
//! asked for ([`Lane::apply`]). Final tokens whose K/V is not in the cache yet are `pending`: prompt, finished block,
//! last token. They ride along with the next canvas, so that committing a block costs no forward of its own.
//! Must never commit a token that may still change.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_protocol::{EngineError, FinishReason, Usage};

use crate::cache::{KvCache, Need, Sharing};
use crate::checkpoint::tokenizer::TextTokenizer;
use crate::constrain::constraint::Constraint;
use crate::decode::block::BlockState;
use crate::decode::levenshtein::ControlTokens;
use crate::decode::settings::DecodeSettings;
use crate::model::forward::{Lane as LaneInput, Visibility};
use crate::model::head::Wanted;

use super::answer::Answer;
use super::planner::Reading;
use super::scorer::{Readout, Scorer};
use super::token_writer::TokenWriter;
use super::watch::Wish;
use super::writer::{BlockWriter, Closed, Finished};

/// A request with everything decided that can be decided before it runs.
pub(crate) struct Job {
    pub(crate) prompt: Vec<u32>,
    pub(crate) answer: Answer,
    pub(crate) scorer: Scorer,
    /// Present for a diffusion model.
    pub(crate) diffusion: Option<DiffusionJob>,
    /// The form demanded of the answer.
    pub(crate) constraint: Option<Constraint>,
    /// Most positions the model has.
    pub(crate) context: usize,
    /// Whose request it is, for fairness.
    pub(crate) tenant: Arc<str>,
    /// Whether interactive requests go first.
    pub(crate) background: bool,
    /// With whom it shares K/V.
    pub(crate) sharing: Option<Sharing>,
}

/// What only a diffusion request has.
pub(crate) struct DiffusionJob {
    pub(crate) settings: DecodeSettings,
    pub(crate) mask: u32,
    /// Present for a model that was trained with them.
    pub(crate) control: Option<ControlTokens>,
    /// What is to be shown meanwhile.
    pub(crate) wish: Wish,
    /// What the answer begins from instead of masks.
    pub(crate) start_from: VecDeque<u32>,
}

impl Job {
    /// What the cache must promise, so that the answer can be finished whatever else comes.
    pub(crate) fn need(&self) -> Need<'_> {
        let length = self.prompt.len();
        let end = length + self.answer.room();
        let (prefix, positions) = match &self.diffusion {
            // The last token is fed whatever the cache holds: its logits are wanted.
            None => (length.saturating_sub(1), end),
            // The first canvas begins with what the prompt has beyond whole blocks; the last one is a whole block.
            Some(job) => {
                let block = job.settings.block_length;
                (length - length % block, (end.div_ceil(block) * block).min(self.context))
            }
        };
        Need { prefix: self.prompt.get(..prefix).unwrap_or_default(), positions, sharing: self.sharing.as_ref() }
    }
}

/// A request that takes part in the steps.
pub(crate) struct Lane {
    answer: Answer,
    prompt_tokens: usize,
    pub(crate) cache: KvCache,
    pending: Vec<u32>,
    writer: Writer,
    pub(crate) tenant: Arc<str>,
    background: bool,
}

/// How the answer is written.
enum Writer {
    Tokens(Box<TokenWriter>),
    Blocks(Box<BlockWriter>),
}

/// Whether the last forward made K/V that is good for the cache: with final tokens as its input, under the strict mask.
#[derive(Debug, Clone, Copy)]
enum Made {
    Everything,
    /// Not that of the finished block.
    AllBefore,
    /// The last forward was a revisit.
    NoneOfWindow,
}

/// What a lane feeds in one step.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Tokens at the positions behind the committed ones; none where it sits the step out.
    pub(crate) tokens: Vec<u32>,
    /// How many of them, from the front, are final.
    pub(crate) finals: usize,
    /// Predictions are wanted from this token on; if of none, it only reads.
    pub(crate) logits_from: usize,
    /// Of which of them, counted from there.
    pub(crate) rows: Vec<usize>,
    /// What alone is computed, counted from the first token; empty: all.
    pub(crate) computed: Vec<usize>,
}

impl Lane {
    /// `cache` was made for what `job` needs, and may hold the beginning of its prompt.
    pub(crate) fn new(job: Job, cache: KvCache) -> Self {
        let Job { mut prompt, answer, scorer, diffusion, constraint, context, tenant, background, sharing: _ } = job;
        let prompt_tokens = prompt.len();
        let writer = match diffusion {
            None => Writer::Tokens(Box::new(TokenWriter::new(scorer, constraint, prompt_tokens))),
            Some(job) => {
                let tail = prompt.split_off(prompt.len() - prompt.len() % job.settings.block_length);
                Writer::Blocks(Box::new(BlockWriter::new(job, scorer, constraint, &prompt, tail, context)))
            }
        };
        prompt.drain(..cache.committed().min(prompt.len()));
        Lane { answer, prompt_tokens, cache, pending: prompt, writer, tenant, background }
    }

    /// Writes what the demanded form forces here, before the model is asked. Blocks that need no forward are final at
    /// once and become `pending`.
    pub(crate) fn open(&mut self, tokenizer: &TextTokenizer) -> Result<(), EngineError> {
        while self.answer.end().is_none() {
            let closed = match &mut self.writer {
                Writer::Tokens(writer) => {
                    let forced = writer.open(self.answer.room())?;
                    self.answer.push(&forced, tokenizer);
                    self.pending.extend(forced.tokens);
                    break;
                }
                Writer::Blocks(writer) => {
                    if !writer.open(&self.answer, tokenizer)? {
                        break;
                    }
                    match writer.finish(&self.answer) {
                        Finished::Closed(closed) => closed,
                        Finished::Revisit(_) => break,
                    }
                }
            };
            self.close(closed, Made::AllBefore, tokenizer);
        }
        Ok(())
    }

    /// Whether nobody waits for the answer.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.answer.is_abandoned()
    }

    /// What this request's tokens see of each other.
    pub(crate) fn visibility(&self) -> Visibility {
        match &self.writer {
            Writer::Tokens(_) => Visibility::Causal,
            Writer::Blocks(writer) => writer.visibility(),
        }
    }

    /// What it must still read before it can write.
    pub(crate) fn reading(&self) -> Reading<'_> {
        let pending = self.pending.len();
        let (left, unit) = match &self.writer {
            Writer::Tokens(_) if pending == 1 => (0, 1),
            Writer::Tokens(_) => (pending, 1),
            // The last blocks wait for the canvas.
            Writer::Blocks(writer) => (pending.saturating_sub(writer.riding_length()), writer.block_length()),
        };
        Reading { tenant: &self.tenant, background: self.background, left, unit }
    }

    /// The next forward's part, into the memory of an earlier one: at most `grant` tokens if it still reads its prompt,
    /// so that it may have to sit the step out. Changes nothing else.
    pub(crate) fn plan(&self, grant: usize, plan: &mut Plan) {
        let Plan { tokens, finals, logits_from, rows, computed } = plan;
        tokens.clear();
        rows.clear();
        computed.clear();
        let left = self.reading().left;
        *finals = if left > 0 { grant.min(left) } else { self.pending.len() };
        *logits_from = *finals;
        match &self.writer {
            Writer::Tokens(_) => {
                tokens.extend(self.pending.iter().take(*finals));
                if *finals == self.pending.len() {
                    *logits_from = finals.saturating_sub(1);
                }
                rows.extend(0..*finals - *logits_from);
            }
            Writer::Blocks(writer) if left > 0 => {
                // Whole blocks only: inside a block every token sees every other.
                *finals -= *finals % writer.block_length();
                *logits_from = *finals;
                tokens.extend(self.pending.iter().take(*finals));
            }
            Writer::Blocks(writer) => {
                tokens.extend(self.pending.iter().copied().chain(writer.fed()));
                writer.asked(rows);
                writer.computed(rows, computed);
                debug_assert!(computed.is_empty() || self.pending.is_empty(), "a block's first forward is whole");
            }
        }
    }

    /// `plan` as the model takes it.
    pub(crate) fn input<'a>(&'a mut self, plan: &'a Plan) -> LaneInput<'a> {
        let visibility = self.visibility();
        let likeliest_but = match &self.writer {
            Writer::Tokens(writer) => writer.likeliest_but(),
            Writer::Blocks(writer) => writer.likeliest_but(),
        };
        let wanted = match likeliest_but {
            Some(never) => Wanted::Likeliest { rows: &plan.rows, never },
            None => Wanted::Logits(&plan.rows),
        };
        LaneInput {
            tokens: &plan.tokens,
            computed: Some(&*plan.computed).filter(|computed| !computed.is_empty()),
            logits_from: plan.logits_from,
            wanted,
            cache: &mut self.cache,
            visibility,
        }
    }

    /// Positions whose tokens can never change again, so that others may share their K/V.
    pub(crate) fn settled(&self) -> usize {
        match &self.writer {
            Writer::Tokens(_) => self.cache.committed(),
            Writer::Blocks(writer) => self.cache.committed().min(writer.settled()),
        }
    }

    /// Takes what a planned forward predicts. `Ok(Some(_))` when the answer is complete.
    pub(crate) fn apply(&mut self, plan: &Plan, mut read: Readout<'_>) -> Result<Option<FinishReason>, EngineError> {
        self.cache.commit(plan.tokens.get(..plan.finals).unwrap_or_default());
        self.pending.drain(..plan.finals.min(self.pending.len()));
        if self.answer.end().is_some() {
            // All of it was forced.
            return Ok(self.answer.end());
        }
        if plan.logits_from == plan.tokens.len() {
            return Ok(None);
        }
        match &mut self.writer {
            Writer::Tokens(writer) => {
                let written = writer.step(&mut read, self.answer.room())?;
                self.answer.push(&written, read.tokenizer);
                self.pending = written.tokens;
            }
            Writer::Blocks(writer) if writer.is_revisiting() => match writer.revisit(&mut read, &self.answer)? {
                Some(closed) => {
                    self.close(closed, Made::NoneOfWindow, read.tokenizer);
                    self.open(read.tokenizer)?;
                }
                None => self.pending = writer.open_tokens(),
            },
            Writer::Blocks(writer) => {
                if let BlockState::Final { confirmed } = writer.step(&mut read, &self.answer)? {
                    match writer.finish(&self.answer) {
                        Finished::Closed(closed) => {
                            let made = if confirmed { Made::Everything } else { Made::AllBefore };
                            self.close(closed, made, read.tokenizer);
                            self.open(read.tokenizer)?;
                        }
                        Finished::Revisit(start) => self.cache.rewind(start),
                    }
                }
            }
        }
        Ok(self.answer.end())
    }

    /// Hands out what is final and moves on from a finished block. K/V that is not `made` yet comes with the next
    /// block's first forward.
    fn close(&mut self, closed: Closed, made: Made, tokenizer: &TextTokenizer) {
        let Writer::Blocks(writer) = &mut self.writer else { return };
        for block in &closed.leaving {
            self.answer.push(block, tokenizer);
        }
        if self.answer.end().is_some() {
            return;
        }
        let finished = writer.next_block();
        match made {
            Made::Everything => self.cache.commit(&finished),
            Made::AllBefore => self.pending.extend(finished),
            Made::NoneOfWindow => self.pending = closed.window,
        }
    }

    /// Ends the answer as complete.
    pub(crate) fn complete(self, reason: FinishReason) {
        let (was_cut, diffusion) = match self.writer {
            Writer::Tokens(writer) => (writer.was_cut(), None),
            Writer::Blocks(writer) => (writer.was_cut(), Some(writer.stats(self.answer.tokens()))),
        };
        let usage = Usage {
            prompt_tokens: self.prompt_tokens as u64,
            completion_tokens: self.answer.tokens() as u64,
            cached_tokens: self.cache.cached() as u64,
            diffusion,
            ..Usage::default()
        };
        self.answer.complete(reason, was_cut, usage);
    }

    /// Ends the answer as broken.
    pub(crate) fn fail(self, error: EngineError) {
        self.answer.fail(error);
    }
}
