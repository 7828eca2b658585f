//! Activations to 8 bits. Must never meet a weight.

use crate::packed::{BLOCK, BlockSums};
use crate::simd::Vector;

/// Quantises `blocks` blocks of 32 numbers, four at most, to -127..=127 with one scale; gives what a quant is worth. Block
/// after block goes to `to`, `step` bytes apart, and the sum of its quants to `sums`. Numbers below 1e-35 are taken for
/// zero; where one is not finite, the scale is NaN, and so is every product with it.
///
/// # Safety
/// The CPU as for `V`; `blocks` times 32 numbers at `x`, room for 32 bytes at each step from `to` on.
#[inline(always)]
pub(crate) unsafe fn quantize<V: Vector>(
    x: *const f32,
    blocks: usize,
    to: *mut i8,
    step: usize,
    sums: &mut BlockSums,
) -> f32 {
    // SAFETY: whole vectors make a block.
    unsafe {
        let mut largest = V::splat(0.0);
        // NaN may be lost in a maximum, not in this sum, which is finite or -- where the numbers overflow it -- infinite.
        let mut all = V::splat(0.0);
        let mut i = 0;
        while i < blocks * BLOCK {
            let value = V::load(x.add(i));
            largest = largest.max(value).max(V::splat(0.0).sub(value));
            all = all.add(value.mul(V::splat(0.0)));
            i += V::LEN;
        }
        let (largest, clean) = (largest.reduce_max(), all.reduce_add());
        if clean.is_nan() || largest < 1e-35 {
            for block in 0..blocks {
                to.add(block * step).write_bytes(0, BLOCK);
            }
            sums.fill(0);
            return if clean.is_nan() { f32::NAN } else { 0.0 };
        }
        let inverse = V::splat(127.0 / largest);
        for (block, sum) in sums.iter_mut().enumerate().take(blocks) {
            let (x, to) = (x.add(block * BLOCK), to.add(block * step));
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
            *sum = quants.iter().fold(0i32, |sum, quant| sum.wrapping_add(*quant));
        }
        largest / 127.0
    }
}
