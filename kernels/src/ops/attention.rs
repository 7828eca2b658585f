//! Attention of a few query rows over a long prefix, by online softmax: keys are walked once, 256 positions at a
//! time, with a running maximum and sum per row (Milakov and Gimelshein 2018, arXiv:1805.02867). Panels tile from
//! position 0, so a row adds in the same order whichever rows share its tile and however the prefix was fed.

use std::mem::MaybeUninit;

use crate::kernels::{AttentionShape, KvPanel, MAX_HEAD_DIM};
use crate::panel::PANEL;
use crate::simd::{Vector, exp};

use super::accumulate;

/// Panels whose scores are weighed together: the largest of 256 scores is looked for at once.
const TOGETHER: usize = 8;

/// Queries and results in memory: of a token all heads side by side, tokens so many elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub(crate) q: *const f32,
    pub(crate) q_stride: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
}

/// All rows of one lane. A row is one head of one token.
///
/// # Safety
/// The CPU as for `V`; `NV * V::LEN == 32`; the shapes are those [`crate::Kernels::attention`] checks.
#[inline(always)]
pub(crate) unsafe fn attention<V: Vector, const NV: usize, const R: usize>(
    shape: AttentionShape,
    places: Places,
    panels: &[KvPanel<'_>],
    visible: &[usize],
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
                tile::<V, NV, R>(shape.head_dim, at, places, panels, visible);
                row += R;
            }
            while row < rows {
                tile::<V, NV, 1>(shape.head_dim, [locate(row)], places, panels, visible);
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
    d: usize,
    at: [(usize, usize); R],
    places: Places,
    panels: &[KvPanel<'_>],
    visible: &[usize],
) {
    let d_panels = d.div_ceil(PANEL);
    let scale = 1.0 / (d as f32).sqrt();
    // SAFETY: tokens and heads are in range; sums has R rows of MAX_HEAD_DIM >= d_panels * 32; panels hold
    // [d, 32] keys and [d_panels, 32, 32] values.
    unsafe {
        let mut rows = [places.q; R];
        let mut seen = [0usize; R];
        for (r, (token, head)) in at.into_iter().enumerate() {
            rows[r] = places.q.add(token * places.q_stride + head * d);
            seen[r] = *visible.get_unchecked(token);
        }
        let mut furthest = 0;
        for n in seen {
            furthest = furthest.max(n);
        }
        // Not filled: most of it would be for heads larger than these.
        let mut sums = MaybeUninit::<[[f32; MAX_HEAD_DIM]; R]>::uninit();
        let sums = sums.as_mut_ptr().cast::<f32>();
        for r in 0..R {
            sums.add(r * MAX_HEAD_DIM).write_bytes(0, d_panels * PANEL);
        }
        let mut maximum = [f32::NEG_INFINITY; R];
        let mut total = [0.0f32; R];
        let mut weights = MaybeUninit::<[[f32; PANEL * TOGETHER]; R]>::uninit();
        let weights = weights.as_mut_ptr().cast::<f32>();
        let mut start = 0;
        for panels in panels.get_unchecked(..furthest.div_ceil(PANEL)).chunks(TOGETHER) {
            let whole = panels.len() * PANEL;
            for (p, panel) in panels.iter().enumerate() {
                let mut scores = [[V::splat(0.0); NV]; R];
                accumulate::<V, R, NV>(&mut scores, &rows, panel.keys.as_ptr(), d);
                for (r, scores) in scores.iter().enumerate() {
                    for (v, score) in scores.iter().enumerate() {
                        let place = weights.add(r * PANEL * TOGETHER + p * PANEL + v * V::LEN);
                        score.mul(V::splat(scale)).store(place);
                    }
                }
            }
            let mut keep = [1.0f32; R];
            for r in 0..R {
                let n = seen[r].saturating_sub(start).min(whole);
                // The first `whole` were written just now.
                let own = std::slice::from_raw_parts_mut(weights.add(r * PANEL * TOGETHER), whole);
                keep[r] = weigh::<V>(own, n, &mut maximum[r], &mut total[r]);
            }
            for dp in 0..d_panels {
                let mut acc = [[V::splat(0.0); NV]; R];
                for (r, acc_row) in acc.iter_mut().enumerate() {
                    for (v, acc) in acc_row.iter_mut().enumerate() {
                        let sum = V::load(sums.add(r * MAX_HEAD_DIM + dp * PANEL + v * V::LEN));
                        *acc = sum.mul(V::splat(keep[r]));
                    }
                }
                let mut weight_rows = [places.q; R];
                for (r, pointer) in weight_rows.iter_mut().enumerate() {
                    *pointer = weights.add(r * PANEL * TOGETHER);
                }
                let mut left = furthest - start;
                for panel in panels {
                    let values = panel.values.as_ptr().add(dp * PANEL * PANEL);
                    accumulate::<V, R, NV>(&mut acc, &weight_rows, values, left.min(PANEL));
                    left = left.saturating_sub(PANEL);
                    for pointer in &mut weight_rows {
                        *pointer = pointer.add(PANEL);
                    }
                }
                for (r, acc_row) in acc.iter().enumerate() {
                    for (v, acc) in acc_row.iter().enumerate() {
                        acc.store(sums.add(r * MAX_HEAD_DIM + dp * PANEL + v * V::LEN));
                    }
                }
            }
            start += whole;
        }
        for (r, (token, head)) in at.into_iter().enumerate() {
            let to = places.out.add(token * places.out_stride + head * d);
            for i in 0..d {
                *to.add(i) = *sums.add(r * MAX_HEAD_DIM + i) / total[r];
            }
        }
    }
}

/// Turns one row's scores, of which the first `n` count, into softmax numerators; moves the row's running maximum and
/// total along and returns the factor by which what was summed before must shrink.
///
/// # Safety
/// The CPU as for `V`; `scores` is whole panels.
#[inline(always)]
unsafe fn weigh<V: Vector>(scores: &mut [f32], n: usize, maximum: &mut f32, total: &mut f32) -> f32 {
    if n == 0 {
        scores.fill(0.0);
        return 1.0;
    }
    for hidden in scores.iter_mut().skip(n) {
        *hidden = f32::NEG_INFINITY;
    }
    // SAFETY: every vector lies inside the scores.
    unsafe {
        let mut largest = V::splat(f32::NEG_INFINITY);
        let mut at = 0;
        while at < scores.len() {
            largest = largest.max(V::load(scores.as_ptr().add(at)));
            at += V::LEN;
        }
        let new_maximum = maximum.max(largest.reduce_max());
        let maxima = V::splat(new_maximum);
        let mut sum = V::splat(0.0);
        let mut at = 0;
        while at < scores.len() {
            let place = scores.as_mut_ptr().add(at);
            let weight = exp(V::load(place).sub(maxima));
            weight.store(place);
            sum = sum.add(weight);
            at += V::LEN;
        }
        let mut keep = 1.0;
        if *maximum != new_maximum {
            let mut factors = [0.0f32; PANEL];
            exp(V::splat(*maximum - new_maximum)).store(factors.as_mut_ptr());
            [keep, ..] = factors;
        }
        *total = *total * keep + sum.reduce_add();
        *maximum = new_maximum;
        keep
    }
}
