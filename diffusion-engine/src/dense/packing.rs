//! A GGUF tensor's rows as a matrix that the kernels multiply with. Blocks that a layout of theirs can hold are laid as
//! they are; all others are decoded and rounded once. Must never hold a whole tensor as f32 that is packed in the end.

use weir_kernels::PackedMatrix;
use weir_kernels::packed::{Block, EncodeError, Format, PackedWeights};

use crate::checkpoint::elements::Element;
use crate::model::matrix::{Matrix, Table};

/// A tensor `[n, k]` as it lies in a file, whole rows of blocks.
pub(super) struct Rows<'a> {
    pub(super) element: Element,
    pub(super) bytes: &'a [u8],
    pub(super) n: usize,
    pub(super) k: usize,
}

impl Rows<'_> {
    /// The matrix whose row `i` is row `order(i)` of the file, or what is wrong with its numbers.
    pub(super) fn matrix(&self, order: impl Fn(usize) -> usize + Sync) -> Result<Matrix, String> {
        let Rows { element, n, k, .. } = *self;
        let row = |index: usize| self.row(order(index));
        let packed =
            match element {
                Element::F32 => {
                    let values = self.values(order)?;
                    return PackedMatrix::pack(&values, n, k).map(Matrix::Exact).map_err(|error| error.to_string());
                }
                Element::Q4_0 => PackedWeights::lay_rows(Format::Q4, n, k, |index, blocks| {
                    blocks.extend(row(index).as_chunks::<18>().0.iter().map(|[low, high, quants @ ..]| Block {
                        scale: [*low, *high],
                        quants: std::array::from_fn(|at| (quants[at % 16] >> (at / 16 * 4) & 15) as i8),
                    }));
                }),
                Element::Q8_0 => PackedWeights::lay_rows(Format::Q8, n, k, |index, blocks| {
                    blocks.extend(row(index).as_chunks::<34>().0.iter().map(|[low, high, quants @ ..]| Block {
                        scale: [*low, *high],
                        quants: quants.map(|q| q as i8),
                    }));
                }),
                _ => {
                    let format = if element == Element::Bf16 { Format::Bf16 } else { Format::Q8 };
                    PackedWeights::pack_rows(format, n, k, |index, out| {
                        out.iter_mut().zip(element.decode(row(index))).for_each(|(out, value)| *out = value);
                    })
                }
            };
        packed.map(Matrix::Packed).map_err(|error| match error {
            EncodeError::Number { row, .. } => not_finite(order(row)),
            error @ EncodeError::Shape(_) => error.to_string(),
        })
    }

    /// The embeddings: packed ones are one piece of memory with the matrix of the same tensor.
    pub(super) fn table(&self, matrix: &Matrix) -> Result<Table, String> {
        match matrix {
            Matrix::Packed(packed) => Ok(Table::Packed(packed.clone())),
            Matrix::Exact(_) => self.values(|row| row).map(Table::Exact),
        }
    }

    fn row(&self, index: usize) -> &[u8] {
        let length = self.element.bytes(&[self.k]).unwrap_or_default();
        let own = index.checked_mul(length).and_then(|at| self.bytes.get(at..)?.get(..length));
        own.unwrap_or_default()
    }

    fn values(&self, order: impl Fn(usize) -> usize) -> Result<Vec<f32>, String> {
        let mut values = Vec::with_capacity(self.bytes.len() / 4);
        for index in (0..self.n).map(order) {
            let row = self.element.decode(self.row(index));
            if row.iter().any(|value| !value.is_finite()) {
                return Err(not_finite(index));
            }
            values.extend(row);
        }
        Ok(values)
    }
}

fn not_finite(row: usize) -> String {
    format!("row {row} holds a number that is not finite, or too large")
}
