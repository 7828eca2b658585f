//! Strips on aarch64, with the dot product instructions and without (4 rows in a register). `cargo xtask neon` runs them on an
//! emulator; no real such CPU was at hand. Must never be used before the registry has seen the CPU.

use std::arch::aarch64::*;

use super::strip::{Strip, dots_are_ints};
use crate::packed::BLOCK;

/// The two differ in how they multiply bytes only.
macro_rules! neon_strip {
    ($name:ident, $needs:literal, $($dot:tt)*) => {
        #[doc = $needs]
        pub(crate) struct $name;

        // SAFETY: each body uses the named features only; pointers and the CPU are the caller's promise.
        unsafe impl Strip for $name {
            const LEN: usize = 4;
            type Ints = int32x4_t;
            type Floats = float32x4_t;
            type Quants = uint8x16_t;
            dots_are_ints!(bias 0);

            $($dot)*

            #[inline(always)]
            unsafe fn ints(value: i32) -> int32x4_t {
                // SAFETY: the caller promises neon.
                unsafe { vdupq_n_s32(value) }
            }
            #[inline(always)]
            unsafe fn quants(from: *const u8) -> uint8x16_t {
                // SAFETY: the caller promises neon and 16 readable bytes.
                unsafe { vld1q_u8(from) }
            }
            #[inline(always)]
            unsafe fn low(quants: uint8x16_t) -> uint8x16_t {
                // SAFETY: the caller promises neon.
                unsafe { vandq_u8(quants, vdupq_n_u8(15)) }
            }
            #[inline(always)]
            unsafe fn high(quants: uint8x16_t) -> uint8x16_t {
                // SAFETY: the caller promises neon.
                unsafe { vshrq_n_u8::<4>(quants) }
            }
            #[inline(always)]
            unsafe fn widen(quants: uint8x16_t) -> uint8x16_t {
                quants
            }
            #[inline(always)]
            unsafe fn floats(ints: int32x4_t) -> float32x4_t {
                // SAFETY: the caller promises neon.
                unsafe { vcvtq_f32_s32(ints) }
            }
            #[inline(always)]
            unsafe fn splat(value: f32) -> float32x4_t {
                // SAFETY: the caller promises neon.
                unsafe { vdupq_n_f32(value) }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> float32x4_t {
                // SAFETY: the caller promises neon and 4 readable elements.
                unsafe { vld1q_f32(from) }
            }
            #[inline(always)]
            unsafe fn store(floats: float32x4_t, to: *mut f32) {
                // SAFETY: the caller promises neon and 4 writable elements.
                unsafe { vst1q_f32(to, floats) }
            }
            #[inline(always)]
            unsafe fn halves(from: *const u8) -> float32x4_t {
                // SAFETY: the caller promises neon and 8 readable bytes; `fcvtl` is part of it, the f16 intrinsics are not stable.
                unsafe {
                    let halves = vld1_u8(from);
                    let floats: float32x4_t;
                    std::arch::asm!(
                        "fcvtl {floats:v}.4s, {halves:v}.4h",
                        floats = out(vreg) floats, halves = in(vreg) halves,
                        options(pure, nomem, nostack, preserves_flags)
                    );
                    floats
                }
            }
            #[inline(always)]
            unsafe fn bytes(from: *const u8) -> float32x4_t {
                // SAFETY: the caller promises neon and 4 readable bytes.
                unsafe {
                    let four = vreinterpret_u8_u32(vdup_n_u32(from.cast::<u32>().read_unaligned()));
                    vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four))))
                }
            }
            #[inline(always)]
            unsafe fn even(pairs: uint8x16_t) -> float32x4_t {
                // SAFETY: the caller promises neon.
                unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_u8(pairs))) }
            }
            #[inline(always)]
            unsafe fn odd(pairs: uint8x16_t) -> float32x4_t {
                // SAFETY: the caller promises neon.
                unsafe { vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(pairs), vdupq_n_u32(0xffff_0000))) }
            }
            #[inline(always)]
            unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
                // SAFETY: the caller promises neon.
                unsafe { vmulq_f32(a, b) }
            }
            #[inline(always)]
            unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
                // SAFETY: the caller promises neon.
                unsafe { vfmaq_f32(c, a, b) }
            }
        }
    };
}

neon_strip! {
    NeonDot,
    "Needs neon and dotprod.",
    #[inline(always)]
    unsafe fn dot(sum: int32x4_t, w: uint8x16_t, x: *const i8) -> int32x4_t {
        // SAFETY: the caller promises dotprod and four readable bytes. Signed weights are taken as they are. The
        // intrinsic `vdotq_s32` is not stable, its instruction is.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().read_unaligned()));
            let mut sum = sum;
            std::arch::asm!(
                "sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b",
                sum = inout(vreg) sum, w = in(vreg) w, x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags)
            );
            sum
        }
    }
}

neon_strip! {
    Neon,
    "Needs neon.",
    #[inline(always)]
    unsafe fn dot(sum: int32x4_t, w: uint8x16_t, x: *const i8) -> int32x4_t {
        // SAFETY: the caller promises neon and four readable bytes. Two products of 128 and 127 fit 16 bits.
        unsafe {
            let (w, x) = (vreinterpretq_s8_u8(w), vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().read_unaligned())));
            let upper = vmull_high_s8(w, x);
            let lower = vmull_s8(vget_low_s8(w), vget_low_s8(x));
            vpadalq_s16(sum, vpaddq_s16(lower, upper))
        }
    }
}
