//! Strips on x86-64: AVX-512 with VNNI (16 rows in a register), AVX2 with VNNI and without (8 rows). Must never be used
//! before the registry has seen the CPU.

use std::arch::x86_64::*;

use super::strip::Strip;

/// Needs avx512f, avx512bw and avx512vnni.
pub(crate) struct Avx512Vnni;

// SAFETY: each body uses the named features only; pointers and the CPU are the caller's promise, as the trait says.
unsafe impl Strip for Avx512Vnni {
    const LEN: usize = 16;
    const WIDE_BIAS: i32 = 128;
    type Ints = __m512i;
    type Floats = __m512;
    type Quants = __m512i;

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
    unsafe fn dot_wide(sum: __m512i, w: __m512i, x: *const i8) -> __m512i {
        // SAFETY: passed on to the caller; the widened weights are unsigned bytes.
        unsafe { Self::dot(sum, w, x) }
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

/// The two AVX2 strips differ in how they multiply bytes only.
macro_rules! avx2_strip {
    ($name:ident, $needs:literal, |$sum:ident, $w:ident, $x:ident| $dot:expr, |$wide_sum:ident, $wide_w:ident, $wide_x:ident| $wide:expr) => {
        #[doc = $needs]
        pub(crate) struct $name;

        // SAFETY: each body uses the named features only; pointers and the CPU are the caller's promise.
        unsafe impl Strip for $name {
            const LEN: usize = 8;
            const WIDE_BIAS: i32 = 128;
            type Ints = __m256i;
            type Floats = __m256;
            type Quants = __m256i;

            #[inline(always)]
            unsafe fn ints(value: i32) -> __m256i {
                // SAFETY: the caller promises avx2.
                unsafe { _mm256_set1_epi32(value) }
            }
            #[inline(always)]
            unsafe fn quants(from: *const u8) -> __m256i {
                // SAFETY: the caller promises avx2 and 32 readable bytes.
                unsafe { _mm256_loadu_si256(from.cast()) }
            }
            #[inline(always)]
            unsafe fn low(quants: __m256i) -> __m256i {
                // SAFETY: the caller promises avx2.
                unsafe { _mm256_and_si256(quants, _mm256_set1_epi8(15)) }
            }
            #[inline(always)]
            unsafe fn high(quants: __m256i) -> __m256i {
                // SAFETY: the caller promises avx2.
                unsafe { _mm256_and_si256(_mm256_srli_epi32::<4>(quants), _mm256_set1_epi8(15)) }
            }
            #[inline(always)]
            unsafe fn widen(quants: __m256i) -> __m256i {
                // SAFETY: the caller promises avx2. Adding 128 to a byte flips its top bit.
                unsafe { _mm256_xor_si256(quants, _mm256_set1_epi8(-128)) }
            }
            #[inline(always)]
            unsafe fn dot($sum: __m256i, $w: __m256i, x: *const i8) -> __m256i {
                // SAFETY: the caller promises the features and four readable bytes.
                unsafe {
                    let $x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
                    $dot
                }
            }
            #[inline(always)]
            unsafe fn dot_wide($wide_sum: __m256i, $wide_w: __m256i, x: *const i8) -> __m256i {
                // SAFETY: the caller promises the features and four readable bytes.
                unsafe {
                    let $wide_x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
                    $wide
                }
            }
            #[inline(always)]
            unsafe fn floats(ints: __m256i) -> __m256 {
                // SAFETY: the caller promises avx2.
                unsafe { _mm256_cvtepi32_ps(ints) }
            }
            #[inline(always)]
            unsafe fn splat(value: f32) -> __m256 {
                // SAFETY: the caller promises avx2.
                unsafe { _mm256_set1_ps(value) }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> __m256 {
                // SAFETY: the caller promises avx2 and 8 readable elements.
                unsafe { _mm256_loadu_ps(from) }
            }
            #[inline(always)]
            unsafe fn store(floats: __m256, to: *mut f32) {
                // SAFETY: the caller promises avx2 and 8 writable elements.
                unsafe { _mm256_storeu_ps(to, floats) }
            }
            #[inline(always)]
            unsafe fn halves(from: *const u8) -> __m256 {
                // SAFETY: the caller promises f16c and 16 readable bytes.
                unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
            }
            #[inline(always)]
            unsafe fn bytes(from: *const u8) -> __m256 {
                // SAFETY: the caller promises avx2 and 8 readable bytes.
                unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
            }
            #[inline(always)]
            unsafe fn even(pairs: __m256i) -> __m256 {
                // SAFETY: the caller promises avx2.
                unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)) }
            }
            #[inline(always)]
            unsafe fn odd(pairs: __m256i) -> __m256 {
                // SAFETY: the caller promises avx2.
                unsafe { _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-0x1_0000))) }
            }
            #[inline(always)]
            unsafe fn mul(a: __m256, b: __m256) -> __m256 {
                // SAFETY: the caller promises avx2.
                unsafe { _mm256_mul_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
                // SAFETY: the caller promises fma.
                unsafe { _mm256_fmadd_ps(a, b, c) }
            }
        }
    };
}

avx2_strip!(
    Avx2Vnni,
    "Needs avx2, fma, f16c and avxvnni.",
    |sum, w, x| _mm256_dpbusd_avx_epi32(sum, w, x),
    |sum, w, x| _mm256_dpbusd_avx_epi32(sum, w, x)
);
avx2_strip!(
    Avx2,
    "Needs avx2, fma and f16c.",
    // 15 * 127 * 2 fits 16 bits.
    |sum, w, x| _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1))),
    // 255 * 127 * 2 does not: nibble by nibble, the high ones counting sixteen.
    |sum, w, x| {
        let mask = _mm256_set1_epi8(15);
        let low = _mm256_maddubs_epi16(_mm256_and_si256(w, mask), x);
        let high = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi32::<4>(w), mask), x);
        let low = _mm256_madd_epi16(low, _mm256_set1_epi16(1));
        _mm256_add_epi32(sum, _mm256_add_epi32(low, _mm256_madd_epi16(high, _mm256_set1_epi16(16))))
    }
);
