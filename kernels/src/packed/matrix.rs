//! A packed matrix: bytes that somebody owns, perhaps a file in memory, and their shape. Must never copy them.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{KernelError, expect};

use super::encode::Block;
use super::format::{Format, STRIP};
use super::{decode, encode};

/// Whoever owns the bytes of packed weights: a vector, or a file mapped to memory.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Weights `w[n, k]` in a packed format. Cheap to clone.
#[derive(Clone)]
pub struct PackedWeights {
    format: Format,
    n: usize,
    k: usize,
    owner: Bytes,
    range: Range<usize>,
}

impl std::fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PackedWeights { format, n, k, .. } = self;
        f.debug_struct("PackedWeights").field("format", format).field("n", n).field("k", k).finish_non_exhaustive()
    }
}

impl PackedWeights {
    /// The matrix `[n, k]` that lies at `range` of `owner`.
    ///
    /// # Errors
    /// When the range is not inside, or not as long as the format needs.
    pub fn new(format: Format, n: usize, k: usize, owner: Bytes, range: Range<usize>) -> Result<Self, KernelError> {
        let length = (*owner).as_ref().get(range.clone()).map_or(0, <[u8]>::len);
        expect("packed bytes", format.bytes(n, k), length)?;
        Ok(PackedWeights { format, n, k, owner, range })
    }

    /// Packs `weights[n, k]`.
    ///
    /// # Errors
    /// When a length does not fit, or a number cannot be stored.
    pub fn pack(format: Format, weights: &[f32], n: usize, k: usize) -> Result<Self, encode::EncodeError> {
        expect("weights", n.checked_mul(k), weights.len())?;
        PackedWeights::pack_rows(format, n, k, |row, out| copy_row(weights, row, out))
    }

    /// Packs the rows that `row` writes, called once for each by all threads of the shared team.
    ///
    /// # Errors
    /// When a number cannot be stored.
    pub fn pack_rows(
        format: Format,
        n: usize,
        k: usize,
        row: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Self, encode::EncodeError> {
        PackedWeights::made(format, n, k, |bytes| encode::encode(format, n, k, bytes, row))
    }

    /// Lays the blocks that `row` gives as they are, for formats whose scales are f16 and belong to a block; asked as by
    /// [`PackedWeights::pack_rows`].
    ///
    /// # Errors
    /// When a row has not as many blocks as its inputs need, or a scale is not finite.
    pub fn lay_rows(
        format: Format,
        n: usize,
        k: usize,
        row: impl Fn(usize, &mut Vec<Block>) + Sync,
    ) -> Result<Self, encode::EncodeError> {
        PackedWeights::made(format, n, k, |bytes| encode::lay(format, n, k, bytes, row))
    }

    fn made(
        format: Format,
        n: usize,
        k: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), encode::EncodeError>,
    ) -> Result<Self, encode::EncodeError> {
        let mut bytes = vec![0; format.bytes(n, k).unwrap_or_default()];
        fill(&mut bytes)?;
        let range = 0..bytes.len();
        Ok(PackedWeights { format, n, k, owner: Arc::new(bytes), range })
    }

    /// [`PackedWeights::pack`] into bytes that are there already.
    ///
    /// # Errors
    /// When a length does not fit, or a number cannot be stored.
    pub fn pack_into(
        format: Format,
        weights: &[f32],
        n: usize,
        k: usize,
        bytes: &mut [u8],
    ) -> Result<(), encode::EncodeError> {
        expect("weights", n.checked_mul(k), weights.len())?;
        encode::encode(format, n, k, bytes, |row, out| copy_row(weights, row, out))
    }

    /// How it is stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        (*self.owner).as_ref().get(self.range.clone()).unwrap_or_default()
    }

    /// Strips.
    pub(crate) fn strips(&self) -> usize {
        self.n.div_ceil(STRIP)
    }

    /// Bytes of a strip. It fits: the whole matrix does.
    pub(crate) fn strip_bytes(&self) -> usize {
        self.format.strip_bytes(self.k).unwrap_or_default()
    }

    /// Where strip `strip` begins; past the end for one that is not there.
    pub(super) fn strip(&self, strip: usize) -> *const u8 {
        self.bytes().as_ptr().wrapping_add(strip.wrapping_mul(self.strip_bytes()))
    }

    /// Row `row` as f32.
    ///
    /// # Errors
    /// When there is no such row, or `out` is not `k` long.
    pub fn row(&self, row: usize, out: &mut [f32]) -> Result<(), KernelError> {
        expect("row", Some(self.k), out.len())?;
        let strip = self.strip_bytes();
        let at = (row / STRIP).checked_mul(strip).filter(|_| row < self.n);
        let bytes = at.and_then(|at| self.bytes().get(at..at + strip));
        let bytes = bytes.ok_or(KernelError { what: "rows", expected: self.n, got: row })?;
        decode::row(self.format, bytes, row % STRIP, out);
        Ok(())
    }

    /// All numbers as f32, `[n, k]`: what the format has made of them.
    pub fn unpack(&self) -> Vec<f32> {
        let mut all = vec![0.0; self.n * self.k];
        for (index, row) in all.chunks_exact_mut(self.k.max(1)).enumerate() {
            let at = index / STRIP * self.strip_bytes();
            if let Some(bytes) = self.bytes().get(at..at + self.strip_bytes()) {
                decode::row(self.format, bytes, index % STRIP, row);
            }
        }
        all
    }
}

/// Row `row` of `weights[n, out.len()]`, whose length was checked.
fn copy_row(weights: &[f32], row: usize, out: &mut [f32]) {
    let k = out.len();
    if let Some(own) = weights.get(row * k..(row + 1) * k) {
        out.copy_from_slice(own);
    }
}
