//! Sixteen rows in plain arrays, for any CPU; what the others are compared with. Must never use an intrinsic.

use super::strip::{Strip, dots_are_ints};
use crate::packed::BLOCK;

/// Plain code.
pub(crate) struct Plain;

fn zip<A: Copy, B: Copy, C>(a: [A; 16], b: [B; 16], f: impl Fn(A, B) -> C) -> [C; 16] {
    std::array::from_fn(|row| f(a[row], b[row]))
}

// SAFETY: plain code, valid on every CPU; pointers are the caller's promise.
unsafe impl Strip for Plain {
    const LEN: usize = 16;
    type Ints = [i32; 16];
    type Floats = [f32; 16];
    type Quants = [[u8; 4]; 16];
    dots_are_ints!(bias 128);

    #[inline(always)]
    unsafe fn ints(value: i32) -> [i32; 16] {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn quants(from: *const u8) -> [[u8; 4]; 16] {
        // SAFETY: the caller promises 64 readable bytes; bytes have no alignment.
        unsafe { from.cast::<[[u8; 4]; 16]>().read() }
    }
    #[inline(always)]
    unsafe fn low(quants: [[u8; 4]; 16]) -> [[u8; 4]; 16] {
        quants.map(|four| four.map(|byte| byte & 15))
    }
    #[inline(always)]
    unsafe fn high(quants: [[u8; 4]; 16]) -> [[u8; 4]; 16] {
        quants.map(|four| four.map(|byte| byte >> 4))
    }
    #[inline(always)]
    unsafe fn widen(quants: [[u8; 4]; 16]) -> [[u8; 4]; 16] {
        quants.map(|four| four.map(|byte| byte ^ 128))
    }
    #[inline(always)]
    unsafe fn dot(sum: [i32; 16], w: [[u8; 4]; 16], x: *const i8) -> [i32; 16] {
        // SAFETY: the caller promises four readable bytes.
        let x = unsafe { x.cast::<[i8; 4]>().read() };
        zip(sum, w, |sum, w| (0..4).fold(sum, |sum, i| sum + i32::from(w[i]) * i32::from(x[i])))
    }
    #[inline(always)]
    unsafe fn floats(ints: [i32; 16]) -> [f32; 16] {
        ints.map(|int| int as f32)
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 16] {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 16] {
        // SAFETY: the caller promises 16 readable elements.
        unsafe { from.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(floats: [f32; 16], to: *mut f32) {
        // SAFETY: the caller promises 16 writable elements.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(floats) }
    }
    #[inline(always)]
    unsafe fn halves(from: *const u8) -> [f32; 16] {
        // SAFETY: the caller promises 32 readable bytes.
        let halves = unsafe { from.cast::<[[u8; 2]; 16]>().read() };
        halves.map(|half| half::f16::from_le_bytes(half).to_f32_const())
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> [f32; 16] {
        // SAFETY: the caller promises 16 readable bytes.
        unsafe { from.cast::<[u8; 16]>().read() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn even(pairs: [[u8; 4]; 16]) -> [f32; 16] {
        pairs.map(|[a, b, ..]| f32::from_le_bytes([0, 0, a, b]))
    }
    #[inline(always)]
    unsafe fn odd(pairs: [[u8; 4]; 16]) -> [f32; 16] {
        pairs.map(|[_, _, a, b]| f32::from_le_bytes([0, 0, a, b]))
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        // Not f32::mul_add: without the instruction that is a slow library call.
        zip(zip(a, b, |a, b| a * b), c, |product, c| product + c)
    }
}
