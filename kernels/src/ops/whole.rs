//! Keys and values in 8 bits, multiplied as whole numbers: queries and weights become 16 bits wide, the largest of a row
//! 32,767, so that two products and their sum take one instruction where f32 takes two. Next to the half steps by which
//! 8 bits are wrong that is nothing, and whole numbers are summed without any rounding. Must never let a sum outgrow 31
//! bits: 256 products of 32,767 and 127 fit.

use std::mem::MaybeUninit;

use crate::kernels::MAX_HEAD_DIM;
use crate::kv::{KvPanel, Stored};
use crate::panel::PANEL;
use crate::simd::Whole;

use super::tiles::{Part, ROWS, Reading, Rows, SCORES, Tile, pass};

const _: () = assert!(SCORES <= 256 && MAX_HEAD_DIM <= 256, "sums of products have 31 bits");

/// The rows' queries and weights as whole numbers, and what 1 is worth in each row.
pub(crate) struct WholeNumbers {
    queries: MaybeUninit<[[i16; MAX_HEAD_DIM]; ROWS]>,
    query_steps: [f32; ROWS],
    weights: MaybeUninit<[[i16; SCORES]; ROWS]>,
    weight_steps: [f32; ROWS],
}

impl WholeNumbers {
    pub(crate) fn new() -> Self {
        WholeNumbers {
            queries: MaybeUninit::uninit(),
            query_steps: [0.0; ROWS],
            weights: MaybeUninit::uninit(),
            weight_steps: [0.0; ROWS],
        }
    }
}

impl<V: Whole, const R: usize, const NV: usize, const ALL: usize> Reading<V, R, NV, ALL> for WholeNumbers {
    #[inline(always)]
    unsafe fn begin(&mut self, rows: &Rows) {
        let queries: *mut i16 = self.queries.as_mut_ptr().cast();
        let padded = rows.d.next_multiple_of(PANEL);
        let mut row = [0.0; MAX_HEAD_DIM];
        for (at, step) in self.query_steps.iter_mut().enumerate().take(rows.count) {
            // SAFETY: each row has d elements, at most MAX_HEAD_DIM; behind them are zeros.
            unsafe {
                let q = *rows.q.get_unchecked(at);
                q.copy_to_nonoverlapping(row.as_mut_ptr(), rows.d);
                *step = to_whole::<V>(row.get_unchecked(..padded), queries.add(at * MAX_HEAD_DIM));
            }
        }
    }

    #[inline(always)]
    unsafe fn scores(&mut self, rows: &Rows, panel: &KvPanel<'_>, ahead: Option<Stored>, scale: f32, at: usize) {
        // Others are read as floats.
        let KvPanel::Int8 { keys, scales: [steps, _], .. } = panel else { return };
        let (queries, query_steps) = (self.queries.as_ptr().cast(), &self.query_steps);
        let scores = Scores { rows, queries, query_steps, keys: keys.as_ptr(), steps, ahead, scale, at };
        // SAFETY: passed on to the caller.
        unsafe { pass::<V, R, NV, ALL>(rows.count, &scores) }
    }

    #[inline(always)]
    unsafe fn weighed(&mut self, rows: &Rows, row: usize, panels: &[KvPanel<'_>]) {
        // SAFETY: a row has SCORES weights, and there are not more panels than that.
        unsafe {
            let own = std::slice::from_raw_parts_mut(rows.weights.add(row * SCORES), panels.len() * PANEL);
            for (weights, panel) in own.as_chunks_mut::<PANEL>().0.iter_mut().zip(panels) {
                let KvPanel::Int8 { scales: [_, steps], .. } = panel else { continue };
                for at in (0..PANEL).step_by(V::LEN) {
                    let place = weights.as_mut_ptr().add(at);
                    V::load(place).mul(V::load(steps.as_ptr().add(at))).store(place);
                }
            }
            let to = self.weights.as_mut_ptr().cast::<i16>().add(row * SCORES);
            *self.weight_steps.get_unchecked_mut(row) = to_whole::<V>(own, to);
        }
    }

    #[inline(always)]
    unsafe fn sums(&mut self, rows: &Rows, panels: &[KvPanel<'_>], part: Part<'_>) {
        let (weights, weight_steps) = (self.weights.as_ptr().cast(), &self.weight_steps);
        // SAFETY: passed on to the caller.
        unsafe { pass::<V, R, NV, ALL>(rows.count, &Sums { rows, weights, weight_steps, panels, part }) }
    }
}

/// Scores of a panel's positions.
struct Scores<'b> {
    rows: &'b Rows,
    /// `[ROWS, MAX_HEAD_DIM]`.
    queries: *const i16,
    query_steps: &'b [f32; ROWS],
    keys: *const i8,
    /// Of the positions' keys.
    steps: &'b [f32; PANEL],
    ahead: Option<Stored>,
    scale: f32,
    /// Where they go in the rows' weights; `at + 32 <= SCORES`.
    at: usize,
}

impl<V: Whole> Tile<V> for Scores<'_> {
    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(&self, row: usize) {
        let pairs = self.rows.d.div_ceil(2);
        // SAFETY: the rows are there, and so are 32 scores of each from `at` on; a query of an odd length ends with a zero.
        unsafe {
            let queries = std::array::from_fn(|r| self.queries.wrapping_add((row + r) * MAX_HEAD_DIM));
            for part in (0..PANEL).step_by(N * V::LEN) {
                let mut sums = [[V::no_sums(); N]; R];
                let ahead = self.ahead.filter(|_| row == 0).map(|ahead| ahead.skip(2 * part));
                accumulate::<V, R, N>(&mut sums, &queries, self.keys.add(2 * part), pairs, ahead);
                for (r, sums) in sums.into_iter().enumerate() {
                    let step = V::splat(self.query_steps.get_unchecked(row + r) * self.scale);
                    let to = self.rows.weights.add((row + r) * SCORES + self.at + part);
                    for (v, sums) in sums.into_iter().enumerate() {
                        let steps = V::load(self.steps.as_ptr().add(part + v * V::LEN));
                        V::floats(sums).mul(steps).mul(step).store(to.add(v * V::LEN));
                    }
                }
            }
        }
    }
}

