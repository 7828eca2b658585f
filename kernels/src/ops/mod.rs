//! The loops, written once over [`crate::simd::Vector`] and instantiated per instruction set by `registry`. They
//! trust their shapes: only `kernels` may call them, after its checks.
//!
//! Everything that computes a row reads that row only and adds in an order that depends on the row's own length, so
//! a row's result does not depend on the rows beside it: a request gives the same bytes alone and in a batch.

pub(crate) mod attention;
pub(crate) mod elementwise;
pub(crate) mod floats;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod packed;
pub(crate) mod peak;
pub(crate) mod quantize;
mod tiles;
pub(crate) mod top1;
pub(crate) mod whole;

/// Asks for memory that will be read soon. Any address is allowed: a wrong one does nothing. Into the second cache: asked
/// for nearer or past the caches (T0, NTA) a layer of experts takes 11 ms instead of 8 on a Zen 4, since those wait.
#[inline(always)]
pub(crate) fn fetch(at: *const u8, bytes: usize) {
    let mut line = 0;
    while line < bytes {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of x86-64.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.wrapping_add(line).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
        line += 64;
    }
}
