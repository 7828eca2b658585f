//! Attention of one request's tokens, shared out to the team by key/value head and by tokens. The loop is that of
//! [`Kernels::attention`], and so is every bit of the result.

use crate::error::{KernelError, expect};
use crate::kernels::{AttentionShape, Kernels, Strided, Visible, check_attention};
use crate::kv::KvPanel;
use crate::ops::attention::Places;

use super::product::Products;

/// Tokens of a part: with four query heads to a key/value head, four tiles of eight rows.
const TOKENS: usize = 8;

/// Where results go; parts write their own.
struct Out(*mut f32);

// SAFETY: parts of a section write disjoint elements.
unsafe impl Sync for Out {}

impl Out {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

impl Products<'_> {
    /// [`Kernels::attention`], by all threads.
    ///
    /// # Errors
    /// As [`Kernels::attention`].
    pub fn attention(
        &self,
        kernels: &Kernels,
        shape: AttentionShape,
        q: Strided<'_>,
        panels: &[KvPanel<'_>],
        visible: Visible<'_>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let AttentionShape { heads, kv_heads, head_dim } = shape;
        let (m, row) = (visible.ends.len(), heads.saturating_mul(head_dim));
        check_attention(shape, q, panels, visible)?;
        expect("out", m.checked_mul(row), out.len())?;
        let (chunks, own_panels) = (m.div_ceil(TOKENS), panels.len() / kv_heads);
        // Few positions are not worth waking anybody.
        if m * own_panels < TOKENS {
            return kernels.attention(shape, q, panels, visible, out);
        }
        let one = AttentionShape { heads: heads / kv_heads, kv_heads: 1, head_dim };
        let attend = kernels.attention_loop(panels);
        let out = Out(out.as_mut_ptr());
        let (q_at, own) = (Out(q.elements.as_ptr().cast_mut()), one.heads * head_dim);
        self.team.run(kv_heads * chunks, |part, _| {
            let (head, chunk) = (part / chunks, part % chunks);
            let (from, to) = (chunk * TOKENS, ((chunk + 1) * TOKENS).min(m));
            let places = Places {
                q: q_at.at(from * q.stride + head * own).cast_const(),
                q_stride: q.stride,
                out: out.at(from * row + head * own),
                out_stride: row,
            };
            let panels = panels.get(head * own_panels..(head + 1) * own_panels).unwrap_or_default();
            let ends = visible.ends.get(from..to).unwrap_or_default();
            // SAFETY: the registry saw the instruction set; the whole is checked above, this is a part of it, and each
            // part writes its own tokens of its own heads.
            unsafe { attend(one, places, panels, Visible { ends, ..visible }) };
        });
        Ok(())
    }
}
