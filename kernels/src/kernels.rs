//! The functions callers use: they check every shape, then run the loops chosen for this CPU. Must never let an
//! unchecked length through to `ops`.

use crate::error::{KernelError, expect};
use crate::kv::KvPanel;
use crate::ops::attention::Places;
use crate::panel::{PANEL, PackedMatrix};

/// Largest head dimension attention takes; its running sums lie on the stack.
pub const MAX_HEAD_DIM: usize = 256;

/// One instruction set's loops. Obtained from [`crate::registry`], which hands out only what the CPU has.
pub struct Kernels {
    pub(crate) name: &'static str,
    pub(crate) linear: unsafe fn(&[f32], usize, &PackedMatrix, &mut [f32]),
    pub(crate) rms_norm: unsafe fn(*const f32, *mut f32, usize, &[f32], f32),
    pub(crate) silu_mul: unsafe fn(&mut [f32], &[f32]),
    pub(crate) add_scaled: unsafe fn(&mut [f32], &[f32], f32),
    pub(crate) max_and_sum: unsafe fn(&[f32]) -> (f32, f32),
    /// Over keys and values in f32 or bf16.
    pub(crate) attention: AttentionLoop,
    /// In 8 bits.
    pub(crate) attention_whole: AttentionLoop,
}

/// Shape, queries and results, panels, positions each token sees, and which span of them only.
type AttentionLoop = unsafe fn(AttentionShape, Places, &[KvPanel<'_>], Visible<'_>, Option<usize>);

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Heads of an attention layer. Query heads share key/value heads in groups of `heads / kv_heads`.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a head, at most 256.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Elements of one head's keys in a panel: `[head_dim, 32]`, one more row of 32 where `head_dim` is odd.
    pub fn key_panel(&self) -> usize {
        self.head_dim.next_multiple_of(2) * PANEL
    }

    /// Elements of one head's values in a panel: `[ceil(head_dim / 32), 32 positions, 32]`.
    pub fn value_panel(&self) -> usize {
        self.head_dim.div_ceil(PANEL) * PANEL * PANEL
    }
}

/// What each token sees: the last `window` of the positions before its end, or all of them.
#[derive(Debug, Clone, Copy)]
pub struct Visible<'a> {
    /// Of each token.
    pub ends: &'a [usize],
    /// At least 1.
    pub window: Option<usize>,
}

impl<'a> From<&'a [usize]> for Visible<'a> {
    fn from(ends: &'a [usize]) -> Self {
        Visible { ends, window: None }
    }
}

/// The likeliest token of one row of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Top1 {
    /// Index of the largest logit, the lowest of equals.
    pub index: usize,
    /// Its softmax probability, in (0, 1].
    pub probability: f32,
}

impl Kernels {
    /// Name for logs and `weir doctor`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// `y[m, n] = x[m, k] · w[n, k]ᵀ`. A row of `y` depends on its own row of `x` only, to the bit.
    ///
    /// # Errors
    /// When `x` or `y` do not have `m * k` and `m * n` elements.
    pub fn linear(&self, x: &[f32], m: usize, w: &PackedMatrix, y: &mut [f32]) -> Result<(), KernelError> {
        expect("x", m.checked_mul(w.k()), x.len())?;
        expect("y", m.checked_mul(w.n()), y.len())?;
        if w.k() == 0 {
            y.fill(0.0);
            return Ok(());
        }
        // SAFETY: the registry saw the instruction set; the lengths are checked above.
        unsafe { (self.linear)(x, m, w, y) };
        Ok(())
    }

