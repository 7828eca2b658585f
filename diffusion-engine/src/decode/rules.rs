//! What is done to logits before anything is chosen: penalties for what was written already, the caller's bias, end
//! tokens that come too early, tokens that may never be written. The same for every decoder and the AR engine. Must
//! never depend on what runs beside the request.

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::{EngineError, Sampling};

/// OpenAI's: a token that has it is not to be written.
const LOWEST_BIAS: f32 = -100.0;

/// One request's rules and what it has written so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogitRules {
    bias: Vec<(u32, f32)>,
    /// 1 is none.
    repetition: f32,
    frequency: f32,
    presence: f32,
    ends: Vec<u32>,
    min_tokens: usize,
    /// Ascending.
    never: Vec<u32>,
    /// Distinct tokens of the prompt, where the repetition penalty needs them.
    prompt: BTreeSet<u32>,
    /// How often each token stands in the final part of the answer.
    written: BTreeMap<u32, u32>,
}

impl LogitRules {
    /// Checks the request's settings. `ends` end an answer, `never` are never written; ids are below `vocab`.
    pub(crate) fn new(
        sampling: &Sampling,
        prompt: &[u32],
        ends: &[u32],
        mut never: Vec<u32>,
        vocab: u32,
    ) -> Result<Self, EngineError> {
        let repetition = sampling.repetition_penalty.unwrap_or(1.0);
        if !(repetition > 0.0 && repetition <= 2.0) {
            return Err(EngineError::invalid("repetition_penalty", "must be a number above 0, at most 2"));
        }
        let within = |field: &str, value: Option<f32>| match value.unwrap_or(0.0) {
            value if (-2.0..=2.0).contains(&value) => Ok(value),
            _ => Err(EngineError::invalid(field, "must be a number from -2 to 2")),
        };
        for (token, bias) in &sampling.logit_bias {
            if *token >= vocab {
                let message = format!("token {token} is outside this model's vocabulary of {vocab}");
                return Err(EngineError::invalid("logit_bias", message));
            }
            if !(LOWEST_BIAS..=100.0).contains(bias) {
                return Err(EngineError::invalid("logit_bias", "each bias must be a number from -100 to 100"));
            }
        }
        never.sort_unstable();
        Ok(LogitRules {
            bias: sampling.logit_bias.iter().map(|(token, bias)| (*token, *bias)).collect(),
            repetition,
            frequency: within("frequency_penalty", sampling.frequency_penalty)?,
            presence: within("presence_penalty", sampling.presence_penalty)?,
            ends: ends.to_vec(),
            min_tokens: sampling.min_tokens.unwrap_or(0) as usize,
            never,
            prompt: if repetition == 1.0 { BTreeSet::new() } else { prompt.iter().copied().collect() },
            written: BTreeMap::new(),
        })
    }

    /// These tokens of the answer are final.
    pub(crate) fn commit(&mut self, tokens: &[u32]) {
        if self.penalises() {
            for token in tokens {
                *self.written.entry(*token).or_default() += 1;
            }
        }
    }

    /// What the answer would have written if `canvas` were final: for [`LogitRules::apply`].
    pub(crate) fn with_canvas(&self, canvas: impl Iterator<Item = u32>) -> BTreeMap<u32, u32> {
        let mut written = self.written.clone();
        if self.penalises() {
            for token in canvas {
                *written.entry(token).or_default() += 1;
            }
        }
        written
    }

    /// Whether an end token may not stand at index `at` of the answer.
    pub(crate) fn is_early(&self, at: usize) -> bool {
        at < self.min_tokens
    }

    /// Whether the answer's token `at` (from 0) may not be this one, whatever the model says: the lowest bias is a ban.
    pub(crate) fn forbids(&self, token: u32, at: usize) -> bool {
        let is_banned = || self.bias.iter().any(|(one, bias)| *one == token && *bias <= LOWEST_BIAS);
        self.is_early(at) && self.ends.contains(&token) || self.never.contains(&token) || is_banned()
    }

