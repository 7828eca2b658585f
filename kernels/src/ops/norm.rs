//! RMSNorm: `y = w · x / sqrt(mean(x²) + eps)`, row by row.

use crate::simd::Vector;

/// Normalises `rows` rows of `d`; `x` and `y` may be the same memory.
///
/// # Safety
/// The CPU as for `V`; `x` and `y` valid for `rows * d` elements, `weight` has `d`.
#[inline(always)]
pub(crate) unsafe fn rms_norm<V: Vector>(x: *const f32, y: *mut f32, rows: usize, weight: &[f32], eps: f32) {
    let d = weight.len();
    let whole = d - d % V::LEN;
    for row in 0..rows {
        // SAFETY: every offset is below rows * d.
        unsafe {
            let x = x.add(row * d);
            let y = y.add(row * d);
            let mut squares = V::splat(0.0);
            let mut i = 0;
            while i < whole {
                let value = V::load(x.add(i));
                squares = value.mul_add(value, squares);
                i += V::LEN;
            }
            let mut sum = squares.reduce_add();
            for i in whole..d {
                sum += *x.add(i) * *x.add(i);
            }
            let factor = 1.0 / (sum / d as f32 + eps).sqrt();
            let factors = V::splat(factor);
            let mut i = 0;
            while i < whole {
                let value = V::load(x.add(i)).mul(factors);
                V::load(weight.as_ptr().add(i)).mul(value).store(y.add(i));
                i += V::LEN;
            }
            for (i, weight) in weight.iter().enumerate().skip(whole) {
                *y.add(i) = weight * (*x.add(i) * factor);
            }
        }
    }
}
