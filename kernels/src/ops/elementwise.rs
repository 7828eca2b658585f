//! Loops in which every element stands alone.

use crate::simd::{Vector, exp};

/// `gate = silu(gate) * up`, silu(x) = x / (1 + e^-x).
///
/// # Safety
/// The CPU as for `V`; both slices have the same length.
#[inline(always)]
pub(crate) unsafe fn silu_mul<V: Vector>(gate: &mut [f32], up: &[f32]) {
    let whole = gate.len() - gate.len() % V::LEN;
    // SAFETY: whole vectors lie inside both slices; the tail goes through buffers of 32.
    unsafe {
        let mut i = 0;
        while i < whole {
            let x = V::load(gate.as_ptr().add(i));
            silu_times(x, V::load(up.as_ptr().add(i))).store(gate.as_mut_ptr().add(i));
            i += V::LEN;
        }
        let tail = gate.len() - whole;
        if tail > 0 {
            let (mut a, mut b) = ([0.0f32; 32], [0.0f32; 32]);
            std::ptr::copy_nonoverlapping(gate.as_ptr().add(whole), a.as_mut_ptr(), tail);
            std::ptr::copy_nonoverlapping(up.as_ptr().add(whole), b.as_mut_ptr(), tail);
            silu_times(V::load(a.as_ptr()), V::load(b.as_ptr())).store(a.as_mut_ptr());
            std::ptr::copy_nonoverlapping(a.as_ptr(), gate.as_mut_ptr().add(whole), tail);
        }
    }
}

/// `silu(x) * up`.
///
/// # Safety
/// The CPU as for `V`.
#[inline(always)]
unsafe fn silu_times<V: Vector>(x: V, up: V) -> V {
    // SAFETY: passed on to the caller.
    unsafe {
        let denominator = V::splat(1.0).add(exp(V::splat(0.0).sub(x)));
        x.div(denominator).mul(up)
    }
}

/// `y += factor * x`.
///
/// # Safety
/// The CPU as for `V`; both slices have the same length.
#[inline(always)]
pub(crate) unsafe fn add_scaled<V: Vector>(y: &mut [f32], x: &[f32], factor: f32) {
    let whole = y.len() - y.len() % V::LEN;
    // SAFETY: whole vectors lie inside both slices.
    unsafe {
        let factors = V::splat(factor);
        let mut i = 0;
        while i < whole {
            let sum = V::load(x.as_ptr().add(i)).mul_add(factors, V::load(y.as_ptr().add(i)));
            sum.store(y.as_mut_ptr().add(i));
            i += V::LEN;
        }
    }
    for (y, x) in y.iter_mut().zip(x).skip(whole) {
        *y += factor * x;
    }
}
