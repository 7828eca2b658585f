//! One strip of packed weights times all rows of activations. Written once over [`Strip`] and instantiated per
//! instruction set by `packed::registry`. An output is one chain over ascending blocks,
//! whatever the tile: its own row decides its value.

use super::fetch;
use crate::packed::{BLOCK, Format, GROUP, STRIP, View};
use crate::simd::strip::Strip;

/// 16 products of each row of `x` with the strip, the rows' `stride` elements apart at `out`; `T` rows share what was
/// unpacked. Meanwhile the memory at `ahead`, as long as the strip, is fetched.
///
/// # Safety
/// The CPU as for `S`; `strip` has `groups` groups of `format` and its header; `x` was filled for that format and at
/// least `groups` groups; `out` takes 16 elements `stride` after `stride`, for each row. `ahead` may point anywhere.
#[inline(always)]
pub(crate) unsafe fn strip<S: Strip, const T: usize>(
    format: Format,
    strip: *const u8,
    groups: usize,
    x: &View,
    ahead: *const u8,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        match format {
            Format::Q4 => rows::<S, Q4, T>(strip, groups, x, ahead, out, stride),
            Format::Q4m => rows::<S, Q4m, T>(strip, groups, x, ahead, out, stride),
            Format::Q4h => rows::<S, Q4h, T>(strip, groups, x, ahead, out, stride),
            Format::Q8 => rows::<S, Q8, T>(strip, groups, x, ahead, out, stride),
            Format::Bf16 => rows::<S, Bf16, T>(strip, groups, x, ahead, out, stride),
        }
    }
}

/// All rows in tiles of `T`, and one tile for the rest: a walk over the weights for every `T` rows, none for less.
///
/// # Safety
/// As for [`strip`].
#[inline(always)]
unsafe fn rows<S: Strip, F: Block, const T: usize>(
    strip: *const u8,
    groups: usize,
    x: &View,
    ahead: *const u8,
    out: *mut f32,
    stride: usize,
) {
    let mut row = 0;
    let mut ahead = ahead;
    // SAFETY: every tile starts at a row with at least its own number of rows left.
    unsafe {
        while row < x.rows {
            let to = out.add(row * stride);
            // A tile wider than `T` is never made, but the compiler is to see that.
            row += match (x.rows - row).min(T) {
                7 if T > 7 => tile::<S, F, 7>(strip, groups, x, row, ahead, to, stride),
                6 if T > 6 => tile::<S, F, 6>(strip, groups, x, row, ahead, to, stride),
                5 if T > 5 => tile::<S, F, 5>(strip, groups, x, row, ahead, to, stride),
                4 if T > 4 => tile::<S, F, 4>(strip, groups, x, row, ahead, to, stride),
                3 if T > 3 => tile::<S, F, 3>(strip, groups, x, row, ahead, to, stride),
                2 if T > 2 => tile::<S, F, 2>(strip, groups, x, row, ahead, to, stride),
                1 if T > 1 => tile::<S, F, 1>(strip, groups, x, row, ahead, to, stride),
                _ => tile::<S, F, T>(strip, groups, x, row, ahead, to, stride),
            };
            // One walk is enough to fetch what comes.
            ahead = std::ptr::null();
        }
    }
}

/// `T` rows from `row` on; gives `T`.
///
/// # Safety
/// As for [`strip`]; `row + T <= x.rows`; `out` is where row `row` goes.
#[inline(always)]
unsafe fn tile<S: Strip, F: Block, const T: usize>(
    strip: *const u8,
    groups: usize,
    x: &View,
    row: usize,
    ahead: *const u8,
    out: *mut f32,
    stride: usize,
) -> usize {
    // SAFETY: parts of LEN rows make the strip's 16.
    unsafe {
        let (first, step) = x.walk(row);
        let mut part = 0;
        while part < STRIP {
            let mut sums = [S::splat(0.0); T];
            let mut group = strip.add(F::HEADER);
            let mut next = ahead;
            let mut cell = first;
            for g in 0..groups {
                if part == 0 && !ahead.is_null() {
                    fetch(next, F::BYTES);
                    next = next.wrapping_add(F::BYTES);
                    if g + AGAIN < groups {
                        fetch(group.wrapping_add(AGAIN * F::BYTES), F::BYTES);
                    }
                }
                for block in 0..GROUP / BLOCK {
                    F::add::<S, T>(&mut sums, strip, group, block, part, x, cell);
                    cell += step;
                }
                group = group.add(F::BYTES);
            }
            for (t, sum) in sums.iter().enumerate() {
                S::store(*sum, out.add(t * stride + part));
            }
            part += S::LEN;
        }
    }
    T
}

