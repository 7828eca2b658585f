//! How one request reads rows of logits: its rules, its sampling, and the log-probabilities it asked for. The same for
//! every decoder and the AR engine. Must never keep a row.

use weir_kernels::{Kernels, Top1};
use weir_protocol::{EngineError, Sampling};

use crate::checkpoint::tokenizer::TextTokenizer;
use crate::decode::logprobs::{self, TokenScore};
use crate::decode::rules::LogitRules;
use crate::decode::sampling::Sampler;
use crate::decode::{Candidate, List};

/// Most tokens reported beside a written one, as in OpenAI's API.
const MOST_LOGPROBS: u32 = 20;

/// One request's predictions of one forward, and what is needed to read them.
pub(crate) struct Readout<'a> {
    /// The positions there are rows of, ascending.
    pub(crate) rows: &'a [usize],
    /// `[rows, vocab]`, or nothing where the likeliest tokens are enough.
    pub(crate) logits: &'a mut [f32],
    /// Each row's likeliest token, where there are no logits.
    pub(crate) likeliest: &'a [Option<Top1>],
    pub(crate) vocab: usize,
    pub(crate) kernels: &'a Kernels,
    pub(crate) tokenizer: &'a TextTokenizer,
}

impl Readout<'_> {
    /// One position's logits.
    pub(crate) fn row(&self, at: usize) -> Option<&[f32]> {
        let row = self.rows.binary_search(&at).ok()?;
        self.logits.get(row * self.vocab..(row + 1) * self.vocab)
    }

    /// The same, to be changed.
    pub(crate) fn row_mut(&mut self, at: usize) -> Option<&mut [f32]> {
        let row = self.rows.binary_search(&at).ok()?;
        self.logits.get_mut(row * self.vocab..(row + 1) * self.vocab)
    }

    /// Positions and their logits, to be changed.
    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = (usize, &mut [f32])> {
        self.rows.iter().copied().zip(self.logits.chunks_exact_mut(self.vocab))
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
        candidate.ok_or_else(not_numbers)
    }

    /// The candidate of position `at`, the first position being the absolute `start`.
    pub(crate) fn candidate_at(&self, read: &Readout<'_>, at: usize, start: usize) -> Result<Candidate, EngineError> {
        if read.likeliest.is_empty() {
            return self.candidate(read.kernels, read.row(at).unwrap_or_default(), start + at);
        }
        let top = read.rows.binary_search(&at).ok().and_then(|row| *read.likeliest.get(row)?);
        let candidate = top.and_then(|top| {
            let token = u32::try_from(top.index).ok()?;
            Some(Candidate { token, probability: top.probability })
        });
        candidate.ok_or_else(not_numbers)
    }

    /// Each position there is a row of, with its candidate.
    pub(crate) fn candidates(&self, read: &Readout<'_>, start: usize) -> Result<List<(usize, Candidate)>, EngineError> {
        read.rows.iter().map(|at| Ok((*at, self.candidate_at(read, *at, start)?))).collect()
    }

    /// Whether each row's likeliest token, but for some that are never written, says all this request asks of the
    /// logits: then which those are.
    pub(crate) fn likeliest_but(&self) -> Option<&[u32]> {
        self.rules.never_alone().filter(|_| self.sampler.is_greedy() && !self.reports())
    }

    /// Whether the likeliest token is always the one.
    pub(crate) fn is_greedy(&self) -> bool {
        self.sampler.is_greedy()
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

fn not_numbers() -> EngineError {
    EngineError::internal("the model's logits are not numbers")
}