    /// RMSNorm of each row of `x[rows, d]` into `y`, `d` being the length of `weight`.
    ///
    /// # Errors
    /// When `x` is not whole rows, or `y` has another length.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) -> Result<(), KernelError> {
        let rows = whole_rows(x.len(), weight.len())?;
        expect("y", Some(x.len()), y.len())?;
        // SAFETY: the registry saw the instruction set; both have rows * d elements.
        unsafe { (self.rms_norm)(x.as_ptr(), y.as_mut_ptr(), rows, weight, eps) };
        Ok(())
    }

    /// [`Kernels::rms_norm`] in place, for example over the heads `x[heads, head_dim]` of one token.
    ///
    /// # Errors
    /// When `x` is not whole rows.
    pub fn rms_norm_in_place(&self, x: &mut [f32], weight: &[f32], eps: f32) -> Result<(), KernelError> {
        let rows = whole_rows(x.len(), weight.len())?;
        let place = x.as_mut_ptr();
        // SAFETY: the registry saw the instruction set; the loop allows x and y to be the same rows * d elements.
        unsafe { (self.rms_norm)(place, place, rows, weight, eps) };
        Ok(())
    }

    /// `gate = silu(gate) * up`.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), KernelError> {
        expect("up", Some(gate.len()), up.len())?;
        // SAFETY: the registry saw the instruction set; equal lengths.
        unsafe { (self.silu_mul)(gate, up) };
        Ok(())
    }

    /// `y += factor * x`.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn add_scaled(&self, y: &mut [f32], x: &[f32], factor: f32) -> Result<(), KernelError> {
        expect("x", Some(y.len()), x.len())?;
        // SAFETY: the registry saw the instruction set; equal lengths.
        unsafe { (self.add_scaled)(y, x, factor) };
        Ok(())
    }

    /// The largest of `logits` and its softmax probability. `None` when there is none: no logits, a NaN among them,
    /// or a largest one that is not finite. A logit of -inf is a token that cannot be.
    pub fn top1(&self, logits: &[f32]) -> Option<Top1> {
        if logits.is_empty() {
            return None;
        }
        // SAFETY: the registry saw the instruction set; not empty.
        let (max, sum) = unsafe { (self.max_and_sum)(logits) };
        if !(max.is_finite() && sum.is_finite()) {
            return None;
        }
        Some(Top1 { index: first(logits, max)?, probability: 1.0 / sum })
    }

    /// The largest logit and `Σ e^(logit - largest)`, which is NaN where one is NaN; `None` of none.
    pub(crate) fn max_and_sum(&self, logits: &[f32]) -> Option<(f32, f32)> {
        // SAFETY: the registry saw the instruction set; not empty.
        (!logits.is_empty()).then(|| unsafe { (self.max_and_sum)(logits) })
    }

    /// Attention of `q[m, heads, head_dim]` into `out` of the same shape, `m` being the number of tokens in `visible`.
    /// `panels[kv_heads, n]` hold positions 0 to `32 n`. Tokens of `q` may lie apart.
    ///
    /// # Errors
    /// When a length does not fit, or a token would see nothing or more than the panels hold.
    pub fn attention(
        &self,
        shape: AttentionShape,
        q: Strided<'_>,
        panels: &[KvPanel<'_>],
        visible: Visible<'_>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let row = shape.heads.saturating_mul(shape.head_dim);
        check_attention(shape, q, panels, visible)?;
        expect("out", visible.ends.len().checked_mul(row), out.len())?;
        if visible.ends.is_empty() {
            return Ok(());
        }
        let places = Places {
            q: q.elements.as_ptr(),
            q_stride: q.stride,
            out: out.as_mut_ptr(),
            out_stride: row,
            out_head: shape.head_dim,
        };
        // SAFETY: the registry saw the instruction set; every length is checked above, and there is a panel because
        // a token sees something.
        unsafe { self.attention_loop(panels)(shape, places, panels, visible, None) };
        Ok(())
    }

    /// The one for these panels, which [`check_attention`] has seen.
    pub(crate) fn attention_loop(&self, panels: &[KvPanel<'_>]) -> AttentionLoop {
        if panels.first().is_some_and(KvPanel::is_whole) { self.attention_whole } else { self.attention }
    }
}

/// Rows that lie `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a> {
    /// The first row's first element comes first.
    pub elements: &'a [f32],
    /// Elements from one row to the next; at least a row's length.
    pub stride: usize,
}

