//! How a block of attention's rows passes over a panel of keys or of values: a few rows at a time share what they read of
//! it, so that sums stay in registers, and the panel stays in the first cache meanwhile. What they do with it is [`floats`]'
//! or [`whole`]'s. Must never know which positions a row sees.
//!
//! [`floats`]: super::floats
//! [`whole`]: super::whole

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
pub(crate) struct Rows {
    pub(super) d: usize,
    pub(super) count: usize,
    pub(super) q: [*const f32; ROWS],
    /// `[ROWS, SCORES]`: scores, then softmax numerators.
    pub(super) weights: *mut f32,
    /// `[ROWS, MAX_HEAD_DIM]`, of weighed values.
    pub(super) sums: *mut f32,
}

/// What rows do with panels stored in one form.
///
/// # Safety
/// Of all functions: the CPU as for `V`; there are `count` rows, and panels of their `d` in this form; `NV * V::LEN` divides
/// 32, `ALL * V::LEN` is 32.
pub(crate) trait Reading<V: Vector, const R: usize, const NV: usize, const ALL: usize> {
    /// Looks at the rows' queries.
    unsafe fn begin(&mut self, rows: &Rows);
    /// Scores of a panel's positions, times `scale`, to the rows' weights from `at` on; `ahead` is what is read next, if it
    /// is worth asking for.
    unsafe fn scores(&mut self, rows: &Rows, panel: &KvPanel<'_>, ahead: Option<Stored>, scale: f32, at: usize);
    /// Looks at a row's weights of the positions in these panels.
    unsafe fn weighed(&mut self, rows: &Rows, row: usize, panels: &[KvPanel<'_>]);
    /// Adds the weighed values of these panels to the rows' sums, of 32 elements.
    unsafe fn sums(&mut self, rows: &Rows, panels: &[KvPanel<'_>], part: Part<'_>);
}

/// 32 elements of the values of some panels.
#[derive(Clone, Copy)]
pub(crate) struct Part<'b> {
    /// Which.
    pub(super) dp: usize,
    /// Which are read next, if they are worth asking for.
    pub(super) next: Option<usize>,
    /// By what each row's sums shrink before.
    pub(super) keep: &'b [f32; ROWS],
    /// Positions that any row sees, from the first of these panels on.
    pub(super) left: usize,
}

/// What `R` rows from `row` on do with what is read, `N` vectors at a time.
pub(super) trait Tile<V: Vector> {
    /// # Safety
    /// The CPU as for `V`; there are `R` rows from `row` on; `N * V::LEN` divides 32.
    unsafe fn tile<const R: usize, const N: usize>(&self, row: usize);
}

/// All rows, `R` at a time and then fewer.
///
/// # Safety
/// The CPU as for `V`; there are `count` rows; `NV * V::LEN` divides 32, `ALL * V::LEN` is 32.
#[inline(always)]
pub(super) unsafe fn pass<V: Vector, const R: usize, const NV: usize, const ALL: usize>(
    count: usize,
    tile: &impl Tile<V>,
) {
    let mut row = 0;
    // SAFETY: each tile has no more rows than are left.
    unsafe {
        while row + R <= count {
            tile.tile::<R, NV>(row);
            row += R;
        }
        if R > 4 && row + 4 <= count {
            tile.tile::<4, NV>(row);
            row += 4;
        }
        if R > 2 && row + 2 <= count {
            tile.tile::<2, ALL>(row);
            row += 2;
        }
        if R > 1 && row < count {
            tile.tile::<1, ALL>(row);
        }
    }
}
