//! `y[m, n] = x[m, k] · wᵀ`. Each output is one chain of multiply-adds over ascending k, whatever the tile.

use crate::panel::{PANEL, PackedMatrix};
use crate::simd::Vector;

use super::accumulate;

/// # Safety
/// The CPU as for `V`; `NV * V::LEN == 32`; `x` has `m * k` elements, `y` `m * n`, k > 0.
#[inline(always)]
pub(crate) unsafe fn linear<V: Vector, const NV: usize, const R: usize, const HALF: usize>(
    x: &[f32],
    m: usize,
    w: &PackedMatrix,
    y: &mut [f32],
) {
    let mut row = 0;
    // SAFETY: every tile starts at a row with at least its own number of rows left.
    unsafe {
        while row + R <= m {
            tile::<V, NV, R>(x, row, w, y);
            row += R;
        }
        while row + HALF <= m {
            tile::<V, NV, HALF>(x, row, w, y);
            row += HALF;
        }
        while row < m {
            single::<V, NV>(x, row, w, y);
            row += 1;
        }
    }
}

/// `R` rows from `row` on, panel by panel.
///
/// # Safety
/// As for [`linear`]; `row + R <= m`.
#[inline(always)]
unsafe fn tile<V: Vector, const NV: usize, const R: usize>(x: &[f32], row: usize, w: &PackedMatrix, y: &mut [f32]) {
    let (n, k) = (w.n(), w.k());
    // SAFETY: rows and panels are in bounds by the caller's promise.
    unsafe {
        let mut rows = [x.as_ptr(); R];
        for (r, pointer) in rows.iter_mut().enumerate() {
            *pointer = x.as_ptr().add((row + r) * k);
        }
        for (p, panel) in w.panels().chunks_exact(k * PANEL).enumerate() {
            let mut acc = [[V::splat(0.0); NV]; R];
            accumulate::<V, R, NV>(&mut acc, &rows, panel.as_ptr(), k);
            for (r, acc_row) in acc.iter().enumerate() {
                store_outputs(acc_row, y, (row + r) * n + p * PANEL, PANEL.min(n - p * PANEL));
            }
        }
    }
}

/// One row, four panels at a time: a lone chain of additions would wait for itself.
///
/// # Safety
/// As for [`linear`]; `row < m`.
#[inline(always)]
unsafe fn single<V: Vector, const NV: usize>(x: &[f32], row: usize, w: &PackedMatrix, y: &mut [f32]) {
    const TOGETHER: usize = 4;
    let (n, k) = (w.n(), w.k());
    // SAFETY: rows and panels are in bounds by the caller's promise.
    unsafe {
        let inputs = x.as_ptr().add(row * k);
        let mut panel_at = 0;
        let groups = w.panels().chunks_exact(k * PANEL * TOGETHER);
        let rest = groups.remainder();
        for group in groups {
            let mut acc = [[V::splat(0.0); NV]; TOGETHER];
            let mut offset = 0;
            for i in 0..k {
                let input = V::splat(*inputs.add(i));
                for (p, acc_panel) in acc.iter_mut().enumerate() {
                    let outputs = group.as_ptr().add(offset).add(p * k * PANEL);
                    for (v, sum) in acc_panel.iter_mut().enumerate() {
                        *sum = input.mul_add(V::load(outputs.add(v * V::LEN)), *sum);
                    }
                }
                offset += PANEL;
            }
            for acc_panel in &acc {
                store_outputs(acc_panel, y, row * n + panel_at * PANEL, PANEL.min(n - panel_at * PANEL));
                panel_at += 1;
            }
        }
        for panel in rest.chunks_exact(k * PANEL) {
            let mut acc = [[V::splat(0.0); NV]; 1];
            accumulate::<V, 1, NV>(&mut acc, &[inputs], panel.as_ptr(), k);
            for acc_panel in &acc {
                store_outputs(acc_panel, y, row * n + panel_at * PANEL, PANEL.min(n - panel_at * PANEL));
            }
            panel_at += 1;
        }
    }
}

/// Writes the first `width` of a panel's outputs at `y[at..]`.
///
/// # Safety
/// The CPU as for `V`; `at + width <= y.len()`, `width <= 32`.
#[inline(always)]
unsafe fn store_outputs<V: Vector, const NV: usize>(acc: &[V; NV], y: &mut [f32], at: usize, width: usize) {
    // SAFETY: a full panel fits by the caller's promise; a narrow one goes through a buffer of 32.
    unsafe {
        let to = y.as_mut_ptr().add(at);
        if width == PANEL {
            for (v, sum) in acc.iter().enumerate() {
                sum.store(to.add(v * V::LEN));
            }
        } else {
            let mut buffer = [0.0f32; PANEL];
            for (v, sum) in acc.iter().enumerate() {
                sum.store(buffer.as_mut_ptr().add(v * V::LEN));
            }
            std::ptr::copy_nonoverlapping(buffer.as_ptr(), to, width);
        }
    }
}