/// 32 elements of the weighed values of some panels.
struct Sums<'b> {
    rows: &'b Rows,
    /// `[ROWS, SCORES]`.
    weights: *const i16,
    weight_steps: &'b [f32; ROWS],
    panels: &'b [KvPanel<'b>],
    part: Part<'b>,
}

impl<V: Whole> Tile<V> for Sums<'_> {
    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(&self, row: usize) {
        let Part { dp, next, keep, left } = self.part;
        // SAFETY: the rows are there, and so are 32 sums of each; a position that nobody sees has the weight 0.
        unsafe {
            for part in (0..PANEL).step_by(N * V::LEN) {
                let mut sums = [[V::no_sums(); N]; R];
                for (p, panel) in self.panels.iter().enumerate() {
                    let KvPanel::Int8 { values, .. } = panel else { continue };
                    let values = values.as_ptr().add(dp * PANEL * PANEL + 2 * part);
                    let weights = std::array::from_fn(|r| self.weights.wrapping_add((row + r) * SCORES + p * PANEL));
                    let pairs = left.saturating_sub(p * PANEL).min(PANEL).div_ceil(2);
                    let ahead = next.filter(|_| row == 0).map(|next| panel.values(next).skip(2 * part));
                    accumulate::<V, R, N>(&mut sums, &weights, values, pairs, ahead);
                }
                for (r, sums) in sums.into_iter().enumerate() {
                    let keep = V::splat(*keep.get_unchecked(row + r));
                    let step = V::splat(*self.weight_steps.get_unchecked(row + r));
                    let to = self.rows.sums.add((row + r) * MAX_HEAD_DIM + dp * PANEL + part);
                    for (v, sums) in sums.into_iter().enumerate() {
                        let to = to.add(v * V::LEN);
                        V::floats(sums).mul_add(step, V::load(to).mul(keep)).store(to);
                    }
                }
            }
        }
    }
}

/// `sums[r] += Σ_i rows[r][i] * numbers[i]` over pairs of i, for `N` vectors of 32 places, from where `numbers` points on:
/// pairs of numbers lie together. Meanwhile as much of what lies `ahead` is fetched.
///
/// # Safety
/// The CPU as for `V`; each row has `pairs` pairs; `numbers` are `[pairs, 32, 2]`, and `N` vectors are left of the 32.
#[inline(always)]
unsafe fn accumulate<V: Whole, const R: usize, const N: usize>(
    sums: &mut [[V::Sums; N]; R],
    rows: &[*const i16; R],
    numbers: *const i8,
    pairs: usize,
    ahead: Option<Stored>,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        match ahead {
            Some(ahead) => {
                add_up::<V, R, N>(sums, rows, numbers, pairs, |i| ahead.skip(i * 2 * PANEL).fetch(2 * N * V::LEN))
            }
            None => add_up::<V, R, N>(sums, rows, numbers, pairs, |_| {}),
        }
    }
}

/// # Safety
/// As for [`accumulate`].
#[inline(always)]
unsafe fn add_up<V: Whole, const R: usize, const N: usize>(
    sums: &mut [[V::Sums; N]; R],
    rows: &[*const i16; R],
    numbers: *const i8,
    pairs: usize,
    meanwhile: impl Fn(usize),
) {
    for i in 0..pairs {
        meanwhile(i);
        // SAFETY: i < pairs bounds the rows and the numbers.
        unsafe {
            let inputs: [V::Pairs; N] =
                std::array::from_fn(|v| V::load_pairs(numbers.add((i * PANEL + v * V::LEN) * 2)));
            for (sums, row) in sums.iter_mut().zip(rows) {
                let pair = V::splat_pair(row.add(2 * i));
                for (sum, input) in sums.iter_mut().zip(inputs) {
                    *sum = V::add_products(*sum, pair, input);
                }
            }
        }
    }
}

/// `numbers` as whole ones, the largest 32,767, and what 1 is worth; where one is not finite, none is a number.
///
/// # Safety
/// The CPU as for `V`; `numbers` are whole panels, and `to` has room for as many.
#[inline(always)]
unsafe fn to_whole<V: Whole>(numbers: &[f32], to: *mut i16) -> f32 {
    let from = numbers.as_ptr();
    // SAFETY: V::LEN divides 32.
    unsafe {
        let (mut largest, mut clean) = (V::splat(0.0), V::splat(0.0));
        for at in (0..numbers.len()).step_by(V::LEN) {
            let own = V::load(from.add(at));
            largest = largest.max(own).max(V::splat(0.0).sub(own));
            // A maximum may lose NaN.
            clean = clean.add(own.mul(V::splat(0.0)));
        }
        let largest = largest.reduce_max();
        // Below, the quotient would be infinite.
        let inverse = V::splat(if largest < 1e-34 { 0.0 } else { 32_767.0 / largest });
        for at in (0..numbers.len()).step_by(V::LEN) {
            V::load(from.add(at)).mul(inverse).store_i16(to.add(at));
        }
        largest / 32_767.0 + clean.reduce_add()
    }
}
