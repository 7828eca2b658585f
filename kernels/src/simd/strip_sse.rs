//! Strips on x86-64 without AVX2: old CPUs, small ones, and virtual machines that hide what theirs can do. 16 rows are two
//! pairs of registers. Must never be used before the registry has seen the CPU.

use std::arch::x86_64::*;

use super::strip::{Strip, offset_of_pairs};
use crate::packed::BLOCK;

/// The two differ in how they multiply bytes only.
macro_rules! sse_strip {
    ($name:ident, $needs:literal, $($products:tt)*) => {
        #[doc = $needs]
        pub(crate) struct $name;

        // SAFETY: each body uses the named features only; pointers and the CPU are the caller's promise.
        unsafe impl Strip for $name {
            const LEN: usize = 8;
            type Ints = [__m128i; 2];
            type Floats = [__m128; 2];
            type Quants = [__m128i; 2];

            $($products)*

            #[inline(always)]
            unsafe fn ints(value: i32) -> [__m128i; 2] {
                // SAFETY: the caller promises sse2.
                unsafe { [_mm_set1_epi32(value); 2] }
            }
            #[inline(always)]
            unsafe fn begin_wide(_offset: i32) -> [__m128i; 2] {
                // SAFETY: the caller promises sse2.
                unsafe { Self::ints(0) }
            }
            #[inline(always)]
            unsafe fn quants(from: *const u8) -> [__m128i; 2] {
                // SAFETY: the caller promises sse2 and 32 readable bytes.
                unsafe { [_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(16).cast())] }
            }
            #[inline(always)]
            unsafe fn low([a, b]: [__m128i; 2]) -> [__m128i; 2] {
                // SAFETY: the caller promises sse2.
                unsafe {
                    let nibble = _mm_set1_epi8(15);
                    [_mm_and_si128(a, nibble), _mm_and_si128(b, nibble)]
                }
            }
            #[inline(always)]
            unsafe fn high([a, b]: [__m128i; 2]) -> [__m128i; 2] {
                // SAFETY: the caller promises sse2.
                unsafe { Self::low([_mm_srli_epi32::<4>(a), _mm_srli_epi32::<4>(b)]) }
            }
            #[inline(always)]
            unsafe fn floats([a, b]: [__m128i; 2]) -> [__m128; 2] {
                // SAFETY: the caller promises sse2.
                unsafe { [_mm_cvtepi32_ps(a), _mm_cvtepi32_ps(b)] }
            }
            #[inline(always)]
            unsafe fn splat(value: f32) -> [__m128; 2] {
                // SAFETY: the caller promises sse2.
                unsafe { [_mm_set1_ps(value); 2] }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> [__m128; 2] {
                // SAFETY: the caller promises sse2 and 8 readable elements.
                unsafe { [_mm_loadu_ps(from), _mm_loadu_ps(from.add(4))] }
            }
            #[inline(always)]
            unsafe fn store([a, b]: [__m128; 2], to: *mut f32) {
                // SAFETY: the caller promises sse2 and 8 writable elements.
                unsafe {
                    _mm_storeu_ps(to, a);
                    _mm_storeu_ps(to.add(4), b);
                }
            }
            #[inline(always)]
            unsafe fn halves(from: *const u8) -> [__m128; 2] {
                // SAFETY: the caller promises sse2 and 16 readable bytes.
                unsafe {
                    let halves = _mm_loadu_si128(from.cast());
                    let zero = _mm_setzero_si128();
                    [half_floats(_mm_unpacklo_epi16(halves, zero)), half_floats(_mm_unpackhi_epi16(halves, zero))]
                }
            }
            #[inline(always)]
            unsafe fn bytes(from: *const u8) -> [__m128; 2] {
                // SAFETY: the caller promises sse2 and 8 readable bytes.
                unsafe {
                    let zero = _mm_setzero_si128();
                    let bytes = _mm_unpacklo_epi8(_mm_loadl_epi64(from.cast()), zero);
                    Self::floats([_mm_unpacklo_epi16(bytes, zero), _mm_unpackhi_epi16(bytes, zero)])
                }
            }
            #[inline(always)]
            unsafe fn even([a, b]: [__m128i; 2]) -> [__m128; 2] {
                // SAFETY: the caller promises sse2.
                unsafe { [_mm_castsi128_ps(_mm_slli_epi32::<16>(a)), _mm_castsi128_ps(_mm_slli_epi32::<16>(b))] }
            }
            #[inline(always)]
            unsafe fn odd([a, b]: [__m128i; 2]) -> [__m128; 2] {
                // SAFETY: the caller promises sse2.
                unsafe {
                    let upper = _mm_set1_epi32(-0x1_0000);
                    [_mm_castsi128_ps(_mm_and_si128(a, upper)), _mm_castsi128_ps(_mm_and_si128(b, upper))]
                }
            }
            #[inline(always)]
            unsafe fn mul(a: [__m128; 2], b: [__m128; 2]) -> [__m128; 2] {
                // SAFETY: the caller promises sse2.
                unsafe { [_mm_mul_ps(a[0], b[0]), _mm_mul_ps(a[1], b[1])] }
            }
            #[inline(always)]
            unsafe fn mul_add(a: [__m128; 2], b: [__m128; 2], c: [__m128; 2]) -> [__m128; 2] {
                // SAFETY: the caller promises sse2.
                unsafe { [_mm_add_ps(_mm_mul_ps(a[0], b[0]), c[0]), _mm_add_ps(_mm_mul_ps(a[1], b[1]), c[1])] }
            }
        }
    };
}

