//! Attention of one request's tokens, shared out to the team by key/value head, by tokens, and where these are too few for
//! its threads by spans of the prefix, which are joined afterwards. The loop is that of [`Kernels::attention`], and so is
//! every bit of the result.

use std::ops::Range;

use crate::error::{KernelError, expect};
use crate::kernels::{AttentionShape, Kernels, Strided, Visible, check_attention};
use crate::kv::KvPanel;
use crate::ops::attention::{Places, Weighed, finish, join, reach, spans};

use super::product::Products;
use super::shared::Shared;

/// Tokens of a part: with four query heads to a key/value head, four tiles of eight rows.
const TOKENS: usize = 8;

/// Most floats that wait to be joined: 16 MB.
const MOST: usize = 4 << 20;

/// What [`Products::attention`] is asked, checked.
struct Asked<'a> {
    kernels: &'a Kernels,
    shape: AttentionShape,
    q: Strided<'a>,
    panels: &'a [KvPanel<'a>],
    visible: Visible<'a>,
}

impl Asked<'_> {
    /// The tokens from `from` to `to` of one key/value head; results go to `out`, a token's so many elements after the one
    /// before and a head's so many.
    ///
    /// # Safety
    /// `out` takes what [`Kernels::attention`]'s loop writes, and nobody else uses those places.
    unsafe fn part(
        &self,
        (head, from, to): (usize, usize, usize),
        out: *mut f32,
        (out_stride, out_head): (usize, usize),
        only: Option<usize>,
    ) {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape;
        let one = AttentionShape { heads: heads / kv_heads, kv_heads: 1, head_dim };
        let own_panels = self.panels.len() / kv_heads;
        let q = self.q.elements.as_ptr().wrapping_add(from * self.q.stride + head * one.heads * head_dim);
        let places = Places { q, q_stride: self.q.stride, out, out_stride, out_head };
        let panels = self.panels.get(head * own_panels..(head + 1) * own_panels).unwrap_or_default();
        let visible = Visible { ends: self.visible.ends.get(from..to).unwrap_or_default(), ..self.visible };
        // SAFETY: the registry saw the instruction set; the whole is checked, this is a part of it; passed on to the caller.
        unsafe { self.kernels.attention_loop(panels)(one, places, panels, visible, only) };
    }
}

impl Products<'_> {
    /// [`Kernels::attention`], by all threads; `memory` is kept for the next call.
    ///
    /// # Errors
    /// As [`Kernels::attention`].
    #[expect(clippy::too_many_arguments, reason = "those of `Kernels::attention`, and memory")]
    pub fn attention(
        &self,
        kernels: &Kernels,
        shape: AttentionShape,
        q: Strided<'_>,
        panels: &[KvPanel<'_>],
        visible: Visible<'_>,
        memory: &mut Vec<f32>,
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
        let asked = Asked { kernels, shape, q, panels, visible };
        let spans = spans(&reach(visible.ends, visible.window.unwrap_or(usize::MAX)));
        let waiting = spans.len().saturating_mul(m * heads).saturating_mul(head_dim + 2);
        if spans.len() > 1 && kv_heads * chunks < 2 * self.team.threads() && waiting <= MOST {
            return self.by_spans(&asked, spans, memory, out);
        }
        let (out, own) = (Shared::new(out), row / kv_heads);
        self.team.run(kv_heads * chunks, |part, _| {
            let (head, from) = (part / chunks, part % chunks * TOKENS);
            let tokens = (head, from, (from + TOKENS).min(m));
            // SAFETY: `out` has a row for each token; each part writes its own tokens of its own heads.
            unsafe { asked.part(tokens, out.at(from * row + head * own), (row, head_dim), None) };
        });
        Ok(())
    }

    /// Each span apart, then joined in their order, as one thread does.
    fn by_spans(
        &self,
        asked: &Asked<'_>,
        spans: Range<usize>,
        memory: &mut Vec<f32>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let AttentionShape { heads, kv_heads, head_dim } = asked.shape;
        let (m, group, width) = (asked.visible.ends.len(), heads / kv_heads, head_dim + 2);
        let chunks = m.div_ceil(TOKENS);
        let (first, spans) = (spans.start, spans.len());
        let length = spans * m * heads * width;
        if memory.len() < length {
            memory.resize(length, 0.0);
        }
        // `[spans, tokens, heads, head_dim + 2]`.
        let waiting = Shared::new(memory);
        self.team.run(kv_heads * chunks * spans, |part, _| {
            let (head, from, span) = (part / spans / chunks, part / spans % chunks * TOKENS, part % spans);
            let at = ((span * m + from) * heads + head * group) * width;
            let tokens = (head, from, (from + TOKENS).min(m));
            // SAFETY: `length` has room for each span, token and head; each part writes its own.
            unsafe { asked.part(tokens, waiting.at(at), (heads * width, width), Some(first + span)) };
        });
        let waiting = memory.get(..length).unwrap_or_default();
        self.rows(m * heads, spans * width, [(out, head_dim)], |rows, [out], _| {
            for (row, out) in rows.zip(out.chunks_exact_mut(head_dim)) {
                let mut all = Weighed::NOTHING;
                for of_span in waiting.chunks_exact(m * heads * width) {
                    let (sums, weighed) =
                        Weighed::split(of_span.get(row * width..(row + 1) * width).unwrap_or_default());
                    join(out, &mut all, sums, weighed);
                }
                finish(out, all);
            }
            Ok(())
        })
    }
}
