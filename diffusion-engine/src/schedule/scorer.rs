//! How one request reads rows of logits: its rules, its sampling, and the log-probabilities it asked for. The same for
//! every decoder and the AR engine. Must never keep a row.

use weir_kernels::Kernels;
use weir_protocol::{EngineError, Sampling};

use crate::checkpoint::tokenizer::TextTokenizer;
use crate::decode::Candidate;
use crate::decode::logprobs::{self, TokenScore};
use crate::decode::rules::LogitRules;
use crate::decode::sampling::Sampler;

/// Most tokens reported beside a written one, as in OpenAI's API.
const MOST_LOGPROBS: u32 = 20;

/// One request's logits of one forward, and what is needed to read them.
pub(crate) struct Readout<'a> {
    /// `[rows, vocab]`.
    pub(crate) logits: &'a mut [f32],
    pub(crate) vocab: usize,
    pub(crate) kernels: &'a Kernels,
    pub(crate) tokenizer: &'a TextTokenizer,
}

impl Readout<'_> {
    /// One position's logits.
    pub(crate) fn row(&self, at: usize) -> Option<&[f32]> {
        self.logits.get(at * self.vocab..(at + 1) * self.vocab)
    }

    /// The same, to be changed.
    pub(crate) fn row_mut(&mut self, at: usize) -> Option<&mut [f32]> {
        self.logits.get_mut(at * self.vocab..(at + 1) * self.vocab)
    }

    /// All positions' logits, to be changed.
    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.logits.chunks_exact_mut(self.vocab)
    }
}

/// One request's way of reading.
pub(crate) struct Scorer {
    pub(crate) rules: LogitRules,
    sampler: Sampler,
    /// How many tokens to report beside each written one, if any are asked for.
    logprobs: Option<usize>,
}

impl Scorer {
    /// `rules` were made from the same request.
    pub(crate) fn new(sampling: &Sampling, seed: Option<u64>, rules: LogitRules) -> Result<Self, EngineError> {
        let sampler = Sampler::new(sampling, seed)?;
        if sampling.logprobs.is_some_and(|count| count > MOST_LOGPROBS) {
            return Err(EngineError::invalid("top_logprobs", format!("must be from 0 to {MOST_LOGPROBS}")));
        }
        Ok(Scorer { rules, sampler, logprobs: sampling.logprobs.map(|count| count as usize) })
    }

    /// The candidate of one row, which is about the absolute position `position`.
    pub(crate) fn candidate(&self, kernels: &Kernels, row: &[f32], position: usize) -> Result<Candidate, EngineError> {
        let candidate = self.sampler.pick(kernels, row, position);
        candidate.ok_or_else(|| EngineError::internal("the model's logits are not numbers"))
    }

    /// One candidate per row, the first row's being about `position`.
    pub(crate) fn candidates(&self, read: &Readout<'_>, position: usize) -> Result<Vec<Candidate>, EngineError> {
        let rows = read.logits.chunks_exact(read.vocab).zip(position..);
        rows.map(|(row, position)| self.candidate(read.kernels, row, position)).collect()
    }

    /// Whether log-probabilities are asked for.
    pub(crate) fn reports(&self) -> bool {
        self.logprobs.is_some()
    }

    /// The log-probability of a token that had no alternative, if asked for.
    pub(crate) fn certain(&self, token: u32) -> Option<TokenScore> {
        self.reports().then(|| TokenScore::certain(token))
    }

    /// The log-probability of `token` in row `at`, if asked for.
    pub(crate) fn score(&self, read: &Readout<'_>, at: usize, token: u32) -> Option<TokenScore> {
        logprobs::score(read.kernels, read.row(at)?, token, self.logprobs?)
    }
}
