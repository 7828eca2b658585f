//! Vectors of f32: one trait, one type per instruction set. The loops in `ops` are written once over the trait and
//! instantiated per type in `registry`. Must never hold a loop over data.

pub(crate) mod portable;
pub(crate) mod strip;
#[cfg(target_arch = "aarch64")]
pub(crate) mod strip_neon;
pub(crate) mod strip_portable;
#[cfg(target_arch = "x86_64")]
pub(crate) mod strip_sse;
#[cfg(target_arch = "x86_64")]
pub(crate) mod strip_x86;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

/// A vector of [`Vector::LEN`] f32.
///
/// # Safety
/// Every function may be called only on a CPU with the type's instruction set, and from a function compiled for it
/// (`#[target_feature]`), into which it inlines. Pointers must be valid for `LEN` reads or writes; any alignment.
pub(crate) unsafe trait Vector: Copy {
    /// Elements; divides 32.
    const LEN: usize;
    /// All elements `value`.
    unsafe fn splat(value: f32) -> Self;
    /// Reads `LEN` elements.
    unsafe fn load(from: *const f32) -> Self;
    /// Reads the bits of `LEN` bf16.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// Writes `LEN` elements.
    unsafe fn store(self, to: *mut f32);
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * other`.
    unsafe fn mul(self, other: Self) -> Self;
    /// `self / other`.
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + addend`; rounded once where the CPU can.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The larger; where `self` is NaN, NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// To the nearest integer.
    unsafe fn round(self) -> Self;
    /// `2^self` for integers in [-126, 127].
    unsafe fn exp2_integer(self) -> Self;
    /// 0 where `key < limit`, else `self` (also where `key` is NaN).
    unsafe fn zero_where_below(self, key: Self, limit: f32) -> Self;
    /// Sum of the elements, in an order that depends on the type only.
    unsafe fn reduce_add(self) -> f32;
    /// Largest element; NaN may be lost.
    unsafe fn reduce_max(self) -> f32;
}

/// Whole numbers, [`Vector::LEN`] sums of products at a time.
///
/// # Safety
/// As for [`Vector`]; a sum must not outgrow 31 bits.
pub(crate) unsafe trait Whole: Vector {
    /// `LEN` sums.
    type Sums: Copy;
    /// `LEN` pairs of 16 bits each.
    type Pairs: Copy;
    /// Sums of nothing.
    unsafe fn no_sums() -> Self::Sums;
    /// Reads `LEN` pairs of 8 bits each.
    unsafe fn load_pairs(from: *const i8) -> Self::Pairs;
    /// Reads a pair of 16 bits each: all pairs are this one.
    unsafe fn splat_pair(from: *const i16) -> Self::Pairs;
    /// `sums + a.0 * b.0 + a.1 * b.1`.
    unsafe fn add_products(sums: Self::Sums, a: Self::Pairs, b: Self::Pairs) -> Self::Sums;
    /// The sums as f32.
    unsafe fn floats(sums: Self::Sums) -> Self;
    /// Writes the nearest `LEN` whole numbers of 16 bits.
    unsafe fn store_i16(self, to: *mut i16);
}

/// `e^x`, about 2 ulp; exactly 1 at 0, exactly 0 below -87.3 (also for -inf), infinite or huge above 88, NaN for NaN.
///
/// Method: x = n·ln 2 + r with |r| ≤ ½ ln 2 (ln 2 in two pieces, so that r is exact), e^r by its Taylor polynomial of
/// degree 7 (truncation < 6e-9 relative), times 2^n.
///
/// # Safety
/// As for every function of [`Vector`].
#[inline(always)]
pub(crate) unsafe fn exp<V: Vector>(x: V) -> V {
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const COEFFICIENTS: [f32; 6] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
    // SAFETY: passed on to the caller.
    unsafe {
        let negated_high = V::splat(-HIGHEST);
        // min(x, h) = -max(-x, -h): one `max` in the trait is enough, and both keep NaN.
        let capped = V::splat(0.0).sub(V::splat(0.0).sub(x).max(negated_high));
        let clamped = capped.max(V::splat(LOWEST));
        let n = clamped.mul(V::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(V::splat(-LN2_HIGH), clamped);
        let r = n.mul_add(V::splat(-LN2_LOW), r);
        let mut polynomial = V::splat(1.0 / 5040.0);
        for coefficient in COEFFICIENTS {
            polynomial = polynomial.mul_add(r, V::splat(coefficient));
        }
        let value = polynomial.mul_add(r, V::splat(1.0)).mul(n.exp2_integer());
        value.zero_where_below(x, LOWEST)
    }
}