sse_strip! {
    Ssse3,
    "Needs ssse3. Products of bytes are added up as on AVX2 without VNNI.",
    type Dots = [__m128i; 2];
    /// How large they are, and they themselves.
    type Wide = [[__m128i; 2]; 2];

    #[inline(always)]
    unsafe fn widen([a, b]: [__m128i; 2]) -> [[__m128i; 2]; 2] {
        // SAFETY: the caller promises ssse3.
        unsafe { [[_mm_abs_epi8(a), a], [_mm_abs_epi8(b), b]] }
    }
    #[inline(always)]
    unsafe fn offset(x: &[i32; BLOCK]) -> i32 {
        offset_of_pairs(x)
    }
    #[inline(always)]
    unsafe fn begin(offset: i32) -> [__m128i; 2] {
        // SAFETY: the caller promises ssse3.
        unsafe { Self::ints(offset) }
    }
    #[inline(always)]
    unsafe fn dot([a, b]: [__m128i; 2], w: [__m128i; 2], x: *const i8) -> [__m128i; 2] {
        // SAFETY: the caller promises ssse3 and four readable bytes.
        unsafe {
            let x = four(x);
            [_mm_add_epi16(a, _mm_maddubs_epi16(w[0], x)), _mm_add_epi16(b, _mm_maddubs_epi16(w[1], x))]
        }
    }
    #[inline(always)]
    unsafe fn end([a, b]: [__m128i; 2]) -> [__m128i; 2] {
        // SAFETY: the caller promises ssse3.
        unsafe { [_mm_madd_epi16(a, _mm_set1_epi16(1)), _mm_madd_epi16(b, _mm_set1_epi16(1))] }
    }
    #[inline(always)]
    unsafe fn dot_wide([a, b]: [__m128i; 2], w: [[__m128i; 2]; 2], x: *const i8) -> [__m128i; 2] {
        // SAFETY: the caller promises ssse3 and four readable bytes.
        unsafe {
            let x = four(x);
            let product = |[size, own]: [__m128i; 2]| {
                _mm_madd_epi16(_mm_maddubs_epi16(size, _mm_sign_epi8(x, own)), _mm_set1_epi16(1))
            };
            [_mm_add_epi32(a, product(w[0])), _mm_add_epi32(b, product(w[1]))]
        }
    }
}

sse_strip! {
    Sse2,
    "Needs sse2, as every x86-64 has. Bytes become 16 bits to be multiplied, and there are two sums for each row.",
    type Dots = [[__m128i; 2]; 2];
    type Wide = [[__m128i; 2]; 2];

    #[inline(always)]
    unsafe fn widen([a, b]: [__m128i; 2]) -> [[__m128i; 2]; 2] {
        // SAFETY: the caller promises sse2.
        unsafe { [signed(a), signed(b)] }
    }
    #[inline(always)]
    unsafe fn offset(x: &[i32; BLOCK]) -> i32 {
        -8 * x.iter().sum::<i32>()
    }
    #[inline(always)]
    unsafe fn begin(offset: i32) -> [[__m128i; 2]; 2] {
        // SAFETY: the caller promises sse2.
        unsafe { [[_mm_set_epi32(0, offset, 0, offset); 2]; 2] }
    }
    #[inline(always)]
    unsafe fn dot([a, b]: [[__m128i; 2]; 2], w: [__m128i; 2], x: *const i8) -> [[__m128i; 2]; 2] {
        // SAFETY: the caller promises sse2 and four readable bytes.
        unsafe {
            let (zero, [x, _]) = (_mm_setzero_si128(), signed(four(x)));
            let pairs = |[first, second]: [__m128i; 2], w: __m128i| {
                [
                    _mm_add_epi32(first, _mm_madd_epi16(_mm_unpacklo_epi8(w, zero), x)),
                    _mm_add_epi32(second, _mm_madd_epi16(_mm_unpackhi_epi8(w, zero), x)),
                ]
            };
            [pairs(a, w[0]), pairs(b, w[1])]
        }
    }
    #[inline(always)]
    unsafe fn end([a, b]: [[__m128i; 2]; 2]) -> [__m128i; 2] {
        // SAFETY: the caller promises sse2.
        unsafe { [joined(a), joined(b)] }
    }
    #[inline(always)]
    unsafe fn dot_wide([a, b]: [__m128i; 2], w: [[__m128i; 2]; 2], x: *const i8) -> [__m128i; 2] {
        // SAFETY: the caller promises sse2 and four readable bytes.
        unsafe {
            let [x, _] = signed(four(x));
            let product = |[first, second]: [__m128i; 2]| joined([_mm_madd_epi16(first, x), _mm_madd_epi16(second, x)]);
            [_mm_add_epi32(a, product(w[0])), _mm_add_epi32(b, product(w[1]))]
        }
    }
}

