//! One answer's demanded form while blocks are denoised. In every block there is a frontier: tokens before it are
//! validated, what the decoder writes behind it is a draft that nobody vouches for yet.
//!
//! ```text
//! fixed ........ frontier ................. end of the canvas
//! validated, consumed   drafts and masks
//! ```
//! After each step the frontier moves over drafts that fit. A draft that does not fit is chosen again among the tokens
//! that do, or masked. Forced tokens are written at once, without asking the model. An edit of a validated token is
//! taken back unless everything validated still fits with it. When the tokens left only just reach the nearest end,
//! that end is written. Must never let the frontier pass a token that the grammar forbids.

pub(super) mod broken;
mod edits;
mod limit;

use std::collections::VecDeque;
use std::sync::Arc;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use weir_protocol::EngineError;

use crate::decode::Canvas;

use super::compiled::{Form, Learnt};
use super::forcing::forced;
use super::vocabulary::Vocabulary;
use broken::broken;
use limit::Nearest;

/// Steps that the frontier may wait for the decoder to write at it; then the likeliest allowed token is written.
/// Without a limit a block could take as many steps as it has pairs of positions.
const PATIENCE: u32 = 1;

/// After so many tokens a mask is worked out though none is needed: what the library may spend on new states of a
/// grammar's texts is measured out anew with each, and all answers of a form draw on it.
const UNMASKED: usize = 32;

/// Most tokens an autoregressive answer takes at once: forced ones included.
const STRETCH: usize = 64;

/// The form of one answer and how far the active canvas fulfils it.
pub(crate) struct Constraint {
    /// The request's field that demands it.
    field: &'static str,
    matcher: Matcher,
    /// Tokens consumed since the last mask.
    unmasked: usize,
    vocabulary: Arc<Vocabulary>,
    ends: Vec<u32>,
    /// First position of the canvas that is not validated.
    frontier: usize,
    /// Tokens of this canvas that the matcher has consumed: all validated ones but the end, which it never sees.
    consumed: usize,
    /// End of the canvas, or of what the answer may still take of it.
    limit: usize,
    /// Positions of the canvas that were forced; no edit may touch them.
    forced: Vec<bool>,
    /// The answer has ended in this canvas or before.
    ended: bool,
    waited: u32,
    learnt: Arc<Learnt>,
    nearest: Nearest,
    /// The nearest end that is being written.
    closing: VecDeque<u32>,
    /// Tokens written without the model, over all blocks.
    pub(crate) forced_tokens: u32,
    /// The answer was ended early because its token limit was near: see [`Constraint::was_cut`].
    closed_at_limit: bool,
    /// An answer without a word has the form, too: no call is demanded.
    optional: bool,
}

/// What the decoder's step became.
pub(crate) struct Settled {
    /// Written tokens that were replaced by another token, those taken back not counted.
    pub(crate) replaced: usize,
    /// Nothing in the canvas is left for the model: all of it is validated, and what is not forced lies behind the end.
    pub(crate) complete: bool,
}

/// Chooses a token for a position among those allowed, with its probability among them.
pub(crate) trait Choose {
    /// # Errors
    /// Where the logits are not numbers.
    fn choose(&mut self, at: usize, allowed: &SimpleVob) -> Result<(u32, f32), EngineError>;

    /// What would be chosen for a position among all tokens, with its probability among them, where that is the choice
    /// among any tokens it is one of. Saves working out which are allowed: some 20 µs.
    fn likeliest(&mut self, _at: usize) -> Option<(u32, f32)> {
        None
    }
}

impl Constraint {
    pub(crate) fn new(form: Form, vocabulary: Arc<Vocabulary>, ends: Vec<u32>) -> Self {
        let Form { mut matcher, learnt, field } = form;
        let end_length = *learnt.shortest.get_or_init(|| limit::shortest(&matcher, &vocabulary, &learnt.cuts));
        Constraint {
            field,
            optional: matcher.is_accepting().unwrap_or(false),
            matcher,
            unmasked: 0,
            vocabulary,
            ends,
            frontier: 0,
            consumed: 0,
            limit: 0,
            forced: Vec::new(),
            ended: false,
            waited: 0,
            learnt,
            nearest: Nearest::at(end_length),
            closing: VecDeque::new(),
            forced_tokens: 0,
            closed_at_limit: false,
        }
    }

    /// Starts on a new canvas, whose answer part may still take `room` tokens, and writes what is forced there. `true` when
    /// nothing in it is left for the model.
    pub(crate) fn open(&mut self, canvas: &mut Canvas, room: usize) -> Result<bool, EngineError> {
        self.frontier = canvas.fixed;
        self.consumed = 0;
        self.limit = canvas.tokens.len().min(canvas.fixed.saturating_add(room));
        self.forced = vec![false; canvas.tokens.len()];
        self.waited = 0;
        self.advance(canvas, room, None)?;
        Ok(self.is_settled(canvas))
    }

