//! Panels of keys and values as f32: where they lie, or unpacked, to the same bits with every vector. Must never read
//! what a panel has not.

use half::bf16;

use crate::kv::KvPanel;
use crate::panel::PANEL;
use crate::simd::Vector;

/// `[d, 32]` of a panel's keys; in `to`, where they are not f32.
///
/// # Safety
/// The CPU as for `V`; `to` has room for them.
#[inline(always)]
pub(super) unsafe fn keys<V: Vector>(panel: &KvPanel<'_>, to: *mut f32) -> *const f32 {
    // SAFETY: a panel's keys are rows of 32 numbers.
    unsafe {
        match panel {
            KvPanel::F32 { keys, .. } => return keys.as_ptr(),
            KvPanel::Bf16 { keys, .. } => unpack_bf16::<V>(keys, to),
            KvPanel::Int8 { keys, scales: [scales, _], .. } => {
                for part in (0..PANEL).step_by(V::LEN) {
                    let scales = V::load(scales.as_ptr().add(part));
                    for at in (part..keys.len()).step_by(PANEL) {
                        V::load_i8(keys.as_ptr().add(at)).mul(scales).store(to.add(at));
                    }
                }
            }
        }
    }
    to
}

/// Elements 32 `dp` to 32 `dp + 31` of a panel's values, `[32 positions, 32]`; in `to`, where they are not f32.
///
/// # Safety
/// The CPU as for `V`; the panel has these elements, and `to` has room for them.
#[inline(always)]
pub(super) unsafe fn values<V: Vector>(panel: &KvPanel<'_>, dp: usize, to: *mut f32) -> *const f32 {
    const SQUARE: usize = PANEL * PANEL;
    let range = dp * SQUARE..(dp + 1) * SQUARE;
    // SAFETY: by the caller's promise.
    unsafe {
        match panel {
            KvPanel::F32 { values, .. } => return values.get_unchecked(range).as_ptr(),
            KvPanel::Bf16 { values, .. } => unpack_bf16::<V>(values.get_unchecked(range), to),
            KvPanel::Int8 { values, scales: [_, scales], .. } => {
                let values = values.get_unchecked(range).as_ptr();
                for (row, scale) in scales.iter().enumerate() {
                    let scale = V::splat(*scale);
                    for at in (row * PANEL..(row + 1) * PANEL).step_by(V::LEN) {
                        V::load_i8(values.add(at)).mul(scale).store(to.add(at));
                    }
                }
            }
        }
    }
    to
}

/// # Safety
/// The CPU as for `V`; `numbers` are rows of 32, and `to` has room for them.
#[inline(always)]
unsafe fn unpack_bf16<V: Vector>(numbers: &[bf16], to: *mut f32) {
    for at in (0..numbers.len()).step_by(V::LEN) {
        // SAFETY: V::LEN divides 32; a bf16 is its bits.
        unsafe { V::load_bf16(numbers.as_ptr().add(at).cast()).store(to.add(at)) }
    }
}
