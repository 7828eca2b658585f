//! The largest logit and Σ e^(x - max), from which its softmax probability follows.

use crate::simd::{Vector, exp};

/// `(max, Σ e^(x - max))`; the sum is NaN when a logit is NaN or the largest is not finite.
///
/// # Safety
/// The CPU as for `V`; `logits` is not empty.
#[inline(always)]
pub(crate) unsafe fn max_and_sum<V: Vector>(logits: &[f32]) -> (f32, f32) {
    let whole = logits.len() - logits.len() % V::LEN;
    let tail = logits.len() - whole;
    // The tail, filled up with -inf: those add e^-inf = 0.
    let mut rest = [f32::NEG_INFINITY; 32];
    // SAFETY: whole vectors lie inside the slice, the tail inside the buffer of 32.
    unsafe {
        std::ptr::copy_nonoverlapping(logits.as_ptr().add(whole), rest.as_mut_ptr(), tail);
        let rest = V::load(rest.as_ptr());
        let mut largest = rest;
        let mut i = 0;
        while i < whole {
            largest = largest.max(V::load(logits.as_ptr().add(i)));
            i += V::LEN;
        }
        let max = largest.reduce_max();
        let maxima = V::splat(max);
        let mut sum = exp(rest.sub(maxima));
        let mut i = 0;
        while i < whole {
            sum = sum.add(exp(V::load(logits.as_ptr().add(i)).sub(maxima)));
            i += V::LEN;
        }
        (max, sum.reduce_add())
    }
}