    /// Applies the rules to the row of the answer's token `at` (from 0), given what is `written` elsewhere and, at this
    /// very place, `own`: a token is no repetition of itself.
    pub(crate) fn apply(&self, row: &mut [f32], at: usize, written: &BTreeMap<u32, u32>, own: Option<u32>) {
        let elsewhere = |token: u32| {
            let count = written.get(&token).copied().unwrap_or(0);
            count - u32::from(own == Some(token)).min(count)
        };
        let only_in_prompt = self.prompt.iter().filter(|token| !written.contains_key(token));
        for token in only_in_prompt.chain(written.keys()) {
            let Some(logit) = row.get_mut(*token as usize) else { continue };
            let count = elsewhere(*token);
            if count > 0 || self.prompt.contains(token) {
                *logit = repeated(*logit, self.repetition);
            }
            if count > 0 {
                *logit -= self.presence + self.frequency * count as f32;
            }
        }
        for (token, bias) in &self.bias {
            if let Some(logit) = row.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        let early: &[u32] = if self.is_early(at) { &self.ends } else { &[] };
        for token in early.iter().chain(&self.never) {
            if let Some(logit) = row.get_mut(*token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// The tokens that may never be written, ascending, if that is all these rules ask of any row.
    pub(crate) fn never_alone(&self) -> Option<&[u32]> {
        let others = self.penalises() || !self.bias.is_empty() || self.min_tokens > 0;
        (!others).then_some(&self.never)
    }

    fn penalises(&self) -> bool {
        self.repetition != 1.0 || self.frequency != 0.0 || self.presence != 0.0
    }
}

/// CTRL's penalty (Keskar et al. 2019, §4.1) as Hugging Face made it fit for logits of both signs; finite however small the
/// penalty is.
fn repeated(logit: f32, penalty: f32) -> f32 {
    if logit > 0.0 { (logit / penalty).min(f32::MAX) } else { logit * penalty }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VOCAB: u32 = 6;

    fn rules(sampling: &Sampling, prompt: &[u32]) -> LogitRules {
        LogitRules::new(sampling, prompt, &[4], vec![5], VOCAB).expect("in range")
    }

    #[test]
    fn early_ends_and_forbidden_tokens_cannot_be() {
        let rules = rules(&Sampling { min_tokens: Some(3), ..Sampling::default() }, &[]);
        for (at, end_is_allowed) in [(0, false), (2, false), (3, true)] {
            let mut row = vec![1.0; VOCAB as usize];
            rules.apply(&mut row, at, &rules.with_canvas(std::iter::empty()), None);
            assert_eq!((row[4].is_finite(), row[5].is_finite()), (end_is_allowed, false), "{at}");
        }
    }

    #[test]
    fn a_token_is_no_repetition_of_itself() {
        let mut rules = rules(&Sampling { presence_penalty: Some(1.0), ..Sampling::default() }, &[]);
        rules.commit(&[2]);
        let written = rules.with_canvas([3, 1].into_iter());
        let penalised = |own: Option<u32>| {
            let mut row = vec![0.0; VOCAB as usize];
            rules.apply(&mut row, 0, &written, own);
            row[..4].to_vec()
        };
        assert_eq!(penalised(None), [0.0, -1.0, -1.0, -1.0]);
        assert_eq!(penalised(Some(3)), [0.0, -1.0, -1.0, 0.0]);
        assert_eq!(penalised(Some(1)), [0.0, 0.0, -1.0, -1.0]);
    }

    proptest! {
        /// Against the formulas token by token.
        #[test]
        fn equals_the_plain_form(
            row in prop::collection::vec(-5.0f32..5.0, VOCAB as usize),
            prompt in prop::collection::vec(0..VOCAB, 0..5),
            done in prop::collection::vec(0..VOCAB, 0..5),
            canvas in prop::collection::vec(0..VOCAB, 0..5),
            repetition in 0.5f32..2.0,
            (frequency, presence) in (-2.0f32..2.0, -2.0f32..2.0),
            bias in prop::collection::btree_map(0..VOCAB, -100.0f32..100.0, 0..3),
            is_own: bool,
        ) {
            let sampling = Sampling {
                repetition_penalty: Some(repetition),
                frequency_penalty: Some(frequency),
                presence_penalty: Some(presence),
                logit_bias: bias.clone(),
                ..Sampling::default()
            };
            let mut rules = rules(&sampling, &prompt);
            rules.commit(&done);
            let own = canvas.first().copied().filter(|_| is_own);
            let others = canvas.iter().skip(usize::from(is_own && !canvas.is_empty()));
            let around: Vec<u32> = done.iter().chain(others).copied().collect();
            let mut got = row.clone();
            rules.apply(&mut got, 0, &rules.with_canvas(canvas.iter().copied()), own);
            for token in 0..5u32 {
                let count = around.iter().filter(|t| **t == token).count();
                let mut z = row[token as usize];
                if count > 0 || prompt.contains(&token) {
                    z = if z > 0.0 { z / repetition } else { z * repetition };
                }
                z -= count as f32 * frequency + if count > 0 { presence } else { 0.0 };
                z += bias.get(&token).copied().unwrap_or(0.0);
                prop_assert!((got[token as usize] - z).abs() < 1e-4, "token {}: {} {}", token, got[token as usize], z);
            }
            prop_assert_eq!(got[5], f32::NEG_INFINITY);
        }
    }

    #[test]
    fn out_of_range_settings_name_their_field() {
        let none = Sampling::default();
        for (sampling, field) in [
            (Sampling { repetition_penalty: Some(0.0), ..none.clone() }, "repetition_penalty"),
            (Sampling { frequency_penalty: Some(2.5), ..none.clone() }, "frequency_penalty"),
            (Sampling { presence_penalty: Some(f32::NAN), ..none.clone() }, "presence_penalty"),
            (Sampling { logit_bias: [(VOCAB, 1.0)].into(), ..none.clone() }, "logit_bias"),
            (Sampling { logit_bias: [(1, 101.0)].into(), ..none.clone() }, "logit_bias"),
        ] {
            let error = LogitRules::new(&sampling, &[], &[], vec![], VOCAB).expect_err("out of range");
            assert!(matches!(&error, EngineError::InvalidRequest { field: named, .. } if named == field), "{error:?}");
        }
    }
}
