//! What a block of attention's rows does with a panel of keys or of values. A few rows at a time share what they read of
//! it, so that sums stay in registers; the panel stays in the first cache while all rows pass over it. Must never know
//! which positions a row sees.

use crate::kernels::MAX_HEAD_DIM;
use crate::kv::{KvPanel, Stored};
use crate::panel::PANEL;
use crate::simd::Vector;

/// Panels whose scores are weighed together: the largest of 256 scores is looked for at once.
pub(super) const TOGETHER: usize = 8;

/// Scores of a row that are weighed together.
pub(super) const SCORES: usize = PANEL * TOGETHER;

/// Rows of a block: they pass over a panel before the next one is read.
pub(super) const ROWS: usize = 32;

/// Rows that share a key/value head.
pub(super) struct Rows {
    pub(super) d: usize,
    pub(super) count: usize,
    pub(super) q: [*const f32; ROWS],
    /// `[ROWS, SCORES]`: scores, then softmax numerators.
    pub(super) weights: *mut f32,
    /// `[ROWS, MAX_HEAD_DIM]`, of weighed values.
    pub(super) sums: *mut f32,
}

/// What `R` rows from `row` on do with what is read, `N` vectors at a time.
pub(super) trait Tile {
    /// # Safety
    /// The CPU as for `V`; there are `R` rows from `row` on; `N * V::LEN` divides 32.
    unsafe fn tile<V: Vector, const R: usize, const N: usize>(&self, row: usize);
}

/// All rows, `R` at a time and then fewer.
///
/// # Safety
/// The CPU as for `V`; there are `count` rows; `NV * V::LEN` divides 32, `ALL * V::LEN` is 32.
#[inline(always)]
pub(super) unsafe fn pass<V: Vector, const R: usize, const NV: usize, const ALL: usize>(
    count: usize,
    tile: &impl Tile,
) {
    let mut row = 0;
    // SAFETY: each tile has no more rows than are left.
    unsafe {
        while row + R <= count {
            tile.tile::<V, R, NV>(row);
            row += R;
        }
        if R > 4 && row + 4 <= count {
            tile.tile::<V, 4, NV>(row);
            row += 4;
        }
        if R > 2 && row + 2 <= count {
            tile.tile::<V, 2, ALL>(row);
            row += 2;
        }
        if R > 1 && row < count {
            tile.tile::<V, 1, ALL>(row);
        }
    }
}

/// Scores of a panel's positions.
pub(super) struct Scores<'b> {
    pub(super) rows: &'b Rows,
    /// `[d, 32]`.
    pub(super) keys: *const f32,
    /// What is read next, as it is stored, if it is worth asking for.
    pub(super) ahead: Option<Stored>,
    pub(super) scale: f32,
    /// Where they go in the rows' weights; `at + 32 <= SCORES`.
    pub(super) at: usize,
}

impl Tile for Scores<'_> {
    #[inline(always)]
    unsafe fn tile<V: Vector, const R: usize, const N: usize>(&self, row: usize) {
        let mut q = [self.keys; R];
        // SAFETY: the rows are there, and so are 32 scores of each from `at` on.
        unsafe {
            for (r, q) in q.iter_mut().enumerate() {
                *q = *self.rows.q.get_unchecked(row + r);
            }
            for part in (0..PANEL).step_by(N * V::LEN) {
                let mut scores = [[V::splat(0.0); N]; R];
                let ahead = self.ahead.filter(|_| row == 0).map(|ahead| ahead.skip(part));
                accumulate(&mut scores, &q, self.keys.add(part), self.rows.d, ahead);
                for (r, scores) in scores.iter().enumerate() {
                    let to = self.rows.weights.add((row + r) * SCORES + self.at + part);
                    for (v, score) in scores.iter().enumerate() {
                        score.mul(V::splat(self.scale)).store(to.add(v * V::LEN));
                    }
                }
            }
        }
    }
}

