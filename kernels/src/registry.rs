//! The one ordered list of kernels, best first. The picker, the tests and the tools all read this list. Must never
//! hand out a kernel that the CPU cannot run.

use std::sync::OnceLock;

use crate::kernels::Kernels;

/// Writes a module of monomorphic loops for one vector type and its row of the list.
macro_rules! instance {
    ($module:ident, $name:literal, $vector:ty, nv $nv:literal, rows $rows:literal, wide $wide:literal, attention ($arows:literal, $anv:literal), whole ($whole:ty, $wrows:literal, $wnv:literal, $wall:literal) $(, $feature:literal)?) => {
        mod $module {
            use crate::kernels::{AttentionShape, Kernels, Visible};
            use crate::kv::KvPanel;
            use crate::ops;
            use crate::panel::PackedMatrix;

            /// # Safety
            /// The CPU has the features; otherwise as for the loop.
            $(#[target_feature(enable = $feature)])?
            unsafe fn linear(x: &[f32], m: usize, w: &PackedMatrix, y: &mut [f32]) {
                // SAFETY: passed on to the caller.
                unsafe { ops::linear::linear::<$vector, $nv, $rows, $wide>(x, m, w, y) }
            }
            /// # Safety
            /// The CPU has the features; otherwise as for the loop.
            $(#[target_feature(enable = $feature)])?
            unsafe fn rms_norm(x: *const f32, y: *mut f32, rows: usize, weight: &[f32], eps: f32) {
                // SAFETY: passed on to the caller.
                unsafe { ops::norm::rms_norm::<$vector>(x, y, rows, weight, eps) }
            }
            /// # Safety
            /// The CPU has the features; otherwise as for the loop.
            $(#[target_feature(enable = $feature)])?
            unsafe fn silu_mul(gate: &mut [f32], up: &[f32]) {
                // SAFETY: passed on to the caller.
                unsafe { ops::elementwise::silu_mul::<$vector>(gate, up) }
            }
            /// # Safety
            /// The CPU has the features; otherwise as for the loop.
            $(#[target_feature(enable = $feature)])?
            unsafe fn add_scaled(y: &mut [f32], x: &[f32], factor: f32) {
                // SAFETY: passed on to the caller.
                unsafe { ops::elementwise::add_scaled::<$vector>(y, x, factor) }
            }
            /// # Safety
            /// The CPU has the features; otherwise as for the loop.
            $(#[target_feature(enable = $feature)])?
            unsafe fn max_and_sum(logits: &[f32]) -> (f32, f32) {
                // SAFETY: passed on to the caller.
                unsafe { ops::top1::max_and_sum::<$vector>(logits) }
            }
            /// # Safety
            /// The CPU has the features; otherwise as for the loop.
            $(#[target_feature(enable = $feature)])?
            unsafe fn attention(shape: AttentionShape, places: ops::attention::Places, panels: &[KvPanel<'_>], visible: Visible<'_>, only: Option<usize>) {
                // SAFETY: passed on to the caller.
                unsafe {
                    let mut reading = ops::floats::Floats::new();
                    ops::attention::attention::<$vector, $arows, $anv, $nv>(&mut reading, shape, places, panels, visible, only)
                }
            }
            /// # Safety
            /// The CPU has the features; otherwise as for the loop.
            $(#[target_feature(enable = $feature)])?
            unsafe fn attention_whole(shape: AttentionShape, places: ops::attention::Places, panels: &[KvPanel<'_>], visible: Visible<'_>, only: Option<usize>) {
                // SAFETY: passed on to the caller.
                unsafe {
                    let mut reading = ops::whole::WholeNumbers::new();
                    ops::attention::attention::<$whole, $wrows, $wnv, $wall>(&mut reading, shape, places, panels, visible, only)
                }
            }

            pub(super) static KERNELS: Kernels =
                Kernels { name: $name, linear, rms_norm, silu_mul, add_scaled, max_and_sum, attention, attention_whole };
        }
    };
}

#[cfg(target_arch = "x86_64")]
instance!(avx512, "avx512", crate::simd::x86::Avx512, nv 2, rows 8, wide 4, attention (8, 2), whole (crate::simd::x86::Avx2, 6, 2, 4), "avx512f,avx2,fma");
#[cfg(target_arch = "x86_64")]
instance!(avx2, "avx2", crate::simd::x86::Avx2, nv 4, rows 2, wide 2, attention (6, 2), whole (crate::simd::x86::Avx2, 6, 2, 4), "avx2,fma");
instance!(portable, "portable", crate::simd::portable::Portable, nv 4, rows 1, wide 1, attention (1, 4), whole (crate::simd::portable::Portable, 1, 4, 4));

/// One row of the list.
#[derive(Debug)]
pub struct Entry {
    /// Name of the kernels.
    pub name: &'static str,
    /// The kernels, `None` where this CPU lacks the instructions.
    pub kernels: Option<&'static Kernels>,
}

/// Every kernel this program was built with, best first. The last one runs anywhere.
pub fn all() -> Vec<Entry> {
    let mut entries = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        // A virtual machine may show one without the other.
        let has_avx512 = has_avx2 && is_x86_feature_detected!("avx512f");
        entries.push(Entry { name: "avx512", kernels: has_avx512.then_some(&avx512::KERNELS) });
        entries.push(Entry { name: "avx2", kernels: has_avx2.then_some(&avx2::KERNELS) });
    }
    entries.push(Entry { name: "portable", kernels: Some(&portable::KERNELS) });
    entries
}

/// The best kernels this CPU can run.
pub fn best() -> &'static Kernels {
    static BEST: OnceLock<&Kernels> = OnceLock::new();
    BEST.get_or_init(|| all().into_iter().find_map(|entry| entry.kernels).unwrap_or(&portable::KERNELS))
}
