//! Activations as the packed products read them: tile after tile of rows, in each block by block, the tile's rows of a
//! block side by side. So a walk over the weights reads one piece of memory from end to end, however many rows there
//! are. Quantised to 8 bits with a scale for each block, or kept as f32, by what the weights need. Must never lay out weights.

use super::format::{BLOCK, GROUP};
use super::product::PackedKernels;

/// Rows of a tile; a whole number of every loop's tiles. Of all rows side by side 128 would lie 4 KB apart from block to
/// block, in the same few sets of the first cache.
const TILE: usize = 8;

/// Where block `block` of row `row` lies, in cells: of the tile's rows side by side, of its blocks, of all tiles.
#[inline(always)]
fn cell(rows: usize, blocks: usize, row: usize, block: usize) -> usize {
    let first = row - row % TILE;
    first * blocks + block * TILE.min(rows - first) + (row - first)
}

/// Rows of activations, prepared once and used by every matrix that reads them. Its memory is kept from use to use.
#[derive(Debug, Default)]
pub struct Inputs {
    rows: usize,
    k: usize,
    /// `[tiles, blocks, rows of the tile, 32]`.
    pub(super) quants: Vec<i8>,
    /// `[tiles, blocks, rows of the tile]`: what a quant is worth.
    pub(super) scales: Vec<f32>,
    /// `[tiles, blocks, rows of the tile]`: -8 Σ quants as the kernels want it, where the product of nibbles begins.
    pub(super) offsets: Vec<i32>,
    /// `[tiles, blocks, rows of the tile]`: Σ quants, what a weight's minimum is multiplied with.
    pub(super) sums: Vec<f32>,
    /// `[tiles, blocks, rows of the tile, 32]`, for bf16 weights.
    pub(super) exact: Vec<f32>,
    has: Has,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Has {
    quants: bool,
    exact: bool,
}

/// Raw parts for the loops.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) quants: *const i8,
    pub(crate) scales: *const f32,
    pub(crate) offsets: *const i32,
    pub(crate) sums: *const f32,
    pub(crate) exact: *const f32,
    /// Blocks of a row.
    pub(crate) blocks: usize,
    /// Rows.
    pub(crate) rows: usize,
}

impl View {
    /// Where row `row` begins, in cells, and how many cells its next block is away.
    #[inline(always)]
    pub(crate) fn walk(&self, row: usize) -> (usize, usize) {
        let first = row - row % TILE;
        (cell(self.rows, self.blocks, row, 0), TILE.min(self.rows - first))
    }
}

// SAFETY: read-only pointers into an `Inputs` that outlives the parallel section.
unsafe impl Sync for View {}
// SAFETY: as above.
unsafe impl Send for View {}

impl Inputs {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Blocks of a row; even, as groups are two.
    pub(super) fn blocks(&self) -> usize {
        self.k.div_ceil(GROUP) * (GROUP / BLOCK)
    }

    /// Room for `rows` rows of `k`, holding nothing yet.
    pub(super) fn shape(&mut self, rows: usize, k: usize, integer: bool, exact: bool) {
        (self.rows, self.k) = (rows, k);
        self.has = Has { quants: integer, exact };
        let cells = self.blocks() * rows;
        if integer {
            self.quants.resize(cells * BLOCK, 0);
            self.scales.resize(cells, 0.0);
            self.offsets.resize(cells, 0);
            self.sums.resize(cells, 0.0);
        }
        if exact {
            self.exact.resize(cells * BLOCK, 0.0);
        }
    }

    /// What became of a row's numbers when they were quantised; `None` when they were not, or there is no such row.
    pub fn quantised(&self, row: usize) -> Option<Vec<f32>> {
        (self.has.quants && row < self.rows).then_some(())?;
        let numbers = (0..self.k).map(|i| {
            let cell = cell(self.rows, self.blocks(), row, i / BLOCK);
            f32::from(self.quants[cell * BLOCK + i % BLOCK]) * self.scales[cell]
        });
        Some(numbers.collect())
    }

    /// Whether it was filled for such weights.
    pub(super) fn serves(&self, integer: bool) -> bool {
        if integer { self.has.quants } else { self.has.exact }
    }

    /// All rows.
    pub(super) fn view(&self) -> View {
        View {
            quants: self.quants.as_ptr(),
            scales: self.scales.as_ptr(),
            offsets: self.offsets.as_ptr(),
            sums: self.sums.as_ptr(),
            exact: self.exact.as_ptr(),
            blocks: self.blocks(),
            rows: self.rows,
        }
    }

