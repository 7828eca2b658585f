//! Attention of a few query rows over a long prefix, by online softmax: keys are walked once, 32 positions at a time,
//! with a running maximum and sum per row (Milakov and Gimelshein 2018, arXiv:1805.02867). Panels tile from position
//! 0, so a row adds in the same order whichever rows share its tile and however the prefix was fed.

use crate::kernels::{AttentionShape, KvPanel, MAX_HEAD_DIM};
use crate::panel::PANEL;
use crate::simd::{Vector, exp};

use super::accumulate;

/// All rows of one lane. A row is one head of one token.
///
/// # Safety
/// The CPU as for `V`; `NV * V::LEN == 32`; the shapes are those [`crate::Kernels::attention`] checks.
#[inline(always)]
pub(crate) unsafe fn attention<V: Vector, const NV: usize, const R: usize>(
    shape: AttentionShape,
    q: &[f32],
    panels: &[KvPanel<'_>],
    visible: &[usize],
    out: &mut [f32],
) {
    let group = shape.heads / shape.kv_heads;
    let rows = visible.len() * group;
    for (kv_head, panels) in panels.chunks_exact(panels.len() / shape.kv_heads).enumerate() {
        let locate = |row: usize| (row / group, kv_head * group + row % group);
        let mut row = 0;
        // SAFETY: row + R <= rows, and locate() maps rows into q, out and visible.
        unsafe {
            while row + R <= rows {
                let mut at = [(0, 0); R];
                for (r, place) in at.iter_mut().enumerate() {
                    *place = locate(row + r);
                }
                tile::<V, NV, R>(shape, at, q, panels, visible, out);
                row += R;
            }
            while row < rows {
                tile::<V, NV, 1>(shape, [locate(row)], q, panels, visible, out);
                row += 1;
            }
        }
    }
}

/// The rows `at` = (token, head), which share a key/value head.
///
/// # Safety
/// As for [`attention`].
#[inline(always)]
unsafe fn tile<V: Vector, const NV: usize, const R: usize>(
    shape: AttentionShape,
    at: [(usize, usize); R],
    q: &[f32],
    panels: &[KvPanel<'_>],
    visible: &[usize],
    out: &mut [f32],
) {
    let d = shape.head_dim;
    let d_panels = d.div_ceil(PANEL);
    let scale = 1.0 / (d as f32).sqrt();
    // SAFETY: tokens and heads are in range; sums has R rows of MAX_HEAD_DIM >= d_panels * 32; panels hold
    // [d, 32] keys and [d_panels, 32, 32] values.
    unsafe {
        let mut rows = [q.as_ptr(); R];
        let mut seen = [0usize; R];
        for (r, (token, head)) in at.into_iter().enumerate() {
            rows[r] = q.as_ptr().add((token * shape.heads + head) * d);
            seen[r] = *visible.get_unchecked(token);
        }
        let mut furthest = 0;
        for n in seen {
            furthest = furthest.max(n);
        }
        let mut sums = [[0.0f32; MAX_HEAD_DIM]; R];
        let mut maximum = [f32::NEG_INFINITY; R];
        let mut total = [0.0f32; R];
        let mut weights = [[0.0f32; PANEL]; R];
        let mut weight_rows = [q.as_ptr(); R];
        for (pointer, weights) in weight_rows.iter_mut().zip(&mut weights) {
            *pointer = weights.as_mut_ptr().cast_const();
        }
        for (p, panel) in panels.iter().enumerate() {
            let start = p * PANEL;
            if start >= furthest {
                break;
            }
            let mut scores = [[V::splat(0.0); NV]; R];
            accumulate::<V, R, NV>(&mut scores, &rows, panel.keys.as_ptr(), d);
            let mut keep = [1.0f32; R];
            for r in 0..R {
                let n = seen[r].saturating_sub(start).min(PANEL);
                keep[r] = weigh::<V, NV>(&scores[r], scale, n, &mut maximum[r], &mut total[r], &mut weights[r]);
            }
            let positions = (furthest - start).min(PANEL);
            for dp in 0..d_panels {
                let mut acc = [[V::splat(0.0); NV]; R];
                for (r, acc_row) in acc.iter_mut().enumerate() {
                    for (v, acc) in acc_row.iter_mut().enumerate() {
                        let sum = V::load(sums[r].as_ptr().add(dp * PANEL + v * V::LEN));
                        *acc = sum.mul(V::splat(keep[r]));
                    }
                }
                let values = panel.values.as_ptr().add(dp * PANEL * PANEL);
                accumulate::<V, R, NV>(&mut acc, &weight_rows, values, positions);
                for (r, acc_row) in acc.iter().enumerate() {
                    for (v, acc) in acc_row.iter().enumerate() {
                        acc.store(sums[r].as_mut_ptr().add(dp * PANEL + v * V::LEN));
                    }
                }
            }
        }
        for (r, (token, head)) in at.into_iter().enumerate() {
            let to = out.as_mut_ptr().add((token * shape.heads + head) * d);
            for (i, sum) in sums[r].iter().take(d).enumerate() {
                *to.add(i) = sum / total[r];
            }
        }
    }
}

/// Turns one row's 32 raw scores, of which the first `n` count, into softmax numerators in `weights`; moves the
/// row's running maximum and total along and returns the factor by which what was summed before must shrink.
///
/// # Safety
/// The CPU as for `V`; `NV * V::LEN == 32`.
#[inline(always)]
unsafe fn weigh<V: Vector, const NV: usize>(
    scores: &[V; NV],
    scale: f32,
    n: usize,
    maximum: &mut f32,
    total: &mut f32,
    weights: &mut [f32; PANEL],
) -> f32 {
    if n == 0 {
        *weights = [0.0; PANEL];
        return 1.0;
    }
    // SAFETY: the buffers have 32 elements.
    unsafe {
        for (v, score) in scores.iter().enumerate() {
            score.mul(V::splat(scale)).store(weights.as_mut_ptr().add(v * V::LEN));
        }
        for hidden in weights.iter_mut().skip(n) {
            *hidden = f32::NEG_INFINITY;
        }
        let mut largest = V::load(weights.as_ptr());
        for v in 1..NV {
            largest = largest.max(V::load(weights.as_ptr().add(v * V::LEN)));
        }
        let new_maximum = maximum.max(largest.reduce_max());
        let mut sum = V::splat(0.0);
        for v in 0..NV {
            let place = weights.as_mut_ptr().add(v * V::LEN);
            let weight = exp(V::load(place).sub(V::splat(new_maximum)));
            weight.store(place);
            sum = sum.add(weight);
        }
        let mut keep = [0.0f32; PANEL];
        exp(V::splat(*maximum - new_maximum)).store(keep.as_mut_ptr());
        let [keep, ..] = keep;
        *total = *total * keep + sum.reduce_add();
        *maximum = new_maximum;
        keep
    }
}