/// How many groups before its use memory is asked for a second time: a CPU forgets such requests when too many wait.
const AGAIN: usize = 12;

/// What a format does with one block of 32 inputs.
trait Block {
    /// Bytes in front of the groups.
    const HEADER: usize;
    /// Bytes of a group.
    const BYTES: usize;

    /// Adds the products of block `block` of `group` with `T` rows of `x` from `cell` on, for the rows of the strip from
    /// `part` on.
    ///
    /// # Safety
    /// As for [`tile`].
    unsafe fn add<S: Strip, const T: usize>(
        sums: &mut [S::Floats; T],
        strip: *const u8,
        group: *const u8,
        block: usize,
        part: usize,
        x: &View,
        cell: usize,
    );
}

/// The products of the block of nibbles at `at`, which begin with these offsets. Piece by piece for all rows: neighbouring
/// instructions then belong to different chains, and a CPU that looks ahead finds work.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn nibbles<S: Strip, const T: usize>(
    offsets: [i32; T],
    at: *const u8,
    part: usize,
    quants: *const i8,
) -> [S::Ints; T] {
    // SAFETY: four pieces of 64 bytes per block; the cells of T rows lie side by side.
    unsafe {
        let mut dots = [S::begin(0); T];
        for (dot, offset) in dots.iter_mut().zip(offsets) {
            *dot = S::begin(offset);
        }
        let at = at.add(part * 4);
        for piece in 0..4 {
            let weights = S::quants(at.add(piece * 64));
            for (half, weights) in [S::low(weights), S::high(weights)].into_iter().enumerate() {
                for (t, dot) in dots.iter_mut().enumerate() {
                    *dot = S::dot(*dot, weights, quants.add(t * BLOCK + piece * 8 + half * 4));
                }
            }
        }
        let mut ints = [S::ints(0); T];
        for (int, dot) in ints.iter_mut().zip(dots) {
            *int = S::end(dot);
        }
        ints
    }
}

/// Adds a block's integer products to the sums, each times the weights' scale and its own row's.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn scaled<S: Strip, const T: usize>(
    sums: &mut [S::Floats; T],
    ints: [S::Ints; T],
    scales: S::Floats,
    x: &View,
    cell: usize,
) {
    for (t, (sum, int)) in sums.iter_mut().zip(ints).enumerate() {
        // SAFETY: the cells of T rows lie side by side; passed on to the caller.
        *sum = unsafe { S::mul_add(S::floats(int), S::mul(scales, S::splat(*x.scales.add(cell + t))), *sum) };
    }
}

struct Q4;

impl Block for Q4 {
    const HEADER: usize = 0;
    const BYTES: usize = 576;

    #[inline(always)]
    unsafe fn add<S: Strip, const T: usize>(
        sums: &mut [S::Floats; T],
        _strip: *const u8,
        group: *const u8,
        block: usize,
        part: usize,
        x: &View,
        cell: usize,
    ) {
        // SAFETY: the cells of T rows lie side by side; passed on to the caller.
        unsafe {
            let scales = S::halves(group.add(block * 32 + part * 2));
            let offsets = x.offsets.add(cell).cast::<[i32; T]>().read();
            let ints = nibbles::<S, T>(offsets, group.add(64 + block * 256), part, x.quants.add(cell * BLOCK));
            scaled::<S, T>(sums, ints, scales, x, cell);
        }
    }
}

struct Q4m;

impl Block for Q4m {
    const HEADER: usize = 128;
    const BYTES: usize = 576;