impl Strided<'_> {
    /// The rows from `row` on.
    #[must_use]
    pub fn skip(self, row: usize) -> Self {
        let at = row.saturating_mul(self.stride);
        Strided { elements: self.elements.get(at..).unwrap_or_default(), ..self }
    }
}

/// Whether [`Kernels::attention`] may run, its output aside.
pub(crate) fn check_attention(
    shape: AttentionShape,
    q: Strided<'_>,
    panels: &[KvPanel<'_>],
    visible: Visible<'_>,
) -> Result<(), KernelError> {
    let AttentionShape { heads, kv_heads, head_dim } = shape;
    if head_dim == 0 || head_dim > MAX_HEAD_DIM {
        return Err(KernelError { what: "head_dim", expected: MAX_HEAD_DIM, got: head_dim });
    }
    if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(KernelError { what: "heads", expected: kv_heads.max(1), got: heads });
    }
    let row = heads.saturating_mul(head_dim);
    let last = visible.ends.len().saturating_sub(1).saturating_mul(q.stride);
    let needed = if visible.ends.is_empty() { 0 } else { last.saturating_add(row) };
    if q.stride < row || q.elements.len() < needed {
        return Err(KernelError { what: "q", expected: needed, got: q.elements.len() });
    }
    let count = panels.len() / kv_heads;
    expect("panels", count.checked_mul(kv_heads), panels.len())?;
    for panel in panels {
        panel.check(shape)?;
    }
    let whole = panels.iter().filter(|panel| panel.is_whole()).count();
    if whole != 0 && whole != panels.len() {
        return Err(KernelError { what: "panels in 8 bits", expected: panels.len(), got: whole });
    }
    if visible.window == Some(0) {
        return Err(KernelError { what: "window", expected: 1, got: 0 });
    }
    let positions = count.saturating_mul(PANEL);
    match visible.ends.iter().find(|n| **n == 0 || **n > positions) {
        Some(wrong) => Err(KernelError { what: "visible", expected: positions, got: *wrong }),
        None => Ok(()),
    }
}

/// Rotates the first `2 * cos.len()` elements of each head `x[heads, head_dim]` of one token by its position's
/// angles: pairs are element i and i + half (the "rotate half" form); the rest of a head passes through.
///
/// # Errors
/// When `sin` and `cos` differ in length, or a head is shorter than the rotated part.
pub fn rope(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) -> Result<(), KernelError> {
    let half = cos.len();
    expect("sin", Some(half), sin.len())?;
    whole_rows(x.len(), head_dim)?;
    for head in x.chunks_exact_mut(head_dim) {
        let (first, rest) = head.split_at_mut_checked(half).ok_or(too_short(half, head_dim))?;
        let second = rest.get_mut(..half).ok_or(too_short(half, head_dim))?;
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
    Ok(())
}

fn too_short(half: usize, head_dim: usize) -> KernelError {
    KernelError { what: "head_dim", expected: half.saturating_mul(2), got: head_dim }
}

/// Where `wanted` comes first. Piece by piece, since a loop that may end at each element does not become vectors.
pub(crate) fn first(numbers: &[f32], wanted: f32) -> Option<usize> {
    const PIECE: usize = 64;
    let piece =
        numbers.chunks(PIECE).position(|piece| piece.iter().fold(false, |found, one| found | (*one == wanted)))?;
    let at = numbers.iter().skip(piece * PIECE).position(|one| *one == wanted)?;
    Some(piece * PIECE + at)
}

fn whole_rows(elements: usize, d: usize) -> Result<usize, KernelError> {
    match elements.checked_div(d) {
        Some(rows) if rows * d == elements => Ok(rows),
        _ => Err(KernelError { what: "rows of", expected: d, got: elements }),
    }
}
