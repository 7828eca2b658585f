//! One step's logits under the form demanded: what is forbidden is taken out of a row, and a token is chosen again where
//! a draft did not fit. Must never allow what the form does not.

use llguidance::toktrie::SimpleVob;
use weir_protocol::EngineError;

use crate::constrain::constraint::Choose;

use super::scorer::{Readout, Scorer};

/// Chooses again among this step's logits, which the rules were applied to.
pub(crate) struct Rows<'a, 'b> {
    pub(crate) read: &'a Readout<'b>,
    pub(crate) scorer: &'a Scorer,
    /// Absolute position of the first row.
    pub(crate) start: usize,
    /// A row before it was restricted: an edit may since have changed what is allowed there.
    pub(crate) kept: Option<(usize, &'a [f32])>,
    /// Memory for a row.
    pub(crate) again: &'a mut Vec<f32>,
}

impl Choose for Rows<'_, '_> {
    fn choose(&mut self, at: usize, allowed: &SimpleVob) -> Result<(u32, f32), EngineError> {
        self.again.clear();
        self.again.extend_from_slice(match self.kept {
            Some((kept_at, row)) if kept_at == at => row,
            _ => self.read.row(at).unwrap_or_default(),
        });
        restrict(self.again, allowed);
        let candidate = self.scorer.candidate(self.read.kernels, self.again, self.start + at)?;
        Ok((candidate.token, candidate.probability))
    }

    fn likeliest(&mut self, at: usize) -> Option<(u32, f32)> {
        let is_whole = self.kept.is_none_or(|(kept, _)| kept != at);
        let top = self.read.kernels.top1(self.read.row(at).filter(|_| is_whole && self.scorer.is_greedy())?)?;
        Some((u32::try_from(top.index).ok()?, top.probability))
    }
}

/// Leaves only the allowed tokens of a row of logits. The form goes over rules that leave none of them.
pub(crate) fn restrict(row: &mut [f32], allowed: &SimpleVob) {
    let is_allowed = |token: usize| u32::try_from(token).is_ok_and(|token| allowed.is_allowed(token));
    let possible = row.iter().enumerate().any(|(token, logit)| *logit != f32::NEG_INFINITY && is_allowed(token));
    for (token, logit) in row.iter_mut().enumerate() {
        match is_allowed(token) {
            false => *logit = f32::NEG_INFINITY,
            true if !possible => *logit = 0.0,
            true => {}
        }
    }
}
