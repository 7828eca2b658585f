//! One running request. Each step it says which tokens it feeds ([`Lane::plan`]) and takes the logits of those it
//! asked for ([`Lane::apply`]). Final tokens whose K/V is not in the cache yet are `pending`: prompt, finished block,
//! last token. They ride along with the next canvas, so that committing a block costs no forward of its own.
//! Must never commit a token that may still change.

use weir_kernels::Kernels;
use weir_protocol::{DiffusionStats, EngineError, FinishReason, Usage};

use crate::cache::KvCache;
use crate::checkpoint::tokenizer::TextTokenizer;
use crate::decode::block::{BlockDecoder, BlockState};
use crate::decode::sampling::Sampler;
use crate::decode::settings::DecodeSettings;
use crate::decode::{Candidate, Canvas};

use super::answer::Answer;

/// Most prompt tokens fed in one step, so that a long prompt does not hold up the others.
const CHUNK: usize = 64;

/// A request with everything decided that can be decided before it runs.
pub(crate) struct Job {
    pub(crate) prompt: Vec<u32>,
    pub(crate) answer: Answer,
    pub(crate) sampler: Sampler,
    /// Present for a diffusion model.
    pub(crate) diffusion: Option<DiffusionJob>,
    /// Never written.
    pub(crate) mask: Option<u32>,
    /// Most positions the model has.
    pub(crate) context: usize,
}

/// What only a diffusion request has.
pub(crate) struct DiffusionJob {
    pub(crate) settings: DecodeSettings,
    pub(crate) mask: u32,
    pub(crate) drafts: bool,
}

/// A request that takes part in the steps.
pub(crate) struct Lane {
    answer: Answer,
    sampler: Sampler,
    mask: Option<u32>,
    context: usize,
    prompt_tokens: usize,
    pub(crate) cache: KvCache,
    pending: Vec<u32>,
    block: Option<Block>,
}

/// A diffusion request's active block.
struct Block {
    job: DiffusionJob,
    canvas: Canvas,
    decoder: BlockDecoder,
    stats: DiffusionStats,
}

/// What a lane feeds in one step.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    /// Tokens at the positions behind the committed ones.
    pub(crate) tokens: Vec<u32>,
    /// How many of them, from the front, are final.
    pub(crate) finals: usize,
    /// Logits are wanted from this token on.
    pub(crate) logits_from: usize,
}

impl Lane {
    pub(crate) fn new(job: Job, cache: KvCache) -> Self {
        let Job { mut prompt, answer, sampler, diffusion, mask, context } = job;
        let prompt_tokens = prompt.len();
        let block = diffusion.map(|job| {
            let tail = prompt.split_off(prompt.len() - prompt.len() % job.settings.block_length);
            let canvas = open_canvas(tail, prompt_tokens, &job, context);
            Block {
                job,
                canvas,
                decoder: BlockDecoder::default(),
                stats: DiffusionStats { blocks: 1, ..DiffusionStats::default() },
            }
        });
        Lane { answer, sampler, mask, context, prompt_tokens, cache, pending: prompt, block }
    }

