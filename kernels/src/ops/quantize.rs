//! Activations to 8 bits. Must never meet a weight.

use crate::packed::BLOCK;
use crate::simd::Vector;
use crate::simd::strip::Strip;

/// Quantises a block of 32 numbers to -127..=127; gives what a quant is worth, the sum of the quants, and what products
/// of a strip begin with. Numbers below 1e-35 are taken for zero; where one is not finite, the scale is NaN, and so is
/// every product with it.
///
/// # Safety
/// The CPU as for `V` and `S`; 32 numbers at `x`, room for 32 bytes at `to`.
#[inline(always)]
pub(crate) unsafe fn quantize<V: Vector, S: Strip>(x: *const f32, to: *mut i8) -> (f32, i32, i32) {
    // SAFETY: whole vectors make a block.
    unsafe {
        let mut largest = V::splat(0.0);
        // NaN may be lost in a maximum, not in this sum, which is finite or -- where the numbers overflow it -- infinite.
        let mut all = V::splat(0.0);
        let mut i = 0;
        while i < BLOCK {
            let value = V::load(x.add(i));
            largest = largest.max(value).max(V::splat(0.0).sub(value));
            all = all.add(value.mul(V::splat(0.0)));
            i += V::LEN;
        }
        let (largest, clean) = (largest.reduce_max(), all.reduce_add());
        if clean.is_nan() || largest < 1e-35 {
            to.write_bytes(0, BLOCK);
            return (if clean.is_nan() { f32::NAN } else { 0.0 }, 0, 0);
        }
        let inverse = V::splat(127.0 / largest);
        let mut rounded = [0.0f32; BLOCK];
        let mut i = 0;
        while i < BLOCK {
            V::load(x.add(i)).mul(inverse).round().store(rounded.as_mut_ptr().add(i));
            i += V::LEN;
        }
        // In -127..=127: the largest times 127 / largest is less than half a step above. Without checks and in two
        // loops, so that they become vectors.
        let mut quants = [0; BLOCK];
        for (quant, number) in quants.iter_mut().zip(rounded) {
            *quant = number.to_int_unchecked::<i32>();
        }
        for (i, quant) in quants.iter().enumerate() {
            to.add(i).write(*quant as i8);
        }
        let sum = quants.iter().fold(0i32, |sum, quant| sum.wrapping_add(*quant));
        (largest / 127.0, sum, S::offset(&quants))
    }
}