    #[inline(always)]
    unsafe fn add<S: Strip, const T: usize>(
        sums: &mut [S::Floats; T],
        strip: *const u8,
        group: *const u8,
        block: usize,
        part: usize,
        x: &View,
        cell: usize,
    ) {
        // SAFETY: the cells of T rows lie side by side; passed on to the caller.
        unsafe {
            let small = group.add(block * 32 + part);
            let row_scales = strip.cast::<f32>().add(part);
            let scales = S::mul(S::bytes(small), S::load(row_scales));
            let minima = S::mul(S::bytes(small.add(STRIP)), S::load(row_scales.add(STRIP)));
            let ints = nibbles::<S, T>([0; T], group.add(64 + block * 256), part, x.quants.add(cell * BLOCK));
            scaled::<S, T>(sums, ints, scales, x, cell);
            for (t, sum) in sums.iter_mut().enumerate() {
                *sum = S::mul_add(minima, S::splat(-*x.sums.add(cell + t)), *sum);
            }
        }
    }
}

struct Q4h;

impl Block for Q4h {
    const HEADER: usize = 0;
    const BYTES: usize = 640;

    #[inline(always)]
    unsafe fn add<S: Strip, const T: usize>(
        sums: &mut [S::Floats; T],
        _strip: *const u8,
        group: *const u8,
        block: usize,
        part: usize,
        x: &View,
        cell: usize,
    ) {
        // SAFETY: the cells of T rows lie side by side; passed on to the caller.
        unsafe {
            let scales = S::halves(group.add(block * 32 + part * 2));
            let ints = nibbles::<S, T>([0; T], group.add(128 + block * 256), part, x.quants.add(cell * BLOCK));
            scaled::<S, T>(sums, ints, scales, x, cell);
            let minima = S::halves(group.add(64 + block * 32 + part * 2));
            for (t, sum) in sums.iter_mut().enumerate() {
                *sum = S::mul_add(minima, S::splat(*x.sums.add(cell + t)), *sum);
            }
        }
    }
}

struct Q8;

impl Block for Q8 {
    const HEADER: usize = 0;
    const BYTES: usize = 1088;

    #[inline(always)]
    unsafe fn add<S: Strip, const T: usize>(
        sums: &mut [S::Floats; T],
        _strip: *const u8,
        group: *const u8,
        block: usize,
        part: usize,
        x: &View,
        cell: usize,
    ) {
        // SAFETY: eight pieces of 64 bytes per block; the cells of T rows lie side by side.
        unsafe {
            let scales = S::halves(group.add(block * 32 + part * 2));
            let at = group.add(64 + block * 512 + part * 4);
            let quants = x.quants.add(cell * BLOCK);
            let mut ints = [S::ints(0); T];
            for (t, int) in ints.iter_mut().enumerate() {
                *int = S::begin_wide(*x.offsets.add(cell + t));
            }
            for j in 0..8 {
                let weights = S::widen(S::quants(at.add(j * 64)));
                for (t, int) in ints.iter_mut().enumerate() {
                    *int = S::dot_wide(*int, weights, quants.add(t * BLOCK + j * 4));
                }
            }
            scaled::<S, T>(sums, ints, scales, x, cell);
        }
    }
}

struct Bf16;

impl Block for Bf16 {
    const HEADER: usize = 0;
    const BYTES: usize = 2048;

    #[inline(always)]
    unsafe fn add<S: Strip, const T: usize>(
        sums: &mut [S::Floats; T],
        _strip: *const u8,
        group: *const u8,
        block: usize,
        part: usize,
        x: &View,
        cell: usize,
    ) {
        // SAFETY: sixteen pieces of 64 bytes per block; the cells of T rows lie side by side.
        unsafe {
            let mut at = group.add(block * 1024 + part * 4);
            let mut numbers = x.exact.add(cell * BLOCK);
            for _ in 0..BLOCK / 2 {
                let pairs = S::quants(at);
                let (even, odd) = (S::even(pairs), S::odd(pairs));
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = S::mul_add(even, S::splat(*numbers.add(t * BLOCK)), *sum);
                    *sum = S::mul_add(odd, S::splat(*numbers.add(t * BLOCK + 1)), *sum);
                }
                at = at.add(64);
                numbers = numbers.add(2);
            }
        }
    }
}