    /// Allowed tokens at the frontier, if the model is to write there.
    pub(crate) fn allowed(&mut self, canvas: &Canvas) -> Result<Option<(usize, SimpleVob)>, EngineError> {
        if !self.is_open(canvas) {
            return Ok(None);
        }
        Ok(Some((self.frontier, self.mask()?)))
    }

    fn mask(&mut self) -> Result<SimpleVob, EngineError> {
        self.unmasked = 0;
        self.matcher.compute_mask().map_err(broken(self.field))
    }

    /// Whether the model is to write at the frontier.
    fn is_open(&self, canvas: &Canvas) -> bool {
        !self.ended && self.frontier < self.limit && canvas.is_masked(self.frontier)
    }

    /// The frontier, if the model is to write there and `surest`, asked about it, is allowed.
    pub(crate) fn takes(
        &mut self,
        canvas: &Canvas,
        surest: impl FnOnce(usize) -> Option<u32>,
    ) -> Result<bool, EngineError> {
        match surest(self.frontier).filter(|_| self.is_open(canvas)) {
            Some(token) => self.fits_alone(token),
            None => Ok(false),
        }
    }

    /// First position that a decoder which moves tokens may touch.
    pub(crate) fn frontier(&self) -> usize {
        self.frontier
    }

    /// Whether the token at this position was written without the model.
    pub(crate) fn is_forced(&self, at: usize) -> bool {
        self.forced.get(at) == Some(&true)
    }

    /// Whether the answer has ended, in this canvas or before.
    #[cfg(test)]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the canvas holds all that it can add to the answer, edits aside.
    pub(crate) fn is_decided(&self) -> bool {
        self.ended || self.frontier >= self.limit
    }

    /// Judges a decoder's step from `before` to `canvas` and moves the frontier. Drafts that do not fit are chosen
    /// again and kept if surer than `threshold`. `room` as in [`Constraint::open`].
    pub(crate) fn settle(
        &mut self,
        before: &Canvas,
        canvas: &mut Canvas,
        room: usize,
        threshold: f32,
        choose: &mut dyn Choose,
    ) -> Result<Settled, EngineError> {
        let left = room.saturating_sub(self.frontier - canvas.fixed);
        self.keep_valid_edits(before, canvas, self.ended || !self.is_near(left))?;
        if self.ended {
            self.end(canvas);
        }
        let start = self.frontier;
        self.advance(canvas, room, Some((threshold, choose)))?;
        self.waited = if self.frontier > start { 0 } else { self.waited + 1 };
        if self.waited > PATIENCE && canvas.is_masked(self.frontier) && !self.ended {
            self.waited = 0;
            self.write_allowed(canvas, -1.0, choose)?;
            self.advance(canvas, room, Some((threshold, choose)))?;
        }
        let until = if self.ended { self.frontier } else { canvas.tokens.len() };
        let both = before.tokens.iter().zip(&canvas.tokens).zip(&self.forced).take(until).skip(canvas.fixed);
        let replaced =
            both.filter(|((old, new), forced)| **old != canvas.mask && **new != canvas.mask && old != new && !**forced);
        Ok(Settled { replaced: replaced.count(), complete: self.is_settled(canvas) })
    }

    /// The next tokens of an answer that is written token by token: what `choose` takes first, if it may, and what is
    /// forced after it. Where more was forced than is taken at once, the rest of it: nobody asked yet what follows that.
    pub(crate) fn extend(&mut self, room: usize, choose: Option<&mut dyn Choose>) -> Result<Vec<u32>, EngineError> {
        const OPEN: u32 = u32::MAX;
        let mut canvas = Canvas { tokens: vec![OPEN; room.min(STRETCH)], fixed: 0, mask: OPEN };
        self.open(&mut canvas, room)?;
        if let Some(choose) = choose.filter(|_| self.frontier == 0)
            && self.write_allowed(&mut canvas, -1.0, choose)?
        {
            self.advance(&mut canvas, room, None)?;
        }
        canvas.tokens.truncate(self.frontier);
        Ok(canvas.tokens)
    }

    /// Whether the model has nothing left to say about this canvas.
    fn is_settled(&self, canvas: &Canvas) -> bool {
        let validated = self.forced.iter().take(self.frontier).skip(canvas.fixed);
        self.is_decided() && validated.copied().all(|forced| forced)
    }

    fn consume(&mut self, tokens: &[u32]) -> Result<(), EngineError> {
        self.unmasked += tokens.len();
        self.matcher.consume_tokens(tokens).map_err(broken(self.field))
    }

    fn may_end(&mut self) -> bool {
        !self.matcher.is_error() && (self.matcher.is_stopped() || self.matcher.is_accepting().unwrap_or(false))
    }

