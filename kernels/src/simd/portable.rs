//! The vector for any CPU: eight plain f32. Also what the others are compared with. Must never use an intrinsic.

use super::Vector;

/// Eight f32.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (a, b) in out.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        Portable(out)
    }
}

// SAFETY: plain code, valid on every CPU; pointers are the caller's promise.
unsafe impl Vector for Portable {
    const LEN: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises 8 readable elements; f32 pointers are aligned for [f32; 8].
        Portable(unsafe { from.cast::<[f32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the caller promises 8 readable elements.
        Portable(unsafe { from.cast::<[i8; 8]>().read() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller promises 8 readable elements; u16 pointers are aligned for [u16; 8].
        Portable(unsafe { from.cast::<[u16; 8]>().read() }.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises 8 writable elements.
        unsafe { to.cast::<[f32; 8]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // Not f32::mul_add: without the instruction that is a slow library call.
        self.zip(factor, |a, b| a * b).zip(addend, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if b > a { b } else { a })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding 1.5 * 2^23 pushes the fraction out of the mantissa; right for |x| < 2^22, and exp needs 127.
        const PUSH: f32 = 12_582_912.0;
        Portable(self.0.map(|x| (x + PUSH) - PUSH))
    }
    #[inline(always)]
    unsafe fn exp2_integer(self) -> Self {
        Portable(self.0.map(|x| f32::from_bits(((x as i32).wrapping_add(127) as u32) << 23)))
    }
    #[inline(always)]
    unsafe fn zero_where_below(self, key: Self, limit: f32) -> Self {
        self.zip(key, |value, key| if key < limit { 0.0 } else { value })
    }
    #[inline(always)]
    unsafe fn reduce_add(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}
