//! The loops, written once over [`crate::simd::Vector`] and instantiated per instruction set by `registry`. They
//! trust their shapes: only `kernels` may call them, after its checks.
//!
//! Everything that computes a row reads that row only and adds in an order that depends on the row's own length, so
//! a row's result does not depend on the rows beside it: a request gives the same bytes alone and in a batch.

pub(crate) mod attention;
pub(crate) mod elementwise;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod packed;
pub(crate) mod peak;
pub(crate) mod quantize;
pub(crate) mod top1;
pub(crate) mod widen;

use crate::panel::PANEL;
use crate::simd::Vector;

/// `acc[r] += Σ_i rows[r][i] * panel[i]`, i ascending; `NV` vectors make a panel's 32 outputs.
///
/// # Safety
/// The CPU as for `V`; each row has `k` elements, `panel` `k * 32`; `NV * V::LEN == 32`.
#[inline(always)]
pub(crate) unsafe fn accumulate<V: Vector, const R: usize, const NV: usize>(
    acc: &mut [[V; NV]; R],
    rows: &[*const f32; R],
    panel: *const f32,
    k: usize,
) {
    // SAFETY: i < k bounds the rows, k * 32 bounds the panel.
    unsafe {
        let mut weights = panel;
        for i in 0..k {
            let mut outputs = [V::splat(0.0); NV];
            for (v, output) in outputs.iter_mut().enumerate() {
                *output = V::load(weights.add(v * V::LEN));
            }
            for (acc_row, row) in acc.iter_mut().zip(rows) {
                let input = V::splat(*row.add(i));
                for (sum, output) in acc_row.iter_mut().zip(outputs) {
                    *sum = input.mul_add(output, *sum);
                }
            }
            weights = weights.add(PANEL);
        }
    }
}
