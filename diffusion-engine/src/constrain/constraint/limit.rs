//! The answer's token limit: when its nearest end is only just in reach, it is time to write that. Must never change the
//! canvas, nor end a call that nobody demanded: agents would run it with arguments that the limit chose.

use llguidance::Matcher;
use weir_protocol::EngineError;

use super::super::closing::nearest_end;
use super::super::forcing::Cuts;
use super::super::grammar::CALL_END;
use super::super::vocabulary::Vocabulary;
use super::Constraint;
use super::broken::broken;

/// The nearest end is looked for after so many tokens, or a quarter of those that are to spare ...
const LOOK_EVERY: usize = 8;

/// ... and after each one when no more than these, beyond twice its length, are to spare ...
const SPARE: usize = 32;

/// ... and twice as rarely each time that none was found in what is left, so often at most: no token brings an end nearer
/// than by itself, so that hardly ever one is found later. To find none takes longest, and other answers wait.
const MOST_MISSED: u32 = 7;

/// Longest end that is looked for.
const LONGEST_END: usize = 1024;

/// What is known of the nearest end.
pub(super) struct Nearest {
    /// Its length when it was last looked for, and the tokens since.
    length: usize,
    pub(super) since: usize,
    /// No end within the limit was found when last looked for: if none is found later, the answer will be cut.
    hopeless: bool,
    /// How often in a row none was found, where all that is left was looked through.
    missed: u32,
}

impl Nearest {
    pub(super) fn at(length: usize) -> Self {
        Nearest { length, since: 0, hopeless: false, missed: 0 }
    }

    /// Tokens from one look to the next, where `left` are.
    fn pause(&self, left: usize) -> usize {
        let spare = left.saturating_sub(2 * self.length + SPARE);
        match self.length {
            LONGEST_END if left > LONGEST_END => LOOK_EVERY.max((left - LONGEST_END) / 4),
            _ if self.missed > 0 => LOOK_EVERY << (self.missed - 1),
            _ if !self.hopeless && spare == 0 => 0,
            _ => LOOK_EVERY.max(spare / 4),
        }
    }

    fn found(&mut self, end: Option<&Vec<u32>>, left: usize) {
        (self.since, self.hopeless) = (0, self.hopeless && end.is_none());
        self.length = end.map_or(LONGEST_END, Vec::len);
        self.missed = if end.is_none() && left <= LONGEST_END { MOST_MISSED.min(self.missed + 1) } else { 0 };
    }
}

/// Tokens to the nearest end from where `matcher` is, [`LONGEST_END`] if none is nearer.
pub(super) fn shortest(matcher: &Matcher, vocabulary: &Vocabulary, cuts: &Cuts) -> usize {
    nearest_end(matcher, vocabulary, cuts, LONGEST_END).map_or(LONGEST_END, |end| end.len())
}

impl Constraint {
    /// Whether the token limit ended the answer before all was said, although its form is whole: a document was closed in the
    /// middle of a text or a list, a call that cannot fit was left out, or has arguments that the limit chose.
    pub(crate) fn was_cut(&self) -> bool {
        self.closed_at_limit
    }

    /// Whether the `left` tokens after the one just consumed cannot reach an end any more, or only just.
    pub(super) fn is_one_too_many(&mut self, left: usize) -> bool {
        if self.matcher.is_stopped() || self.nearest.since < self.nearest.pause(left) {
            return false;
        }
        let end = self.nearest_end(left);
        self.nearest.found(end.as_ref(), left);
        // The end found is not the shortest, and seen from the next token it may be some tokens longer.
        let margin = |length: usize| length / 8 + 4;
        match end {
            // It may end anywhere, as text does: to end it here would pass for the model's own end. A call is the model's
            // as long as it can fit.
            Some(end) if end.is_empty() || self.is_call(&end) => false,
            Some(end) => end.len() + 1 + margin(end.len()) >= left,
            None => left < LONGEST_END,
        }
    }

    /// Takes `token`, just consumed, back and sets out for the nearest end. `false`, and the token stays, when there
    /// is none within `left` tokens from before it either, or only that of a call that nobody demanded.
    pub(super) fn close_before(&mut self, token: u32, left: usize) -> Result<bool, EngineError> {
        self.matcher.rollback(1).map_err(broken(self.field))?;
        match self.nearest_end(left).filter(|end| !self.optional || !self.is_call(end)) {
            Some(end) => {
                self.closing = end.into();
                self.closed_at_limit = true;
                Ok(true)
            }
            None => {
                self.nearest.hopeless = true;
                self.consume(&[token])?;
                Ok(false)
            }
        }
    }

    /// Whether `left` tokens are few, measured by the nearest end that was seen last.
    pub(super) fn is_near(&self, left: usize) -> bool {
        left <= 2 * self.nearest.length + SPARE
    }

    /// Whether these last tokens end a call.
    fn is_call(&self, end: &[u32]) -> bool {
        self.vocabulary.trie().decode(end).ends_with(CALL_END.as_bytes())
    }

    fn nearest_end(&self, limit: usize) -> Option<Vec<u32>> {
        nearest_end(&self.matcher, &self.vocabulary, &self.learnt.cuts, limit.min(LONGEST_END))
    }
}
