//! What the CPU can multiply at most, for the roofline. Must never touch memory beyond the first cache.

use crate::packed::STRIP;
use crate::simd::strip::Strip;

/// Chains of products of one loop of [`peak`]; divided by 1, 2, 3, 4, 6 and 12.
const CHAINS: usize = 12;

/// Operations of one loop of [`peak`]: a product and an addition for four bytes of each of 16 rows and each chain.
pub(crate) const PEAK_OPERATIONS: usize = 2 * 4 * STRIP * CHAINS;

/// Dot products of bytes as fast as they go, on numbers that stay in registers and the first cache. `C` chains at a
/// time, which divides 12: as many as there are registers for.
///
/// # Safety
/// The CPU as for `S`.
#[inline(always)]
pub(crate) unsafe fn peak<S: Strip, const C: usize>(loops: usize) -> f32 {
    let (weights, x) = ([1u8; 64], [1i8; CHAINS * 4]);
    // SAFETY: 64 bytes of weights, four bytes of x for each chain.
    unsafe {
        let x = std::hint::black_box(&x).as_ptr();
        // What they add up to is not looked at: it may overflow.
        let mut sums = [S::begin(0); C];
        for _ in 0..loops * (STRIP / S::LEN) * (CHAINS / C) {
            // Read anew each round: a compiler would multiply once and only add.
            let weights = S::quants(std::hint::black_box(&weights).as_ptr());
            for (chain, sum) in sums.iter_mut().enumerate() {
                *sum = S::dot(*sum, weights, x.add(chain * 4));
            }
        }
        let mut out = [0.0f32; STRIP];
        for sum in sums {
            let total = S::mul_add(S::floats(S::end(sum)), S::splat(1.0), S::load(out.as_ptr()));
            S::store(total, out.as_mut_ptr());
        }
        out[0]
    }
}