/// 32 elements of the weighed values of some panels.
pub(super) struct Sums<'b> {
    pub(super) rows: &'b Rows,
    pub(super) panels: &'b [KvPanel<'b>],
    /// `[32 positions, 32]` of each panel.
    pub(super) slices: &'b [*const f32; TOGETHER],
    /// Which 32 elements are read next, if they are worth asking for.
    pub(super) next: Option<usize>,
    /// By what each row's sums shrink before.
    pub(super) keep: &'b [f32; ROWS],
    /// Positions that any row sees, from the first of these panels on.
    pub(super) left: usize,
    /// Where they go in the rows' sums; `at + 32 <= MAX_HEAD_DIM`.
    pub(super) at: usize,
}

impl Tile for Sums<'_> {
    #[inline(always)]
    unsafe fn tile<V: Vector, const R: usize, const N: usize>(&self, row: usize) {
        // SAFETY: the rows are there, and so are 32 sums of each from `at` on.
        unsafe {
            for part in (0..PANEL).step_by(N * V::LEN) {
                let to = self.rows.sums.add(row * MAX_HEAD_DIM + self.at + part);
                let mut acc = [[V::splat(0.0); N]; R];
                for (r, acc) in acc.iter_mut().enumerate() {
                    let keep = V::splat(*self.keep.get_unchecked(row + r));
                    for (v, acc) in acc.iter_mut().enumerate() {
                        *acc = V::load(to.add(r * MAX_HEAD_DIM + v * V::LEN)).mul(keep);
                    }
                }
                let mut weights = [self.rows.weights.cast_const(); R];
                for (r, weights) in weights.iter_mut().enumerate() {
                    *weights = weights.add((row + r) * SCORES);
                }
                let mut left = self.left;
                for (panel, slice) in self.panels.iter().zip(self.slices) {
                    let ahead = self.next.filter(|_| row == 0).map(|next| panel.values(next).skip(part));
                    accumulate(&mut acc, &weights, slice.add(part), left.min(PANEL), ahead);
                    left = left.saturating_sub(PANEL);
                    for weights in &mut weights {
                        *weights = weights.add(PANEL);
                    }
                }
                for (r, acc) in acc.iter().enumerate() {
                    for (v, acc) in acc.iter().enumerate() {
                        acc.store(to.add(r * MAX_HEAD_DIM + v * V::LEN));
                    }
                }
            }
        }
    }
}

/// `acc[r] += Σ_i rows[r][i] * panel[i]`, i ascending, for `NV` vectors of a panel's 32 numbers, from where `panel` points
/// on. Meanwhile as much of what lies `ahead` is fetched.
///
/// # Safety
/// The CPU as for `V`; each row has `k` elements; the panel is `[k, 32]`, and `NV` vectors are left of its 32.
#[inline(always)]
unsafe fn accumulate<V: Vector, const R: usize, const NV: usize>(
    acc: &mut [[V; NV]; R],
    rows: &[*const f32; R],
    panel: *const f32,
    k: usize,
    ahead: Option<Stored>,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        match ahead {
            Some(ahead) => add_up(acc, rows, panel, k, |i| ahead.skip(i * PANEL).fetch(NV * V::LEN)),
            None => add_up(acc, rows, panel, k, |_| {}),
        }
    }
}

/// # Safety
/// As for [`accumulate`].
#[inline(always)]
unsafe fn add_up<V: Vector, const R: usize, const NV: usize>(
    acc: &mut [[V; NV]; R],
    rows: &[*const f32; R],
    panel: *const f32,
    k: usize,
    meanwhile: impl Fn(usize),
) {
    // SAFETY: i < k bounds the rows, k * 32 bounds the panel.
    unsafe {
        let mut numbers = panel;
        for i in 0..k {
            meanwhile(i);
            let mut outputs = [V::splat(0.0); NV];
            for (v, output) in outputs.iter_mut().enumerate() {
                *output = V::load(numbers.add(v * V::LEN));
            }
            for (acc, row) in acc.iter_mut().zip(rows) {
                let input = V::splat(*row.add(i));
                for (sum, output) in acc.iter_mut().zip(outputs) {
                    *sum = input.mul_add(output, *sum);
                }
            }
            numbers = numbers.add(PANEL);
        }
    }
}
