//! Edits of tokens before the frontier: one is kept only if everything validated still fits with it. Must never leave the
//! matcher at another place than behind what the canvas then holds.

use weir_protocol::EngineError;

use crate::decode::Canvas;

use super::Constraint;
use super::broken::broken;

impl Constraint {
    /// Takes back edits of validated tokens that do not fit, and all of them where not `any` may be made: near the token
    /// limit an edit could put the nearest end out of reach. What was validated before stays validated.
    pub(super) fn keep_valid_edits(
        &mut self,
        before: &Canvas,
        canvas: &mut Canvas,
        any: bool,
    ) -> Result<(), EngineError> {
        let both = before.tokens.iter().zip(&mut canvas.tokens).enumerate().take(self.frontier).skip(canvas.fixed);
        let mut changed = Vec::new();
        for (at, (old, new)) in both.filter(|(_, (old, new))| *old != *new) {
            changed.push((at, std::mem::replace(new, *old)));
        }
        // The end, which the matcher never sees, stays where it is; so does what had no alternative.
        let consumed = canvas.fixed + self.consumed;
        changed.retain(|(at, _)| *at < consumed && !self.is_forced(*at));
        let Some(first) = changed.first().map(|(at, _)| *at).filter(|_| any) else { return Ok(()) };
        let Some(place) = canvas.tokens.get_mut(first..consumed) else { return Ok(()) };
        self.matcher.rollback(place.len()).map_err(broken(self.field))?;
        let mut kept = place.to_vec();
        self.edit(&mut kept, first, &changed)?;
        self.consume(&kept)?;
        place.copy_from_slice(&kept);
        Ok(())
    }

    /// Makes those of the edits in `tokens`, which start at position `first`, that fit: all at once where they do, else
    /// one after the other.
    fn edit(&mut self, tokens: &mut [u32], first: usize, edits: &[(usize, u32)]) -> Result<(), EngineError> {
        let mut all = tokens.to_vec();
        for (at, token) in edits {
            if let Some(place) = all.get_mut(at - first) {
                *place = *token;
            }
        }
        if self.fits(&all)? {
            tokens.copy_from_slice(&all);
            return Ok(());
        }
        for (at, token) in edits {
            let Some(place) = tokens.get_mut(at - first) else { continue };
            let old = std::mem::replace(place, *token);
            if !self.fits(tokens)?
                && let Some(place) = tokens.get_mut(at - first)
            {
                *place = old;
            }
        }
        Ok(())
    }

    /// Whether `tokens` may follow, and whether an answer that had ended still ends after them. Changes nothing.
    fn fits(&mut self, tokens: &[u32]) -> Result<bool, EngineError> {
        let taken = self.matcher.try_consume_tokens(tokens).map_err(broken(self.field))?;
        let fits = taken == tokens.len() && (!self.ended || self.may_end());
        self.matcher.rollback(taken).map_err(broken(self.field))?;
        Ok(fits)
    }
}
