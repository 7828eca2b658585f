//! What the CPU can multiply at most, for the roofline. Must never touch memory beyond the first cache.

use crate::packed::STRIP;
use crate::simd::strip::Strip;

/// Independent chains of [`peak`].
const CHAINS: usize = 12;

/// Operations of one round of [`peak`]: a product and an addition for four bytes of each of 16 rows and each chain.
pub(crate) const PEAK_OPERATIONS: usize = 2 * 4 * STRIP * CHAINS;

/// Dot products of bytes as fast as they go, on numbers that stay in registers and the first cache.
///
/// # Safety
/// The CPU as for `S`.
#[inline(always)]
pub(crate) unsafe fn peak<S: Strip>(loops: usize) -> f32 {
    let (weights, x) = ([1u8; 64], [1i8; CHAINS * 4]);
    // SAFETY: 64 bytes of weights, four bytes of x for each chain.
    unsafe {
        let weights = S::quants(weights.as_ptr());
        let x = std::hint::black_box(&x).as_ptr();
        let mut sums = [S::ints(0); CHAINS];
        for _ in 0..loops * (STRIP / S::LEN) {
            for (chain, sum) in sums.iter_mut().enumerate() {
                *sum = S::dot(*sum, weights, x.add(chain * 4));
            }
        }
        let mut out = [0.0f32; STRIP];
        for sum in sums {
            let total = S::mul_add(S::floats(sum), S::splat(1.0), S::load(out.as_ptr()));
            S::store(total, out.as_mut_ptr());
        }
        out[0]
    }
}
