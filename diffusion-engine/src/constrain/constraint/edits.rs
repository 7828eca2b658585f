//! Edits of tokens before the frontier: one is kept only if everything validated still fits with it. Must never leave the
//! matcher at another place than behind what the canvas then holds.

use weir_protocol::EngineError;

use crate::decode::Canvas;

use super::{Constraint, broken};

impl Constraint {
    /// Takes back edits of validated tokens that do not fit, and all of them where not `any` may be made: near the token
    /// limit an edit could put the nearest end out of reach. What was validated before stays validated.
    pub(super) fn keep_valid_edits(
        &mut self,
        before: &Canvas,
        canvas: &mut Canvas,
        any: bool,
    ) -> Result<(), EngineError> {
        let end = self.frontier;
        for at in canvas.fixed..end {
            if self.is_forced(at)
                && let (Some(new), Some(old)) = (canvas.tokens.get_mut(at), before.tokens.get(at))
            {
                *new = *old;
            }
        }
        let changed: Vec<usize> =
            (canvas.fixed..end).filter(|at| canvas.tokens.get(*at) != before.tokens.get(*at)).collect();
        let Some(first) = changed.first().copied() else { return Ok(()) };
        let wanted = canvas.clone();
        restore(canvas, before, &changed);
        // The end stays where it is.
        let stretch = first..canvas.fixed + self.consumed;
        if stretch.is_empty() || !any {
            return Ok(());
        }
        self.matcher.rollback(stretch.len()).map_err(broken)?;
        let wanted: Vec<u32> = wanted.tokens.get(stretch.clone()).unwrap_or_default().to_vec();
        if self.fits(&wanted)? {
            self.consume(&wanted)?;
            if let Some(place) = canvas.tokens.get_mut(stretch) {
                place.copy_from_slice(&wanted);
            }
            return Ok(());
        }
        let mut kept: Vec<u32> = before.tokens.get(stretch.clone()).unwrap_or_default().to_vec();
        for at in changed.iter().filter(|at| stretch.contains(at)) {
            let (index, new) = (at - first, wanted.get(at - first).copied());
            let (Some(place), Some(new)) = (kept.get_mut(index), new) else { continue };
            let old = std::mem::replace(place, new);
            if !self.fits(&kept)?
                && let Some(place) = kept.get_mut(index)
            {
                *place = old;
            }
        }
        self.consume(&kept)?;
        if let Some(place) = canvas.tokens.get_mut(stretch) {
            place.copy_from_slice(&kept);
        }
        Ok(())
    }

    /// Whether `tokens` may follow, and whether an answer that had ended still ends after them. Changes nothing.
    fn fits(&mut self, tokens: &[u32]) -> Result<bool, EngineError> {
        let taken = self.matcher.try_consume_tokens(tokens).map_err(broken)?;
        let fits = taken == tokens.len() && (!self.ended || self.may_end());
        self.matcher.rollback(taken).map_err(broken)?;
        Ok(fits)
    }
}

fn restore(canvas: &mut Canvas, before: &Canvas, positions: &[usize]) {
    for at in positions {
        if let (Some(new), Some(old)) = (canvas.tokens.get_mut(*at), before.tokens.get(*at)) {
            *new = *old;
        }
    }
}
