//! Products that one thread makes alone, of rows that are its own: inside a section, where the team is at work already.
//! To the bit what the shared products give. Must never wait for anybody.

use crate::error::{KernelError, expect};

use super::format::STRIP;
use super::inputs::Inputs;
use super::matrix::PackedWeights;
use super::product::{PackedKernels, check};

/// One thread's rows as the packed products read them, and room for a strip that is not whole.
#[derive(Debug, Default)]
pub struct Alone {
    inputs: Inputs,
    strip: Vec<f32>,
}

impl Alone {
    /// Takes `x[rows, k]` in for weights that want integers, f32, or both.
    ///
    /// # Errors
    /// When `x` has not `rows * k` elements.
    pub fn fill(
        &mut self,
        kernels: &PackedKernels,
        x: &[f32],
        rows: usize,
        k: usize,
        (integer, exact): (bool, bool),
    ) -> Result<(), KernelError> {
        expect("x", rows.checked_mul(k), x.len())?;
        self.inputs.shape(rows, k, integer, exact);
        let writer = self.inputs.writer();
        for (row, x) in x.chunks_exact(k.max(1)).enumerate() {
            // SAFETY: there is room for every row and block, and nobody else has these inputs.
            unsafe { writer.put(kernels, row, x) };
        }
        Ok(())
    }

    /// `y[rows, n] = x · wᵀ` of the rows taken in.
    ///
    /// # Errors
    /// When they were taken in for other weights, or `y` has not `rows * n` elements.
    pub fn linear(&mut self, kernels: &PackedKernels, w: &PackedWeights, y: &mut [f32]) -> Result<(), KernelError> {
        check(&self.inputs, w)?;
        let (rows, n) = (self.inputs.rows(), w.n());
        expect("y", rows.checked_mul(n), y.len())?;
        let view = self.inputs.view();
        // Small enough to lie in a cache: nothing is fetched ahead.
        let ahead = std::ptr::null();
        for strip in 0..n / STRIP {
            // SAFETY: shapes are checked above, and rows of `y` take whole strips.
            unsafe { kernels.strip_of(w, strip, &view, ahead, (y.as_mut_ptr().add(strip * STRIP), n)) };
        }
        let (whole, width) = (n / STRIP, n % STRIP);
        if width > 0 {
            self.strip.resize(rows * STRIP, 0.0);
            // SAFETY: the buffer takes rows * 16 floats.
            unsafe { kernels.strip_of(w, whole, &view, ahead, (self.strip.as_mut_ptr(), STRIP)) };
            for (y, sums) in y.chunks_exact_mut(n).zip(self.strip.chunks_exact(STRIP)) {
                for (place, sum) in y.iter_mut().skip(whole * STRIP).zip(sums) {
                    *place = *sum;
                }
            }
        }
        Ok(())
    }
}