    /// Moves the frontier over what is forced and over drafts that fit.
    fn advance(
        &mut self,
        canvas: &mut Canvas,
        room: usize,
        mut again: Option<(f32, &mut dyn Choose)>,
    ) -> Result<(), EngineError> {
        if self.unmasked > UNMASKED && !self.matcher.is_stopped() {
            self.mask()?;
        }
        let mut chosen_at = None;
        while !self.is_decided() {
            let left = room.saturating_sub(self.frontier - canvas.fixed);
            if self.write_forced(canvas)? {
                continue;
            }
            let at = self.frontier;
            if canvas.is_masked(at) {
                break;
            }
            let Some(token) = canvas.tokens.get(at).copied() else { break };
            if !self.fits_alone(token)? {
                if let Some(place) = canvas.tokens.get_mut(at) {
                    *place = canvas.mask;
                }
                let Some((threshold, choose)) = &mut again else { break };
                if chosen_at.replace(at) == Some(at) {
                    return Err(broken(self.field)("it allows a token that it then refuses"));
                }
                if !self.write_allowed(canvas, *threshold, *choose)? {
                    break;
                }
                continue;
            }
            if self.ends.contains(&token) {
                self.frontier += 1;
                self.end(canvas);
                break;
            }
            self.consume(&[token])?;
            if self.is_one_too_many(left.saturating_sub(1)) && self.close_before(token, left)? {
                continue;
            }
            self.pass(canvas, false);
        }
        Ok(())
    }

    /// Writes the next token that needs no model: of the nearest end, of the grammar's forced text, or the end token
    /// where nothing else can follow.
    fn write_forced(&mut self, canvas: &mut Canvas) -> Result<bool, EngineError> {
        if let Some(error) = self.matcher.get_error() {
            return Err(broken(self.field)(error));
        }
        let tokens = match self.closing.pop_front() {
            Some(token) => vec![token],
            None if self.matcher.is_stopped() || self.closed_at_limit => {
                self.write_end(canvas);
                return Ok(true);
            }
            None => {
                let last = self.frontier.checked_sub(1).filter(|_| self.consumed > 0);
                let last = last.and_then(|at| canvas.tokens.get(at).copied());
                forced(&mut self.matcher, &self.vocabulary, &self.learnt.cuts, last)
            }
        };
        for token in &tokens {
            if self.frontier >= self.limit {
                break;
            }
            if let Some(place) = canvas.tokens.get_mut(self.frontier) {
                *place = *token;
            }
            self.consume(&[*token])?;
            self.pass(canvas, true);
        }
        Ok(!tokens.is_empty())
    }

    /// Writes the likeliest allowed token at the frontier if it is surer than `threshold`.
    fn write_allowed(
        &mut self,
        canvas: &mut Canvas,
        threshold: f32,
        choose: &mut dyn Choose,
    ) -> Result<bool, EngineError> {
        if !self.is_open(canvas) {
            return Ok(false);
        }
        let at = self.frontier;
        let likeliest = choose.likeliest(at).filter(|(_, probability)| *probability > threshold);
        let token = match likeliest {
            // Among fewer tokens it is no less probable.
            Some((token, _)) if self.fits_alone(token)? => token,
            _ => {
                let Some((at, mask)) = self.allowed(canvas)? else { return Ok(false) };
                let (token, probability) = choose.choose(at, &mask)?;
                if probability <= threshold {
                    return Ok(false);
                }
                token
            }
        };
        if let Some(place) = canvas.tokens.get_mut(at) {
            *place = token;
        }
        Ok(true)
    }

    /// The frontier's token is consumed.
    fn pass(&mut self, canvas: &Canvas, forced: bool) {
        if let Some(place) = self.forced.get_mut(self.frontier) {
            *place = forced;
        }
        self.forced_tokens += u32::from(forced);
        self.nearest.since += 1;
        self.frontier += 1;
        self.consumed = self.frontier - canvas.fixed;
    }

    /// Writes an end token that the matcher need not see.
    fn write_end(&mut self, canvas: &mut Canvas) {
        if let (Some(place), Some(end)) = (canvas.tokens.get_mut(self.frontier), self.ends.first()) {
            *place = *end;
            if let Some(place) = self.forced.get_mut(self.frontier) {
                *place = true;
            }
            self.forced_tokens += 1;
            self.frontier += 1;
            self.end(canvas);
        }
    }

    /// The answer is complete; nothing behind it matters, so the canvas counts as full: of what a model has learnt to see
    /// there (`<|endoftext|>`, the last of the ends), or a decoder that edits would judge the answer by what it never saw.
    fn end(&mut self, canvas: &mut Canvas) {
        self.ended = true;
        if let Some(end) = self.ends.last() {
            canvas.tokens.iter_mut().skip(self.frontier).for_each(|token| *token = *end);
        }
    }

    fn fits_alone(&mut self, token: u32) -> Result<bool, EngineError> {
        if self.ends.contains(&token) {
            return Ok(self.may_end());
        }
        Ok(self.matcher.validate_tokens(&[token]).map_err(broken(self.field))? == 1)
    }
}
