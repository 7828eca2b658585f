//! Attention of query rows over a long prefix, by online softmax: keys are walked once, 256 positions at a time, with a
//! running maximum and sum per row (Milakov and Gimelshein 2018, arXiv:1805.02867). Panels tile from position 0, so a row
//! adds in the same order whichever rows walk with it and however the prefix was fed.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::kernels::{AttentionShape, MAX_HEAD_DIM, Visible};
use crate::kv::KvPanel;
use crate::panel::PANEL;
use crate::simd::{Vector, exp};

use super::tiles::{Part, ROWS, Reading, Rows, SCORES, TOGETHER};

/// Queries and results in memory: of a token all heads side by side, tokens so many elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub(crate) q: *const f32,
    pub(crate) q_stride: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
}

/// Memory of a block of rows.
struct Memory {
    weights: [[f32; SCORES]; ROWS],
    sums: [[f32; MAX_HEAD_DIM]; ROWS],
}

/// All rows of one lane. A row is one head of one token. `R` rows share what is read of a panel, `NV` vectors of it at a
/// time; where no more than two are left, `ALL`. `reading` is that of the form the panels are stored in.
///
/// # Safety
/// The CPU as for `V`; `NV * V::LEN` divides 32 and `ALL * V::LEN` is 32; the shapes are those
/// [`crate::Kernels::attention`] checks.
#[inline(always)]
pub(crate) unsafe fn attention<V: Vector, const R: usize, const NV: usize, const ALL: usize>(
    reading: &mut impl Reading<V, R, NV, ALL>,
    shape: AttentionShape,
    places: Places,
    panels: &[KvPanel<'_>],
    visible: Visible<'_>,
) {
    let AttentionShape { heads, kv_heads, head_dim } = shape;
    let group = heads / kv_heads;
    let Visible { ends, window } = visible;
    let (rows, window) = (ends.len() * group, window.unwrap_or(usize::MAX));
    // Not filled: most of it would be for more rows and larger heads than these.
    let mut memory = MaybeUninit::<Memory>::uninit();
    let memory = memory.as_mut_ptr();
    for (kv_head, panels) in panels.chunks_exact(panels.len() / kv_heads).enumerate() {
        for first in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - first);
            let locate = |row: usize| ((first + row) / group, kv_head * group + (first + row) % group);
            // SAFETY: first + row < rows, and locate() maps rows into q, out and visible; memory is this call's.
            unsafe {
                let mut own = Rows {
                    d: head_dim,
                    count,
                    q: [places.q; ROWS],
                    weights: (&raw mut (*memory).weights).cast(),
                    sums: (&raw mut (*memory).sums).cast(),
                };
                let mut seen = [0; ROWS];
                for (row, (q, seen)) in own.q.iter_mut().zip(&mut seen).take(count).enumerate() {
                    let (token, head) = locate(row);
                    *q = places.q.add(token * places.q_stride + head * head_dim);
                    *seen = *ends.get_unchecked(token);
                }
                let totals = attend(reading, &own, &seen, window, panels);
                for (row, total) in totals.into_iter().take(count).enumerate() {
                    let (token, head) = locate(row);
                    let to = places.out.add(token * places.out_stride + head * head_dim);
                    let sums = own.sums.add(row * MAX_HEAD_DIM);
                    for i in 0..head_dim {
                        *to.add(i) = *sums.add(i) / total;
                    }
                }
            }
        }
    }
}

/// Leaves the rows' sums of weighed values, and returns those of their weights; `seen` are the ends they see.
///
/// # Safety
/// As for [`attention`].
#[inline(always)]
unsafe fn attend<V: Vector, const R: usize, const NV: usize, const ALL: usize>(
    reading: &mut impl Reading<V, R, NV, ALL>,
    rows: &Rows,
    seen: &[usize; ROWS],
    window: usize,
    panels: &[KvPanel<'_>],
) -> [f32; ROWS] {
    let d_panels = rows.d.div_ceil(PANEL);
    let scale = 1.0 / (rows.d as f32).sqrt();
    let (mut maximum, mut total, mut keep) = ([f32::NEG_INFINITY; ROWS], [0.0; ROWS], [1.0; ROWS]);
    let (mut nearest, mut furthest) = (usize::MAX, 0);
    for end in seen.iter().take(rows.count) {
        (nearest, furthest) = (nearest.min(end.saturating_sub(window)), furthest.max(*end));
    }
    // A short prefix is in the caches.
    let is_long = furthest > SCORES;
    // SAFETY: rows are below `count`, panels below their number, and d_panels * 32 is at most MAX_HEAD_DIM.
    unsafe {
        reading.begin(rows);
        for row in 0..rows.count {
            rows.sums.add(row * MAX_HEAD_DIM).write_bytes(0, d_panels * PANEL);
        }
        let chunks = panels.get_unchecked(..furthest.div_ceil(PANEL)).chunks(TOGETHER);
        // What nobody sees would change nothing.
        for (chunk, panels) in chunks.enumerate().skip(nearest / SCORES) {
            let start = chunk * SCORES;
            for (p, panel) in panels.iter().enumerate() {
                let ahead = panels.get(p + 1).filter(|_| is_long).map(|next| next.keys());
                reading.scores(rows, panel, ahead, scale, p * PANEL);
            }
            let whole = panels.len() * PANEL;
            for row in 0..rows.count {
                let end = *seen.get_unchecked(row);
                let inside = |position: usize| position.saturating_sub(start).min(whole);
                let range = inside(end.saturating_sub(window))..inside(end);
                // The first `whole` were written just now.
                let own = std::slice::from_raw_parts_mut(rows.weights.add(row * SCORES), whole);
                *keep.get_unchecked_mut(row) =
                    weigh::<V>(own, range, maximum.get_unchecked_mut(row), total.get_unchecked_mut(row));
                reading.weighed(rows, row, panels);
            }
            for dp in 0..d_panels {
                let next = Some(dp + 1).filter(|next| is_long && *next < d_panels);
                reading.sums(rows, panels, Part { dp, next, keep: &keep, left: furthest - start });
            }
        }
    }
    total
}

/// Turns one row's scores, of which those in `seen` count, into softmax numerators; moves the row's running maximum and
/// total along and returns the factor by which what was summed before must shrink.
///
/// # Safety
/// The CPU as for `V`; `scores` is whole panels, and `seen` lies in them.
#[inline(always)]
unsafe fn weigh<V: Vector>(scores: &mut [f32], seen: Range<usize>, maximum: &mut f32, total: &mut f32) -> f32 {
    if seen.is_empty() {
        scores.fill(0.0);
        return 1.0;
    }
    // SAFETY: the caller promises that `seen` lies in the scores, and every vector does.
    unsafe {
        scores.get_unchecked_mut(..seen.start).fill(f32::NEG_INFINITY);
        scores.get_unchecked_mut(seen.end..).fill(f32::NEG_INFINITY);
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
