//! What an autoregressive request does with the logits of one forward: it takes a token, and what the demanded form
//! forces after it. Must never know the cache.

use weir_protocol::EngineError;

use crate::constrain::constraint::Constraint;
use crate::decode::logprobs::TokenScore;

use super::rows::Rows;
use super::scorer::{Readout, Scorer};

/// Final tokens with the log-probabilities asked for: as many, or none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) tokens: Vec<u32>,
    pub(crate) scores: Vec<TokenScore>,
}

/// Writes token after token.
pub(crate) struct TokenWriter {
    scorer: Scorer,
    constraint: Option<Constraint>,
    /// Memory for logits that the form restricts.
    again: Vec<f32>,
    /// Absolute position of the next token.
    position: usize,
    /// Tokens written.
    count: usize,
}

impl TokenWriter {
    /// `prompt` is the prompt's length.
    pub(crate) fn new(scorer: Scorer, constraint: Option<Constraint>, prompt: usize) -> Self {
        TokenWriter { scorer, constraint, again: Vec::new(), position: prompt, count: 0 }
    }

    /// What the answer begins with before the model is asked; it may take `room` tokens.
    pub(crate) fn open(&mut self, room: usize) -> Result<Written, EngineError> {
        let tokens = match &mut self.constraint {
            Some(constraint) => constraint.extend(room, None)?,
            None => Vec::new(),
        };
        Ok(self.written(tokens, None))
    }

    /// Whether the token limit ended the answer before all was said, although its form is whole.
    pub(crate) fn was_cut(&self) -> bool {
        self.constraint.as_ref().is_some_and(Constraint::was_cut)
    }

    /// Tokens never written, where the likeliest of the others is all that is asked.
    pub(crate) fn likeliest_but(&self) -> Option<&[u32]> {
        self.scorer.likeliest_but().filter(|_| self.constraint.is_none())
    }

    /// The next token and what is forced after it. The answer may take `room` more.
    pub(crate) fn step(&mut self, read: &mut Readout<'_>, room: usize) -> Result<Written, EngineError> {
        let written = self.scorer.rules.with_canvas(std::iter::empty());
        for (_, row) in read.rows_mut() {
            self.scorer.rules.apply(row, self.count, &written, None);
        }
        let tokens = match &mut self.constraint {
            Some(constraint) => {
                let (start, again) = (self.position, &mut self.again);
                let rows = &mut Rows { read, scorer: &self.scorer, start, kept: None, again };
                constraint.extend(room, Some(rows))?
            }
            None => {
                let candidates = self.scorer.candidates(read, self.position)?;
                candidates.into_iter().map(|(_, candidate)| candidate.token).collect()
            }
        };
        if tokens.is_empty() {
            return Err(EngineError::internal("the form demanded leaves no token to write"));
        }
        let is_chosen = self.constraint.as_ref().is_none_or(|constraint| !constraint.is_forced(0));
        Ok(self.written(tokens, is_chosen.then_some(&*read)))
    }

    /// Books `tokens`: the first one was chosen from `read`, if given, the others had no choice.
    fn written(&mut self, tokens: Vec<u32>, read: Option<&Readout<'_>>) -> Written {
        self.scorer.rules.commit(&tokens);
        self.position += tokens.len();
        self.count += tokens.len();
        let score = |(at, token): (usize, &u32)| match read.filter(|_| at == 0) {
            Some(read) => self.scorer.score(read, at, *token),
            None => self.scorer.certain(*token),
        };
        let scores = tokens.iter().enumerate().filter_map(score).collect();
        Written { tokens, scores }
    }
}
