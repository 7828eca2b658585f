//! How matrices lie in memory: in panels of 32 outputs, so that one inner loop, "broadcast an input, multiply it with
//! 32 neighbouring outputs' weights", serves linear layers, attention scores and attention sums alike, on any vector
//! width. Must never depend on the CPU: the same panels serve every kernel.

use crate::error::{KernelError, expect};

/// Outputs in a panel. Also the positions in a key/value panel, which is LLaDA2's block length.
pub const PANEL: usize = 32;

/// A weight matrix `w[n, k]` (row-major in the checkpoint) as `ceil(n / 32)` panels of `[k, 32]`; the outputs that
/// fill up the last panel are zero.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    n: usize,
    k: usize,
    panels: Vec<f32>,
}

impl PackedMatrix {
    /// Packs `weights[n, k]`.
    ///
    /// # Errors
    /// When `weights` has not `n * k` elements.
    pub fn pack(weights: &[f32], n: usize, k: usize) -> Result<Self, KernelError> {
        expect("weights", n.checked_mul(k), weights.len())?;
        let mut panels = vec![0.0; n.div_ceil(PANEL) * k * PANEL];
        if k > 0 {
            for (panel, rows) in panels.chunks_exact_mut(k * PANEL).zip(weights.chunks(k * PANEL)) {
                for (lane, row) in rows.chunks_exact(k).enumerate() {
                    for (column, weight) in panel.chunks_exact_mut(PANEL).zip(row) {
                        column[lane] = *weight;
                    }
                }
            }
        }
        Ok(PackedMatrix { n, k, panels })
    }

    /// Outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The panels, `[ceil(n / 32), k, 32]`.
    pub(crate) fn panels(&self) -> &[f32] {
        &self.panels
    }
}
