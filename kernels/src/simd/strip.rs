//! Integer and float vectors over the rows of a strip: one trait, one type per instruction set, as `Vector` is for the
//! f32 loops. Must never hold a loop over data.

/// [`Strip::LEN`] of the 16 rows of a strip, side by side.
///
/// # Safety
/// Every function may be called only on a CPU with the type's instruction set, and from a function compiled for it
/// (`#[target_feature]`), into which it inlines. Pointers must be valid for what the function reads; any alignment.
pub(crate) unsafe trait Strip {
    /// Rows; divides 16.
    const LEN: usize;
    /// What [`Strip::widen`] adds to each weight, and `dot_wide` must be freed of.
    const WIDE_BIAS: i32;
    /// An i32 for each row.
    type Ints: Copy;
    /// An f32 for each row.
    type Floats: Copy;
    /// Four bytes for each row.
    type Quants: Copy;

    /// All rows `value`.
    unsafe fn ints(value: i32) -> Self::Ints;
    /// Reads 4 * LEN bytes.
    unsafe fn quants(from: *const u8) -> Self::Quants;
    /// The low nibbles.
    unsafe fn low(quants: Self::Quants) -> Self::Quants;
    /// The high nibbles.
    unsafe fn high(quants: Self::Quants) -> Self::Quants;
    /// Signed bytes as `dot_wide` takes them.
    unsafe fn widen(quants: Self::Quants) -> Self::Quants;
    /// `sum + Σ w x` over four weights of 0 to 15 a row and the four bytes at `x`.
    unsafe fn dot(sum: Self::Ints, w: Self::Quants, x: *const i8) -> Self::Ints;
    /// `sum + Σ (w + WIDE_BIAS) x` over four widened weights a row; no byte at `x` is -128.
    unsafe fn dot_wide(sum: Self::Ints, w: Self::Quants, x: *const i8) -> Self::Ints;
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
