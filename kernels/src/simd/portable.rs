//! The vector for any CPU: eight plain f32. Also what the others are compared with. Must never use an intrinsic.

use super::{Vector, Whole};

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

// SAFETY: plain code, valid on every CPU; pointers are the caller's promise.
unsafe impl Whole for Portable {
    type Sums = [i32; 8];
    /// The first of each pair, and the second.
    type Pairs = [[i16; 8]; 2];

    #[inline(always)]
    unsafe fn no_sums() -> [i32; 8] {
        [0; 8]
    }
    #[inline(always)]
    unsafe fn load_pairs(from: *const i8) -> [[i16; 8]; 2] {
        // SAFETY: the caller promises 16 readable elements.
        let pairs = unsafe { from.cast::<[[i8; 2]; 8]>().read() };
        [pairs.map(|[first, _]| first.into()), pairs.map(|[_, second]| second.into())]
    }
    #[inline(always)]
    unsafe fn splat_pair(from: *const i16) -> [[i16; 8]; 2] {
        // SAFETY: the caller promises 2 readable elements.
        let pair = unsafe { from.cast::<[i16; 2]>().read() };
        pair.map(|number| [number; 8])
    }
    #[inline(always)]
    unsafe fn add_products(mut sums: [i32; 8], a: [[i16; 8]; 2], b: [[i16; 8]; 2]) -> [i32; 8] {
        for (a, b) in a.into_iter().zip(b) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum = sum.wrapping_add(i32::from(a) * i32::from(b));
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn floats(sums: [i32; 8]) -> Self {
        Portable(sums.map(|sum| sum as f32))
    }
    #[inline(always)]
    unsafe fn store_i16(self, to: *mut i16) {
        // SAFETY: the caller promises 8 writable elements.
        unsafe { to.cast::<[i16; 8]>().write(self.0.map(|number| number.round_ties_even() as i16)) }
    }
}
