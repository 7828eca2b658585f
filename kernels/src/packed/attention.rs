//! Attention of one request's tokens, shared out to the team by key/value head and by tokens. The loop is that of
//! [`Kernels::attention`], and so is every bit of the result.

use std::sync::Mutex;

use crate::error::{KernelError, expect};
use crate::kernels::{AttentionShape, Kernels, KvPanel};

use super::product::Products;
use super::shared::Shared;

/// Tokens of a part: with four query heads to a key/value head, four tiles of eight rows.
const TOKENS: usize = 8;

impl Products<'_> {
    /// [`Kernels::attention`] of `q[kv_heads, m, heads / kv_heads, head_dim]` into `out` of the same shape: the heads
    /// that share keys lie together.
    ///
    /// # Errors
    /// As [`Kernels::attention`].
    pub fn attention(
        &self,
        kernels: &Kernels,
        shape: AttentionShape,
        q: &[f32],
        panels: &[KvPanel<'_>],
        visible: &[usize],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let AttentionShape { heads, kv_heads, head_dim } = shape;
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || !panels.len().is_multiple_of(kv_heads) {
            return Err(KernelError { what: "kv_heads", expected: heads, got: kv_heads });
        }
        let row = heads / kv_heads * head_dim;
        let m = visible.len();
        let elements = m.checked_mul(heads).and_then(|rows| rows.checked_mul(head_dim));
        expect("q", elements, q.len())?;
        expect("out", elements, out.len())?;
        let one = AttentionShape { heads: heads / kv_heads, kv_heads: 1, head_dim };
        let (chunks, own_panels) = (m.div_ceil(TOKENS), panels.len() / kv_heads);
        let out = Shared::new(out);
        let failed = Mutex::new(None);
        let attend = |part: usize| {
            let (head, chunk) = (part / chunks, part % chunks);
            let tokens = chunk * TOKENS..((chunk + 1) * TOKENS).min(m);
            let from = (head * m + tokens.start) * row;
            // SAFETY: each part writes its own tokens of its own head.
            let out = unsafe { out.part(from, tokens.len() * row) };
            let q = q.get(from..from + tokens.len() * row).unwrap_or_default();
            let panels = panels.get(head * own_panels..(head + 1) * own_panels).unwrap_or_default();
            if let Err(error) = kernels.attention(one, q, panels, visible.get(tokens).unwrap_or_default(), out)
                && let Ok(mut failed) = failed.lock()
            {
                *failed = Some(error);
            }
        };
        // Few positions are not worth waking anybody.
        if m * own_panels < TOKENS {
            (0..kv_heads * chunks).for_each(attend);
        } else {
            self.team.run(kv_heads * chunks, |part, _| attend(part));
        }
        match failed.into_inner() {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(error),
            Err(_) => Err(KernelError { what: "attention", expected: 0, got: 0 }),
        }
    }
}
