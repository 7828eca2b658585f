//! Attention of query rows over a long prefix, by online softmax: keys are walked once, 256 positions at a time, with a
//! running maximum and sum per row (Milakov and Gimelshein 2018, arXiv:1805.02867), and spans of 1,024 are summed apart and
//! joined, so that threads may share a prefix. All tile from position 0: a row adds in the same order whichever rows walk
//! with it, whoever walks, and however the prefix was fed.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::kernels::{AttentionShape, MAX_HEAD_DIM, Visible};
use crate::kv::KvPanel;
use crate::panel::PANEL;
use crate::simd::{Vector, exp};

use super::tiles::{Part, ROWS, Reading, Rows, SCORES, TOGETHER};

/// Positions that are summed apart; under Miri few, or it would take minutes to see two spans.
pub(crate) const SPAN: usize = if cfg!(miri) { SCORES } else { 4 * SCORES };

/// Queries and results in memory: of a token all heads side by side, tokens so many elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub(crate) q: *const f32,
    pub(crate) q_stride: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    /// From one head's result to the next.
    pub(crate) out_head: usize,
}

/// What goes with a row's sums of weighed values.
#[derive(Clone, Copy)]
pub(crate) struct Weighed {
    /// The largest score; weights are relative to it.
    maximum: f32,
    /// Sum of the weights: 0 where nothing was seen.
    total: f32,
}

impl Weighed {
    pub(crate) const NOTHING: Weighed = Weighed { maximum: f32::NEG_INFINITY, total: 0.0 };

    /// A row as [`attention`] leaves it of one span: its sums, and this.
    pub(crate) fn split(row: &[f32]) -> (&[f32], Weighed) {
        match row {
            [sums @ .., maximum, total] => (sums, Weighed { maximum: *maximum, total: *total }),
            _ => (&[], Weighed::NOTHING),
        }
    }
}

/// Adds what was summed over the following positions to `sums`.
pub(crate) fn join(sums: &mut [f32], own: &mut Weighed, next: &[f32], of_next: Weighed) {
    if of_next.total == 0.0 {
        return;
    }
    if own.total == 0.0 {
        sums.copy_from_slice(next);
        *own = of_next;
        return;
    }
    let maximum = own.maximum.max(of_next.maximum);
    // Equal ones may be infinite.
    let factor = |before: f32| if before == maximum { 1.0 } else { (before - maximum).exp() };
    let (keep, take) = (factor(own.maximum), factor(of_next.maximum));
    for (sum, next) in sums.iter_mut().zip(next) {
        *sum = *sum * keep + *next * take;
    }
    *own = Weighed { maximum, total: own.total * keep + of_next.total * take };
}

/// The row's result.
pub(crate) fn finish(sums: &mut [f32], own: Weighed) {
    for sum in sums {
        *sum /= own.total;
    }
}

/// Memory of a block of rows.
struct Memory {
    weights: [[f32; SCORES]; ROWS],
    sums: [[f32; MAX_HEAD_DIM]; ROWS],
    joined: [[f32; MAX_HEAD_DIM]; ROWS],
}

/// All rows of one lane. A row is one head of one token. `R` rows share what is read of a panel, `NV` vectors of it at a
/// time; where no more than two are left, `ALL`. `reading` is that of the form the panels are stored in. With `only`, a
/// span's number, each result is a row for [`Weighed::split`] over that span.
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
    only: Option<usize>,
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
                reading.begin(&own);
                let seen = Seen { ends: &seen, window, reach: reach(seen.get_unchecked(..count), window) };
                let spans = only.map_or_else(|| spans(&seen.reach), |span| span..span + 1);
                let is_whole = spans.len() == 1;
                let joined: *mut f32 = (&raw mut (*memory).joined).cast();
                let mut all = [Weighed::NOTHING; ROWS];
                if !is_whole {
                    joined.write_bytes(0, count * MAX_HEAD_DIM);
                }
                for span in spans {
                    let weighed = attend(reading, &own, &seen, panels, span);
                    if is_whole {
                        all = weighed;
                        continue;
                    }
                    for (row, (all, weighed)) in all.iter_mut().zip(weighed).take(count).enumerate() {
                        let at = |of: *mut f32| std::slice::from_raw_parts_mut(of.add(row * MAX_HEAD_DIM), head_dim);
                        join(at(joined), all, at(own.sums), weighed);
                    }
                }
                for (row, all) in all.into_iter().take(count).enumerate() {
                    let (token, head) = locate(row);
                    let to = places.out.add(token * places.out_stride + head * places.out_head);
                    let from = if is_whole { own.sums } else { joined };
                    from.add(row * MAX_HEAD_DIM).copy_to_nonoverlapping(to, head_dim);
                    if only.is_some() {
                        *to.add(head_dim) = all.maximum;
                        *to.add(head_dim + 1) = all.total;
                    } else {
                        finish(std::slice::from_raw_parts_mut(to, head_dim), all);
                    }
                }
            }
        }
    }
}