/// Signed bytes as 16 bits, the first eight and the others.
///
/// # Safety
/// The CPU has sse2.
#[inline(always)]
unsafe fn signed(bytes: __m128i) -> [__m128i; 2] {
    // SAFETY: passed on to the caller.
    unsafe {
        [_mm_srai_epi16::<8>(_mm_unpacklo_epi8(bytes, bytes)), _mm_srai_epi16::<8>(_mm_unpackhi_epi8(bytes, bytes))]
    }
}

/// One sum for each of four rows, of two that stand together.
///
/// # Safety
/// The CPU has sse2.
#[inline(always)]
unsafe fn joined([first, second]: [__m128i; 2]) -> __m128i {
    // SAFETY: passed on to the caller.
    unsafe {
        let (first, second) = (_mm_castsi128_ps(first), _mm_castsi128_ps(second));
        let (even, odd) =
            (_mm_shuffle_ps::<0b10_00_10_00>(first, second), _mm_shuffle_ps::<0b11_01_11_01>(first, second));
        _mm_add_epi32(_mm_castps_si128(even), _mm_castps_si128(odd))
    }
}

/// The four bytes at `x` for every row.
///
/// # Safety
/// The CPU has sse2; four readable bytes at `x`.
#[inline(always)]
unsafe fn four(x: *const i8) -> __m128i {
    // SAFETY: passed on to the caller.
    unsafe { _mm_set1_epi32(x.cast::<i32>().read_unaligned()) }
}

/// The f16 whose bits are the lower half of each element. Those without a leading one get it and lose it again, so that
/// no small number is met for which a CPU would stop and think.
///
/// # Safety
/// The CPU has sse2.
#[inline(always)]
unsafe fn half_floats(bits: __m128i) -> __m128 {
    const EXPONENT: i32 = 0x7c00 << 13;
    // SAFETY: passed on to the caller.
    unsafe {
        let size = _mm_slli_epi32::<13>(_mm_and_si128(bits, _mm_set1_epi32(0x7fff)));
        let exponent = _mm_and_si128(size, _mm_set1_epi32(EXPONENT));
        let is_small = _mm_cmpeq_epi32(exponent, _mm_setzero_si128());
        let is_no_number = _mm_cmpeq_epi32(exponent, _mm_set1_epi32(EXPONENT));
        // From the middle of an exponent of 5 bits to that of one of 8; of what is no number, from one end to the other.
        let moved = _mm_add_epi32(size, _mm_set1_epi32((127 - 15) << 23));
        let moved = _mm_or_si128(moved, _mm_and_si128(is_no_number, _mm_set1_epi32(0xff << 23)));
        let one = _mm_and_si128(is_small, _mm_set1_epi32(1 << 23));
        let smallest = _mm_and_si128(is_small, _mm_set1_epi32((127 - 14) << 23));
        let float = _mm_sub_ps(_mm_castsi128_ps(_mm_add_epi32(moved, one)), _mm_castsi128_ps(smallest));
        let sign = _mm_slli_epi32::<16>(_mm_and_si128(bits, _mm_set1_epi32(0x8000)));
        _mm_or_ps(float, _mm_castsi128_ps(sign))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_becomes_its_float() {
        let halves: Vec<u16> = (0..=u16::MAX).collect();
        for (first, eight) in halves.chunks_exact(8).enumerate() {
            let mut floats = [0.0f32; 8];
            // SAFETY: every such CPU has sse2; eight numbers are 16 bytes.
            unsafe { Sse2::store(Sse2::halves(eight.as_ptr().cast()), floats.as_mut_ptr()) };
            for (half, float) in eight.iter().zip(floats) {
                let wanted = half::f16::from_bits(*half).to_f32();
                let is_same = float.to_bits() == wanted.to_bits() || (float.is_nan() && wanted.is_nan());
                assert!(is_same, "{half:#x} of the {first}. eight: {float} for {wanted}");
            }
        }
    }
}
