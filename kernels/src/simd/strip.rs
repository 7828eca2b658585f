//! Integer and float vectors over the rows of a strip: one trait, one type per instruction set, as `Vector` is for the
//! f32 loops. Must never hold a loop over data.

use crate::packed::BLOCK;

/// [`Strip::LEN`] of the 16 rows of a strip, side by side.
///
/// # Safety
/// Every function may be called only on a CPU with the type's instruction set, and from a function compiled for it
/// (`#[target_feature]`), into which it inlines. Pointers must be valid for what the function reads; any alignment.
pub(crate) unsafe trait Strip {
    /// Rows; divides 16.
    const LEN: usize;
    /// An i32 for each row.
    type Ints: Copy;
    /// An f32 for each row.
    type Floats: Copy;
    /// Four bytes for each row.
    type Quants: Copy;
    /// What [`Strip::dot`] adds up for each row, within a block.
    type Dots: Copy;
    /// Four signed bytes for each row, as [`Strip::dot_wide`] wants them.
    type Wide: Copy;

    /// All rows `value`.
    unsafe fn ints(value: i32) -> Self::Ints;
    /// Reads 4 * LEN bytes.
    unsafe fn quants(from: *const u8) -> Self::Quants;
    /// The low nibbles.
    unsafe fn low(quants: Self::Quants) -> Self::Quants;
    /// The high nibbles.
    unsafe fn high(quants: Self::Quants) -> Self::Quants;
    /// Signed bytes.
    unsafe fn widen(quants: Self::Quants) -> Self::Wide;
    /// What a block of activations gives to begin with: nibbles are 8 too large, so -8 Σ x, as `begin` takes it.
    unsafe fn offset(x: &[i32; BLOCK]) -> i32;
    /// A sum that begins with an `offset`, or 0.
    unsafe fn begin(offset: i32) -> Self::Dots;
    /// `dots + Σ w x` over four weights a row, of 0 to 15, and the four bytes at `x`, none of which is -128. At most eight
    /// times between `begin` and `end`: so many fit 16 bits.
    unsafe fn dot(dots: Self::Dots, w: Self::Quants, x: *const i8) -> Self::Dots;
    /// The sum.
    unsafe fn end(dots: Self::Dots) -> Self::Ints;
    /// As `begin`, for [`Strip::dot_wide`].
    unsafe fn begin_wide(offset: i32) -> Self::Ints;
    /// As `dot`, over signed bytes.
    unsafe fn dot_wide(sum: Self::Ints, w: Self::Wide, x: *const i8) -> Self::Ints;
    /// Rounded to f32.
    unsafe fn floats(ints: Self::Ints) -> Self::Floats;
    /// All rows `value`.
    unsafe fn splat(value: f32) -> Self::Floats;
    /// Reads LEN f32.
    unsafe fn load(from: *const f32) -> Self::Floats;
    /// Writes LEN f32.
    unsafe fn store(floats: Self::Floats, to: *mut f32);
    /// Reads LEN f16.
    unsafe fn halves(from: *const u8) -> Self::Floats;
    /// Reads LEN unsigned bytes.
    unsafe fn bytes(from: *const u8) -> Self::Floats;
    /// The first bf16 of each row's pair.
    unsafe fn even(pairs: Self::Quants) -> Self::Floats;
    /// The second bf16 of each row's pair.
    unsafe fn odd(pairs: Self::Quants) -> Self::Floats;
    /// `a * b`.
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`; rounded once where the CPU can.
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
}

/// The `offset` of a strip that has two sums of 16 bits for each row: two halves. Each of them fits with its share of the
/// products, whatever overflows on the way.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn offset_of_pairs(x: &[i32; BLOCK]) -> i32 {
    let (mut low, mut high) = (0, 0);
    for four in x.as_chunks::<4>().0 {
        low -= 8 * (four[0] + four[1]);
        high -= 8 * (four[2] + four[3]);
    }
    (high << 16) | (low & 0xffff)
}

/// The sums of a CPU that adds products of bytes to 32 bits at once: they are its integers from the start. `widen` adds
/// `bias`.
macro_rules! dots_are_ints {
    (bias $bias:literal) => {
        type Dots = Self::Ints;
        type Wide = Self::Quants;

        #[inline(always)]
        unsafe fn offset(x: &[i32; BLOCK]) -> i32 {
            -8 * x.iter().sum::<i32>()
        }
        #[inline(always)]
        unsafe fn begin(offset: i32) -> Self::Ints {
            // SAFETY: passed on to the caller.
            unsafe { Self::ints(offset) }
        }
        #[inline(always)]
        unsafe fn end(dots: Self::Ints) -> Self::Ints {
            dots
        }
        #[inline(always)]
        unsafe fn begin_wide(offset: i32) -> Self::Ints {
            // SAFETY: passed on to the caller.
            unsafe { Self::ints(offset * ($bias / 8)) }
        }
        #[inline(always)]
        unsafe fn dot_wide(sum: Self::Ints, w: Self::Wide, x: *const i8) -> Self::Ints {
            // SAFETY: passed on to the caller.
            unsafe { Self::dot(sum, w, x) }
        }
    };
}
pub(crate) use dots_are_ints;
