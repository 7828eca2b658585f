//! Strips on x86-64: AVX-512 with VNNI (16 rows in a register), AVX2 with VNNI and without (two registers of 8). Must
//! never be used before the registry has seen the CPU.

use std::arch::x86_64::*;

use super::strip::{Strip, dots_are_ints, offset_of_pairs};
use crate::packed::BLOCK;

/// Needs avx512f, avx512bw and avx512vnni.
pub(crate) struct Avx512Vnni;

// SAFETY: each body uses the named features only; pointers and the CPU are the caller's promise, as the trait says.
unsafe impl Strip for Avx512Vnni {
    const LEN: usize = 16;
    type Ints = __m512i;
    type Floats = __m512;
    type Quants = __m512i;
    dots_are_ints!(bias 128);

    #[inline(always)]
    unsafe fn ints(value: i32) -> __m512i {
        // SAFETY: the caller promises avx512f.
        unsafe { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn quants(from: *const u8) -> __m512i {
        // SAFETY: the caller promises avx512f and 64 readable bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn low(quants: __m512i) -> __m512i {
        // SAFETY: the caller promises avx512f.
        unsafe { _mm512_and_si512(quants, _mm512_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn high(quants: __m512i) -> __m512i {
        // SAFETY: the caller promises avx512f.
        unsafe { _mm512_and_si512(_mm512_srli_epi32::<4>(quants), _mm512_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn widen(quants: __m512i) -> __m512i {
        // SAFETY: the caller promises avx512f. Adding 128 to a byte flips its top bit.
        unsafe { _mm512_xor_si512(quants, _mm512_set1_epi8(-128)) }
    }
    #[inline(always)]
    unsafe fn dot(sum: __m512i, w: __m512i, x: *const i8) -> __m512i {
        // SAFETY: the caller promises avx512vnni and four readable bytes.
        unsafe { _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(x.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn floats(ints: __m512i) -> __m512 {
        // SAFETY: the caller promises avx512f.
        unsafe { _mm512_cvtepi32_ps(ints) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: the caller promises avx512f.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller promises avx512f and 16 readable elements.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(floats: __m512, to: *mut f32) {
        // SAFETY: the caller promises avx512f and 16 writable elements.
        unsafe { _mm512_storeu_ps(to, floats) }
    }
    #[inline(always)]
    unsafe fn halves(from: *const u8) -> __m512 {
        // SAFETY: the caller promises avx512f and 32 readable bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> __m512 {
        // SAFETY: the caller promises avx512f and 16 readable bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn even(pairs: __m512i) -> __m512 {
        // SAFETY: the caller promises avx512f.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)) }
    }
    #[inline(always)]
    unsafe fn odd(pairs: __m512i) -> __m512 {
        // SAFETY: the caller promises avx512f.
        unsafe { _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-0x1_0000))) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller promises avx512f.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller promises avx512f.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
}

/// The two AVX2 strips differ in how they multiply bytes only. 16 rows are two registers, so that four bytes of a row of
/// activations, once in a register of their own, serve both: otherwise a CPU that reads twice a cycle waits for its reads.
macro_rules! avx2_strip {
    ($name:ident, $needs:literal, $($products:tt)*) => {
        #[doc = $needs]
        pub(crate) struct $name;

        // SAFETY: each body uses the named features only; pointers and the CPU are the caller's promise.
        unsafe impl Strip for $name {
            const LEN: usize = 16;
            type Ints = [__m256i; 2];
            type Floats = [__m256; 2];
            type Quants = [__m256i; 2];

            $($products)*

            #[inline(always)]
            unsafe fn ints(value: i32) -> [__m256i; 2] {
                // SAFETY: the caller promises avx2.
                unsafe { [_mm256_set1_epi32(value); 2] }
            }
            #[inline(always)]
            unsafe fn quants(from: *const u8) -> [__m256i; 2] {
                // SAFETY: the caller promises avx2 and 64 readable bytes.
                unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
            }
            #[inline(always)]
            unsafe fn low([a, b]: [__m256i; 2]) -> [__m256i; 2] {
                // SAFETY: the caller promises avx2.
                unsafe { [low_nibbles(a), low_nibbles(b)] }
            }
            #[inline(always)]
            unsafe fn high([a, b]: [__m256i; 2]) -> [__m256i; 2] {
                // SAFETY: the caller promises avx2.
                unsafe { [high_nibbles(a), high_nibbles(b)] }
            }
            #[inline(always)]
            unsafe fn floats([a, b]: [__m256i; 2]) -> [__m256; 2] {
                // SAFETY: the caller promises avx2.
                unsafe { [_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)] }
            }
            #[inline(always)]
            unsafe fn splat(value: f32) -> [__m256; 2] {
                // SAFETY: the caller promises avx2.
                unsafe { [_mm256_set1_ps(value); 2] }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> [__m256; 2] {
                // SAFETY: the caller promises avx2 and 16 readable elements.
                unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
            }
            #[inline(always)]
            unsafe fn store([a, b]: [__m256; 2], to: *mut f32) {
                // SAFETY: the caller promises avx2 and 16 writable elements.
                unsafe {
                    _mm256_storeu_ps(to, a);
                    _mm256_storeu_ps(to.add(8), b);
                }
            }
            #[inline(always)]
            unsafe fn halves(from: *const u8) -> [__m256; 2] {
                // SAFETY: the caller promises f16c and 32 readable bytes.
                unsafe {
                    [
                        _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                        _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast())),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn bytes(from: *const u8) -> [__m256; 2] {
                // SAFETY: the caller promises avx2 and 16 readable bytes.
                unsafe {
                    let (a, b) = (_mm_loadl_epi64(from.cast()), _mm_loadl_epi64(from.add(8).cast()));
                    Self::floats([_mm256_cvtepu8_epi32(a), _mm256_cvtepu8_epi32(b)])
                }
            }
            #[inline(always)]
            unsafe fn even([a, b]: [__m256i; 2]) -> [__m256; 2] {
                // SAFETY: the caller promises avx2.
                unsafe { [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b))] }
            }
            #[inline(always)]
            unsafe fn odd([a, b]: [__m256i; 2]) -> [__m256; 2] {
                // SAFETY: the caller promises avx2.
                unsafe {
                    let upper = _mm256_set1_epi32(-0x1_0000);
                    [_mm256_castsi256_ps(_mm256_and_si256(a, upper)), _mm256_castsi256_ps(_mm256_and_si256(b, upper))]
                }
            }
            #[inline(always)]
            unsafe fn mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
                // SAFETY: the caller promises avx2.
                unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
            }
            #[inline(always)]
            unsafe fn mul_add(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
                // SAFETY: the caller promises fma.
                unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
            }
        }
    };
}

avx2_strip! {
    Avx2Vnni,
    "Needs avx2, fma, f16c and avxvnni.",
    dots_are_ints!(bias 128);

    #[inline(always)]
    unsafe fn dot([a, b]: [__m256i; 2], w: [__m256i; 2], x: *const i8) -> [__m256i; 2] {
        // SAFETY: the caller promises avxvnni and four readable bytes.
        unsafe {
            let x = four(x);
            [_mm256_dpbusd_avx_epi32(a, w[0], x), _mm256_dpbusd_avx_epi32(b, w[1], x)]
        }
    }
    #[inline(always)]
    unsafe fn widen([a, b]: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: the caller promises avx2.
        unsafe { [unsigned(a), unsigned(b)] }
    }
}

avx2_strip! {
    Avx2,
    "Needs avx2, fma and f16c. Without an instruction that adds products of bytes to 32 bits, those of a block are added
up in 16 bits where they are nibbles: 8 * 15 * 127 * 2 fits, and half of the multiplications are saved.",
    type Dots = [__m256i; 2];
    /// How large they are, and they themselves.
    type Wide = [[__m256i; 2]; 2];

    #[inline(always)]
    unsafe fn widen([a, b]: [__m256i; 2]) -> [[__m256i; 2]; 2] {
        // SAFETY: the caller promises avx2.
        unsafe { [[_mm256_abs_epi8(a), a], [_mm256_abs_epi8(b), b]] }
    }
    #[inline(always)]
    unsafe fn offset(x: &[i32; BLOCK]) -> i32 {
        offset_of_pairs(x)
    }
    #[inline(always)]
    unsafe fn begin(offset: i32) -> [__m256i; 2] {
        // SAFETY: the caller promises avx2.
        unsafe { Self::ints(offset) }
    }
    #[inline(always)]
    unsafe fn dot([a, b]: [__m256i; 2], w: [__m256i; 2], x: *const i8) -> [__m256i; 2] {
        // SAFETY: the caller promises avx2 and four readable bytes.
        unsafe {
            let x = four(x);
            let [first, second] = [_mm256_maddubs_epi16(w[0], x), _mm256_maddubs_epi16(w[1], x)];
            [in_order(_mm256_add_epi16(a, first)), in_order(_mm256_add_epi16(b, second))]
        }
    }
    #[inline(always)]
    unsafe fn end([a, b]: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: the caller promises avx2.
        unsafe { [_mm256_madd_epi16(a, _mm256_set1_epi16(1)), _mm256_madd_epi16(b, _mm256_set1_epi16(1))] }
    }
    #[inline(always)]
    unsafe fn begin_wide(_offset: i32) -> [__m256i; 2] {
        // SAFETY: the caller promises avx2.
        unsafe { Self::ints(0) }
    }
    /// The weight's sign goes to the other factor, and what is left of it has none, as the instruction wants: two products
    /// of 128 and 127 fit 16 bits.
    #[inline(always)]
    unsafe fn dot_wide([a, b]: [__m256i; 2], w: [[__m256i; 2]; 2], x: *const i8) -> [__m256i; 2] {
        // SAFETY: the caller promises avx2 and four readable bytes.
        unsafe {
            let x = four(x);
            let product = |[size, own]: [__m256i; 2]| {
                _mm256_madd_epi16(_mm256_maddubs_epi16(size, _mm256_sign_epi8(x, own)), _mm256_set1_epi16(1))
            };
            let [first, second] = w.map(product);
            [in_order(_mm256_add_epi32(a, first)), in_order(_mm256_add_epi32(b, second))]
        }
    }
}

/// The four bytes at `x` for every row.
///
/// # Safety
/// The CPU has avx2; four readable bytes at `x`.
#[inline(always)]
unsafe fn four(x: *const i8) -> __m256i {
    // SAFETY: passed on to the caller.
    unsafe { _mm256_set1_epi32(x.cast::<i32>().read_unaligned()) }
}

/// A sum that is made where it is written: a compiler that may choose an order adds row by row, and for that keeps a
/// block's weights in memory, more than there are registers.
///
/// # Safety
/// The CPU has avx2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn in_order(mut sum: __m256i) -> __m256i {
    // SAFETY: the text is empty.
    unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) sum, options(nomem, nostack, preserves_flags)) };
    sum
}

/// # Safety
/// The CPU has avx2.
#[inline(always)]
unsafe fn low_nibbles(bytes: __m256i) -> __m256i {
    // SAFETY: passed on to the caller.
    unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(15)) }
}

/// # Safety
/// The CPU has avx2.
#[inline(always)]
unsafe fn high_nibbles(bytes: __m256i) -> __m256i {
    // SAFETY: passed on to the caller.
    unsafe { _mm256_and_si256(_mm256_srli_epi32::<4>(bytes), _mm256_set1_epi8(15)) }
}

/// Signed bytes plus 128, which flips their top bit.
///
/// # Safety
/// The CPU has avx2.
#[inline(always)]
unsafe fn unsigned(bytes: __m256i) -> __m256i {
    // SAFETY: passed on to the caller.
    unsafe { _mm256_xor_si256(bytes, _mm256_set1_epi8(-128)) }
}
