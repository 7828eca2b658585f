//! The one ordered list of packed kernels, best first; the picker, the tests and the tools all read it. Must never hand
//! out a kernel that the CPU cannot run.

use super::product::PackedKernels;

/// Writes a module of loops for one instruction set and its row of the list. `tile` rows share what was unpacked; the
/// peak is measured by `chains` sums at once.
macro_rules! instance {
    (
        $module:ident, $name:literal, $strip:ty, $vector:ty, tile $tile:literal, chains $chains:literal
        $(, $feature:literal)?
    ) => {
        mod $module {
            use crate::ops;
            use crate::packed::{Format, PackedKernels, View};

            /// # Safety
            /// The CPU has the features; otherwise as for the loop.
            $(#[target_feature(enable = $feature)])?
            unsafe fn strip(
                format: Format,
                strip: *const u8,
                groups: usize,
                x: &View,
                ahead: *const u8,
                out: *mut f32,
                stride: usize,
            ) {
                // SAFETY: passed on to the caller.
                unsafe { ops::packed::strip::<$strip, $tile>(format, strip, groups, x, ahead, out, stride) }
            }
            /// # Safety
            /// The CPU has the features; otherwise as for the loop.
            $(#[target_feature(enable = $feature)])?
            unsafe fn quantize(x: *const f32, to: *mut i8) -> (f32, i32, i32) {
                // SAFETY: passed on to the caller.
                unsafe { ops::quantize::quantize::<$vector, $strip>(x, to) }
            }

            /// # Safety
            /// The CPU has the features.
            $(#[target_feature(enable = $feature)])?
            unsafe fn peak(loops: usize) -> f32 {
                // SAFETY: passed on to the caller.
                unsafe { ops::peak::peak::<$strip, $chains>(loops) }
            }

            pub(super) static KERNELS: PackedKernels = PackedKernels { name: $name, strip, quantize, peak };
        }
    };
}

#[cfg(target_arch = "x86_64")]
instance!(
    avx512vnni, "avx512-vnni", crate::simd::strip_x86::Avx512Vnni, crate::simd::x86::Avx512, tile 8, chains 12,
    "avx512f,avx512bw,avx512vnni"
);
#[cfg(target_arch = "x86_64")]
instance!(
    avx2vnni, "avx2-vnni", crate::simd::strip_x86::Avx2Vnni, crate::simd::x86::Avx2, tile 4, chains 6,
    "avx2,fma,f16c,avxvnni"
);
#[cfg(target_arch = "x86_64")]
instance!(avx2, "avx2", crate::simd::strip_x86::Avx2, crate::simd::x86::Avx2, tile 4, chains 6, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
instance!(ssse3, "ssse3", crate::simd::strip_sse::Ssse3, crate::simd::portable::Portable, tile 4, chains 6, "ssse3");
#[cfg(target_arch = "x86_64")]
instance!(sse2, "sse2", crate::simd::strip_sse::Sse2, crate::simd::portable::Portable, tile 2, chains 4, "sse2");
#[cfg(target_arch = "aarch64")]
instance!(
    neondot, "neon-dotprod", crate::simd::strip_neon::NeonDot, crate::simd::portable::Portable, tile 8, chains 12,
    "neon,dotprod"
);
#[cfg(target_arch = "aarch64")]
instance!(neon, "neon", crate::simd::strip_neon::Neon, crate::simd::portable::Portable, tile 4, chains 6, "neon");
instance!(portable, "portable", crate::simd::strip_portable::Plain, crate::simd::portable::Portable, tile 1, chains 12);

/// One row of the list.
#[derive(Debug)]
pub struct PackedEntry {
    /// Name of the kernels.
    pub name: &'static str,
    /// The kernels, `None` where this CPU lacks the instructions.
    pub kernels: Option<&'static PackedKernels>,
}

/// Every packed kernel this program was built with, best first. The last one runs anywhere.
pub fn all() -> Vec<PackedEntry> {
    let mut entries = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let avx512vnni = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        let avx2 =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        let avx2vnni = avx2 && is_x86_feature_detected!("avxvnni");
        entries.push(PackedEntry { name: "avx512-vnni", kernels: avx512vnni.then_some(&avx512vnni::KERNELS) });
        entries.push(PackedEntry { name: "avx2-vnni", kernels: avx2vnni.then_some(&avx2vnni::KERNELS) });
        entries.push(PackedEntry { name: "avx2", kernels: avx2.then_some(&avx2::KERNELS) });
        let ssse3 = is_x86_feature_detected!("ssse3");
        entries.push(PackedEntry { name: "ssse3", kernels: ssse3.then_some(&ssse3::KERNELS) });
        let sse2 = is_x86_feature_detected!("sse2");
        entries.push(PackedEntry { name: "sse2", kernels: sse2.then_some(&sse2::KERNELS) });
    }
    #[cfg(target_arch = "aarch64")]
    {
        let dotprod = std::arch::is_aarch64_feature_detected!("dotprod");
        entries.push(PackedEntry { name: "neon-dotprod", kernels: dotprod.then_some(&neondot::KERNELS) });
        let neon = std::arch::is_aarch64_feature_detected!("neon");
        entries.push(PackedEntry { name: "neon", kernels: neon.then_some(&neon::KERNELS) });
    }
    entries.push(PackedEntry { name: "portable", kernels: Some(&portable::KERNELS) });
    entries
}

/// The best packed kernels this CPU can run.
pub fn best() -> &'static PackedKernels {
    all().into_iter().find_map(|entry| entry.kernels).unwrap_or(&portable::KERNELS)
}
