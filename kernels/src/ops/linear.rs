//! `y[m, n] = x[m, k] · wᵀ`. Each output is one chain of multiply-adds over ascending k, whatever the tile.

use crate::panel::{PANEL, PackedMatrix};
use crate::simd::Vector;

/// # Safety
/// The CPU as for `V`; `NV * V::LEN == 32`; `x` has `m * k` elements, `y` `m * n`, k > 0.
#[inline(always)]
pub(crate) unsafe fn linear<V: Vector, const NV: usize, const R: usize, const WIDE: usize>(
    x: &[f32],
    m: usize,
    w: &PackedMatrix,
    y: &mut [f32],
) {
    let rest = m % R;
    let whole = m - rest;
    let step = w.k() * PANEL;
    // SAFETY: every tile starts at a row and a panel with at least its own number left.
    unsafe {
        if whole > 0 {
            // A panel stays in the first cache while all rows pass it.
            for (p, panel) in w.panels().chunks_exact(step).enumerate() {
                let mut row = 0;
                while row < whole {
                    tile::<V, NV, R, 1>(x, row, w, p, panel.as_ptr(), y);
                    row += R;
                }
            }
        }
        // A tile as high as `R` is never made here, but the compiler is to see that.
        match rest {
            0 => {}
            7 if R > 7 => few::<V, NV, 7, 1>(x, whole, w, y),
            6 if R > 6 => few::<V, NV, 6, 1>(x, whole, w, y),
            5 if R > 5 => few::<V, NV, 5, 1>(x, whole, w, y),
            4 if R > 4 => few::<V, NV, 4, 2>(x, whole, w, y),
            3 if R > 3 => few::<V, NV, 3, 2>(x, whole, w, y),
            2 if R > 2 => few::<V, NV, 2, WIDE>(x, whole, w, y),
            _ => few::<V, NV, 1, WIDE>(x, whole, w, y),
        }
    }
}

/// The last `R` rows, from `row` on, `P` panels at a time: few chains of additions would wait for each other.
///
/// # Safety
/// As for [`linear`]; `row + R <= m`.
#[inline(always)]
unsafe fn few<V: Vector, const NV: usize, const R: usize, const P: usize>(
    x: &[f32],
    row: usize,
    w: &PackedMatrix,
    y: &mut [f32],
) {
    let step = w.k() * PANEL;
    let groups = w.panels().chunks_exact(step * P);
    let rest = groups.remainder();
    let mut panel_at = 0;
    // SAFETY: rows and panels are in bounds by the caller's promise.
    unsafe {
        for group in groups {
            tile::<V, NV, R, P>(x, row, w, panel_at, group.as_ptr(), y);
            panel_at += P;
        }
        for panel in rest.chunks_exact(step) {
            tile::<V, NV, R, 1>(x, row, w, panel_at, panel.as_ptr(), y);
            panel_at += 1;
        }
    }
}

/// `R` rows from `row` on times the `P` panels at `panels`, the first of which is number `first`.
///
/// # Safety
/// As for [`linear`]; `row + R <= m`, and there are `P` panels.
#[inline(always)]
unsafe fn tile<V: Vector, const NV: usize, const R: usize, const P: usize>(
    x: &[f32],
    row: usize,
    w: &PackedMatrix,
    first: usize,
    panels: *const f32,
    y: &mut [f32],
) {
    let (n, k) = (w.n(), w.k());
    // SAFETY: i < k bounds the rows, P * k * 32 the panels; the outputs of a panel that is not full stay inside y.
    unsafe {
        // Pointers that only move on: a checked index in this loop would cost as much as the products.
        let mut rows = [x.as_ptr(); R];
        for (r, pointer) in rows.iter_mut().enumerate() {
            *pointer = x.as_ptr().add((row + r) * k);
        }
        let mut weights = [panels; P];
        for (p, pointer) in weights.iter_mut().enumerate() {
            *pointer = panels.add(p * k * PANEL);
        }
        let mut acc = [[[V::splat(0.0); NV]; R]; P];
        for i in 0..k {
            for (acc, weights) in acc.iter_mut().zip(&mut weights) {
                let mut outputs = [V::splat(0.0); NV];
                for (v, output) in outputs.iter_mut().enumerate() {
                    *output = V::load(weights.add(v * V::LEN));
                }
                for (sums, row) in acc.iter_mut().zip(&rows) {
                    let input = V::splat(*row.add(i));
                    for (sum, output) in sums.iter_mut().zip(outputs) {
                        *sum = input.mul_add(output, *sum);
                    }
                }
                *weights = weights.add(PANEL);
            }
        }
        for (p, acc) in acc.iter().enumerate() {
            let at = (first + p) * PANEL;
            for (r, sums) in acc.iter().enumerate() {
                store_outputs(sums, y, (row + r) * n + at, PANEL.min(n - at));
            }
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
