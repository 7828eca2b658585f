//! Keys and values in f32, read where they lie, and in bf16, made f32 a panel at a time; to the same bits with every vector.
//! Must never read what a panel has not.

use std::mem::MaybeUninit;

use half::bf16;

use crate::kernels::MAX_HEAD_DIM;
use crate::kv::{KvPanel, Stored};
use crate::panel::PANEL;
use crate::simd::Vector;

use super::tiles::{Part, Reading, Rows, SCORES, TOGETHER, Tile, pass};

/// Elements of 32 positions' values that are made f32 at a time.
const SQUARE: usize = PANEL * PANEL;

/// Keys of one panel, or a square of each of [`TOGETHER`].
const UNPACKED: usize = if MAX_HEAD_DIM > TOGETHER * PANEL { MAX_HEAD_DIM * PANEL } else { TOGETHER * SQUARE };

/// Memory for what is made f32.
pub(crate) struct Floats {
    unpacked: MaybeUninit<[f32; UNPACKED]>,
}

impl Floats {
    pub(crate) fn new() -> Self {
        Floats { unpacked: MaybeUninit::uninit() }
    }
}

impl<V: Vector, const R: usize, const NV: usize, const ALL: usize> Reading<V, R, NV, ALL> for Floats {
    #[inline(always)]
    unsafe fn begin(&mut self, _rows: &Rows) {}

    #[inline(always)]
    unsafe fn scores(&mut self, rows: &Rows, panel: &KvPanel<'_>, ahead: Option<Stored>, scale: f32, at: usize) {
        let unpacked = self.unpacked.as_mut_ptr().cast();
        // SAFETY: passed on to the caller; keys of MAX_HEAD_DIM elements have room.
        unsafe {
            let scores = Scores { rows, keys: keys::<V>(panel, unpacked), ahead, scale, at };
            pass::<V, R, NV, ALL>(rows.count, &scores);
        }
    }

    #[inline(always)]
    unsafe fn weighed(&mut self, _rows: &Rows, _row: usize, _panels: &[KvPanel<'_>]) {}

    #[inline(always)]
    unsafe fn sums(&mut self, rows: &Rows, panels: &[KvPanel<'_>], part: Part<'_>) {
        let unpacked: *mut f32 = self.unpacked.as_mut_ptr().cast();
        let mut slices = [unpacked.cast_const(); TOGETHER];
        // SAFETY: passed on to the caller; there are at most TOGETHER panels.
        unsafe {
            for (p, (slice, panel)) in slices.iter_mut().zip(panels).enumerate() {
                *slice = values::<V>(panel, part.dp, unpacked.add(p * SQUARE));
            }
            pass::<V, R, NV, ALL>(rows.count, &Sums { rows, panels, slices: &slices, part });
        }
    }
}

/// Scores of a panel's positions.
struct Scores<'b> {
    rows: &'b Rows,
    /// `[d, 32]`.
    keys: *const f32,
    /// What is read next, as it is stored, if it is worth asking for.
    ahead: Option<Stored>,
    scale: f32,
    /// Where they go in the rows' weights; `at + 32 <= SCORES`.
    at: usize,
}

impl<V: Vector> Tile<V> for Scores<'_> {
    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(&self, row: usize) {
        let mut q = [self.keys; R];
        // SAFETY: the rows are there, and so are 32 scores of each from `at` on.
        unsafe {
            for (r, q) in q.iter_mut().enumerate() {
                *q = *self.rows.q.get_unchecked(row + r);
            }
            for part in (0..PANEL).step_by(N * V::LEN) {
                let mut scores = [[V::splat(0.0); N]; R];
                let ahead = self.ahead.filter(|_| row == 0).map(|ahead| ahead.skip(part));
                accumulate::<V, R, N>(&mut scores, &q, self.keys.add(part), self.rows.d, ahead);
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
struct Sums<'b> {
    rows: &'b Rows,
    panels: &'b [KvPanel<'b>],
    /// `[32 positions, 32]` of each panel.
    slices: &'b [*const f32; TOGETHER],
    part: Part<'b>,
}

impl<V: Vector> Tile<V> for Sums<'_> {
    #[inline(always)]
    unsafe fn tile<const R: usize, const N: usize>(&self, row: usize) {
        // SAFETY: the rows are there, and so are 32 sums of each.
        unsafe {
            for part in (0..PANEL).step_by(N * V::LEN) {
                let to = self.rows.sums.add(row * MAX_HEAD_DIM + self.part.dp * PANEL + part);
                let mut acc = [[V::splat(0.0); N]; R];
                for (r, acc) in acc.iter_mut().enumerate() {
                    let keep = V::splat(*self.part.keep.get_unchecked(row + r));
                    for (v, acc) in acc.iter_mut().enumerate() {
                        *acc = V::load(to.add(r * MAX_HEAD_DIM + v * V::LEN)).mul(keep);
                    }
                }
                let mut weights = [self.rows.weights.cast_const(); R];
                for (r, weights) in weights.iter_mut().enumerate() {
                    *weights = weights.add((row + r) * SCORES);
                }
                let mut left = self.part.left;
                for (panel, slice) in self.panels.iter().zip(self.slices) {
                    let ahead = self.part.next.filter(|_| row == 0).map(|next| panel.values(next).skip(part));
                    accumulate::<V, R, N>(&mut acc, &weights, slice.add(part), left.min(PANEL), ahead);
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

/// `[d, 32]` of a panel's keys; in `to`, where they are not f32.
///
/// # Safety
/// The CPU as for `V`; `to` has room for them.
#[inline(always)]
unsafe fn keys<V: Vector>(panel: &KvPanel<'_>, to: *mut f32) -> *const f32 {
    // SAFETY: a panel's keys are rows of 32 numbers.
    unsafe {
        match panel {
            KvPanel::F32 { keys, .. } => return keys.as_ptr(),
            KvPanel::Bf16 { keys, .. } => unpack_bf16::<V>(keys, to),
            // These are read as whole numbers.
            KvPanel::Int8 { .. } => {}
        }
    }
    to
}

/// Elements 32 `dp` to 32 `dp + 31` of a panel's values, `[32 positions, 32]`; in `to`, where they are not f32.
///
/// # Safety
/// The CPU as for `V`; the panel has these elements, and `to` has room for them.
#[inline(always)]
unsafe fn values<V: Vector>(panel: &KvPanel<'_>, dp: usize, to: *mut f32) -> *const f32 {
    let range = dp * SQUARE..(dp + 1) * SQUARE;
    // SAFETY: by the caller's promise.
    unsafe {
        match panel {
            KvPanel::F32 { values, .. } => return values.get_unchecked(range).as_ptr(),
            KvPanel::Bf16 { values, .. } => unpack_bf16::<V>(values.get_unchecked(range), to),
            KvPanel::Int8 { .. } => {}
        }
    }
    to
}

/// # Safety
/// The CPU as for `V`; `numbers` are rows of 32, and `to` has room for them.
#[inline(always)]
unsafe fn unpack_bf16<V: Vector>(numbers: &[bf16], to: *mut f32) {
    for at in (0..numbers.len()).step_by(V::LEN) {
        // SAFETY: V::LEN divides 32; a bf16 is its bits.
        unsafe { V::load_bf16(numbers.as_ptr().add(at).cast()).store(to.add(at)) }
    }
}