    /// Whether nobody waits for the answer.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.answer.is_abandoned()
    }

    /// The next forward's part. Changes nothing.
    pub(crate) fn plan(&self) -> Plan {
        match &self.block {
            None => {
                let finals = self.pending.len().min(CHUNK);
                let tokens = self.pending.iter().take(finals).copied().collect();
                let logits_from = if finals == self.pending.len() { finals.saturating_sub(1) } else { finals };
                Plan { tokens, finals, logits_from }
            }
            Some(block) => {
                // Whole blocks only: inside a block every token sees every other.
                let length = block.job.settings.block_length;
                let chunk = (CHUNK / length).max(1) * length;
                if self.pending.len() > length {
                    // The last block of a prompt waits for the canvas.
                    let finals = chunk.min(self.pending.len() - length);
                    let tokens = self.pending.iter().take(finals).copied().collect();
                    return Plan { tokens, finals, logits_from: finals };
                }
                let finals = self.pending.len();
                let tokens = self.pending.iter().chain(&block.canvas.tokens).copied().collect();
                Plan { tokens, finals, logits_from: finals }
            }
        }
    }

    /// Takes the logits of a planned forward, rows of `vocab`. `Ok(Some(_))` when the answer is complete.
    pub(crate) fn apply(
        &mut self,
        plan: &Plan,
        logits: &mut [f32],
        vocab: usize,
        kernels: &Kernels,
        tokenizer: &TextTokenizer,
    ) -> Result<Option<FinishReason>, EngineError> {
        self.cache.commit(plan.finals);
        self.pending.drain(..plan.finals.min(self.pending.len()));
        if plan.logits_from == plan.tokens.len() {
            return Ok(None);
        }
        let mut candidates = Vec::new();
        for row in logits.chunks_exact_mut(vocab) {
            let candidate = self.sampler.pick(kernels, row, self.mask);
            candidates.push(candidate.ok_or_else(|| EngineError::internal("the model's logits are not numbers"))?);
        }
        match &mut self.block {
            None => {
                let tokens: Vec<u32> = candidates.iter().map(|candidate| candidate.token).collect();
                self.answer.push(&tokens, tokenizer);
                self.pending = tokens;
            }
            Some(block) => {
                let state = block.step(&candidates, &self.answer, tokenizer);
                if let BlockState::Final { confirmed } = state {
                    self.answer.push(block.canvas.tokens.get(block.canvas.fixed..).unwrap_or_default(), tokenizer);
                    self.next_block(confirmed);
                }
            }
        }
        Ok(self.answer.end())
    }

    /// Moves on from a final block: its K/V is committed now if the last forward was good for it, else with the next
    /// block's first forward.
    fn next_block(&mut self, confirmed: bool) {
        let Some(block) = &mut self.block else { return };
        let finished = std::mem::take(&mut block.canvas.tokens);
        let end = self.cache.committed() + finished.len();
        if self.answer.end().is_some() {
            return;
        }
        if confirmed {
            self.cache.commit(finished.len());
        } else {
            self.pending = finished;
        }
        block.canvas = open_canvas(Vec::new(), end, &block.job, self.context);
        block.stats.blocks += 1;
        block.stats.edits += block.decoder.replaced;
        block.decoder = BlockDecoder::default();
    }

    /// Ends the answer as complete.
    pub(crate) fn complete(self, reason: FinishReason) {
        let diffusion = self.block.map(|block| DiffusionStats {
            edits: block.stats.edits + block.decoder.replaced,
            tokens: self.answer.tokens() as u32,
            ..block.stats
        });
        let usage = Usage {
            prompt_tokens: self.prompt_tokens as u64,
            completion_tokens: self.answer.tokens() as u64,
            cached_tokens: 0,
            diffusion,
        };
        self.answer.complete(reason, usage);
    }

    /// Ends the answer as broken.
    pub(crate) fn fail(self, error: EngineError) {
        self.answer.fail(error);
    }
}

impl Block {
    /// One denoise step.
    fn step(&mut self, candidates: &[Candidate], answer: &Answer, tokenizer: &TextTokenizer) -> BlockState {
        self.stats.steps += 1;
        let mut state = self.decoder.step(&mut self.canvas, candidates, &self.job.settings);
        if self.job.settings.decoder == crate::options::DecoderKind::Threshold && self.is_decided(answer) {
            state = BlockState::Final { confirmed: false };
        }
        if self.job.drafts {
            let masked = self.canvas.masked().len() as u32;
            answer.draft(self.snapshot(tokenizer), self.stats.steps, masked);
        }
        state
    }

    /// Whether the rest of the block cannot change the answer: the threshold decoder never takes a token back, so
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
        let generated = self.canvas.tokens.get(self.canvas.fixed..).unwrap_or_default();
        for run in generated.chunk_by(|a, b| (*a == self.canvas.mask) == (*b == self.canvas.mask)) {
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