/// What the rows of a block see.
struct Seen<'b> {
    ends: &'b [usize; ROWS],
    window: usize,
    reach: Range<usize>,
}

/// From the first position that one of these sees to the last.
pub(crate) fn reach(ends: &[usize], window: usize) -> Range<usize> {
    let (mut nearest, mut furthest) = (usize::MAX, 0);
    for end in ends {
        (nearest, furthest) = (nearest.min(end.saturating_sub(window)), furthest.max(*end));
    }
    nearest.min(furthest)..furthest
}

/// The spans of these positions.
pub(crate) fn spans(reach: &Range<usize>) -> Range<usize> {
    reach.start / SPAN..reach.end.div_ceil(SPAN)
}

/// Leaves the rows' sums of weighed values of a span, and returns what goes with them.
///
/// # Safety
/// As for [`attention`].
#[inline(always)]
unsafe fn attend<V: Vector, const R: usize, const NV: usize, const ALL: usize>(
    reading: &mut impl Reading<V, R, NV, ALL>,
    rows: &Rows,
    seen: &Seen<'_>,
    panels: &[KvPanel<'_>],
    span: usize,
) -> [Weighed; ROWS] {
    let Seen { ends, window, reach: Range { start: nearest, end: furthest } } = *seen;
    let d_panels = rows.d.div_ceil(PANEL);
    let scale = 1.0 / (rows.d as f32).sqrt();
    let (mut weighed, mut keep) = ([Weighed::NOTHING; ROWS], [1.0; ROWS]);
    // A short prefix is in the caches.
    let is_long = furthest > SCORES;
    // SAFETY: rows are below `count`, panels below their number, and d_panels * 32 is at most MAX_HEAD_DIM.
    unsafe {
        for row in 0..rows.count {
            rows.sums.add(row * MAX_HEAD_DIM).write_bytes(0, d_panels * PANEL);
        }
        let chunks = panels.get_unchecked(..furthest.div_ceil(PANEL)).chunks(TOGETHER);
        // What nobody sees would change nothing.
        let first = (span * SPAN).max(nearest) / SCORES;
        let last = (span + 1) * SPAN / SCORES;
        for (chunk, panels) in chunks.enumerate().take(last).skip(first) {
            let start = chunk * SCORES;
            for (p, panel) in panels.iter().enumerate() {
                let ahead = panels.get(p + 1).filter(|_| is_long).map(|next| next.keys());
                reading.scores(rows, panel, ahead, scale, p * PANEL);
            }
            let whole = panels.len() * PANEL;
            for row in 0..rows.count {
                let end = *ends.get_unchecked(row);
                let inside = |position: usize| position.saturating_sub(start).min(whole);
                let range = inside(end.saturating_sub(window))..inside(end);
                // The first `whole` were written just now.
                let own = std::slice::from_raw_parts_mut(rows.weights.add(row * SCORES), whole);
                *keep.get_unchecked_mut(row) = weigh::<V>(own, range, weighed.get_unchecked_mut(row));
                reading.weighed(rows, row, panels);
            }
            for dp in 0..d_panels {
                let next = Some(dp + 1).filter(|next| is_long && *next < d_panels);
                reading.sums(rows, panels, Part { dp, next, keep: &keep, left: furthest - start });
            }
        }
    }
    weighed
}

/// Turns one row's scores, of which those in `seen` count, into softmax numerators; moves the row's running maximum and
/// total along and returns the factor by which what was summed before must shrink.
///
/// # Safety
/// The CPU as for `V`; `scores` is whole panels, and `seen` lies in them.
#[inline(always)]
unsafe fn weigh<V: Vector>(scores: &mut [f32], seen: Range<usize>, before: &mut Weighed) -> f32 {
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
        let maximum = before.maximum.max(largest.reduce_max());
        let maxima = V::splat(maximum);
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
        if before.maximum != maximum {
            let mut factors = [0.0f32; PANEL];
            exp(V::splat(before.maximum - maximum)).store(factors.as_mut_ptr());
            [keep, ..] = factors;
        }
        *before = Weighed { maximum, total: before.total * keep + sum.reduce_add() };
        keep
    }
}
