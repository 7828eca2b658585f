//! Keys and values in 8 bits back to f32. Plain loops over whole panels: they become vectors of whatever instructions
//! they are compiled for, and give the same bits with all of them.

use crate::panel::PANEL;

/// `out[i] = quants[i] * scale`: rows of 32 of which the first `key_rows` hold one element of 32 positions each, and the
/// others one position's elements each, positions ascending and again from the first. `scales` are those of 32 positions'
/// keys, then of their values.
#[inline(always)]
pub(crate) fn widen(quants: &[i8], key_rows: usize, scales: &[[f32; PANEL]; 2], out: &mut [f32]) {
    let [key_scales, value_scales] = scales;
    let rows = out.as_chunks_mut::<PANEL>().0.iter_mut().zip(quants.as_chunks::<PANEL>().0);
    for (index, (out, quants)) in rows.enumerate() {
        if index < key_rows {
            for ((out, quant), scale) in out.iter_mut().zip(quants).zip(key_scales) {
                *out = f32::from(*quant) * scale;
            }
        } else {
            let scale = value_scales[(index - key_rows) % PANEL];
            for (out, quant) in out.iter_mut().zip(quants) {
                *out = f32::from(*quant) * scale;
            }
        }
    }
}