    /// `rows` rows that were filled by [`Writer::part`] from row `first` on.
    pub(super) fn part(&self, first: usize, rows: usize) -> View {
        debug_assert!(first + rows <= self.rows);
        let (cells, whole) = (first * self.blocks(), self.view());
        View {
            quants: whole.quants.wrapping_add(cells * BLOCK),
            scales: whole.scales.wrapping_add(cells),
            offsets: whole.offsets.wrapping_add(cells),
            sums: whole.sums.wrapping_add(cells),
            exact: whole.exact.wrapping_add(cells * BLOCK),
            blocks: whole.blocks,
            rows,
        }
    }

    /// For filling row by row, from several threads if they share the rows out.
    pub(super) fn writer(&mut self) -> Writer {
        Writer {
            quants: self.quants.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            offsets: self.offsets.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
            exact: self.exact.as_mut_ptr(),
            rows: self.rows,
            blocks: self.blocks(),
            has: self.has,
        }
    }

    /// Copies `rows` (by index) of `from` here, whose shape becomes theirs.
    pub(super) fn gather(&mut self, from: &Inputs, rows: &[u32]) {
        self.shape(rows.len(), from.k, from.has.quants, from.has.exact);
        let blocks = self.blocks();
        for block in 0..blocks {
            for (to, row) in rows.iter().enumerate() {
                let to = cell(rows.len(), blocks, to, block);
                let at = cell(from.rows, blocks, *row as usize, block);
                if self.has.quants {
                    self.quants[to * BLOCK..(to + 1) * BLOCK]
                        .copy_from_slice(&from.quants[at * BLOCK..(at + 1) * BLOCK]);
                    self.scales[to] = from.scales[at];
                    self.offsets[to] = from.offsets[at];
                    self.sums[to] = from.sums[at];
                }
                if self.has.exact {
                    self.exact[to * BLOCK..(to + 1) * BLOCK].copy_from_slice(&from.exact[at * BLOCK..(at + 1) * BLOCK]);
                }
            }
        }
    }
}

/// Raw parts to be filled.
pub(super) struct Writer {
    quants: *mut i8,
    scales: *mut f32,
    offsets: *mut i32,
    sums: *mut f32,
    exact: *mut f32,
    rows: usize,
    blocks: usize,
    has: Has,
}

// SAFETY: whoever calls `put` promises that no other thread writes the same row, and the `Inputs` is borrowed mutably
// when the writer is made.
unsafe impl Sync for Writer {}

impl Writer {
    /// `rows` rows from `first` on as a matrix of their own.
    pub(super) fn part(&self, first: usize, rows: usize) -> Writer {
        let cells = first * self.blocks;
        Writer {
            quants: self.quants.wrapping_add(cells * BLOCK),
            scales: self.scales.wrapping_add(cells),
            offsets: self.offsets.wrapping_add(cells),
            sums: self.sums.wrapping_add(cells),
            exact: self.exact.wrapping_add(cells * BLOCK),
            rows,
            ..*self
        }
    }

    /// Writes one row.
    ///
    /// # Safety
    /// The `Inputs` is still there and nobody reads it; `row` is one of its rows, `x` has its `k` elements, and nobody
    /// else writes this row.
    pub(super) unsafe fn put(&self, kernels: &PackedKernels, row: usize, x: &[f32]) {
        for block in 0..self.blocks {
            let mut padded = [0.0f32; BLOCK];
            let numbers = match x.get(block * BLOCK..(block + 1) * BLOCK) {
                Some(whole) => whole,
                None => {
                    let rest = x.get(block * BLOCK..).unwrap_or_default();
                    for (place, number) in padded.iter_mut().zip(rest) {
                        *place = *number;
                    }
                    &padded
                }
            };
            let at = cell(self.rows, self.blocks, row, block);
            // SAFETY: the cell is inside by the caller's promise; the numbers are a block; the registry saw the CPU.
            unsafe {
                if self.has.quants {
                    let (scale, sum, offset) = (kernels.quantize)(numbers.as_ptr(), self.quants.add(at * BLOCK));
                    self.scales.add(at).write(scale);
                    self.offsets.add(at).write(offset);
                    self.sums.add(at).write(scale * sum as f32);
                }
                if self.has.exact {
                    std::ptr::copy_nonoverlapping(numbers.as_ptr(), self.exact.add(at * BLOCK), BLOCK);
                }
            }
        }
    }
}
