//! A GGUF tensor's rows as a matrix that the kernels multiply with. Blocks that a layout of theirs can hold are laid as
//! they are; all others are decoded and rounded once. Must never hold a whole tensor as f32 that is packed in the end.

use half::f16;
use weir_kernels::PackedMatrix;
use weir_kernels::packed::{Block, EncodeError, Format, PackedWeights};

use crate::checkpoint::elements::Element;
use crate::checkpoint::gguf_blocks::{Nibbles, nibbles};
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
        let packed = match element {
            Element::F32 => {
                let values = self.values(order)?;
                return PackedMatrix::pack(&values, n, k).map(Matrix::Exact).map_err(|error| error.to_string());
            }
            Element::Q4_0 => PackedWeights::lay_rows(Format::Q4, n, k, |index, blocks| {
                blocks.extend(row(index).as_chunks::<18>().0.iter().map(|[low, high, quants @ ..]| Block {
                    scale: [*low, *high],
                    minimum: [0; 2],
                    quants: nibbles(quants).map(|q| q as i8),
                }));
            }),
            Element::Q4_1 | Element::Q4K => PackedWeights::lay_rows(Format::Q4h, n, k, |index, blocks| {
                let of_row = element.nibbles(row(index));
                blocks.extend(of_row.into_iter().map(|Nibbles { scale, minimum, quants }| Block {
                    scale: f16::from_f32(scale).to_le_bytes(),
                    minimum: f16::from_f32(minimum).to_le_bytes(),
                    quants: quants.map(|q| q as i8),
                }));
            }),
            Element::Q8_0 => PackedWeights::lay_rows(Format::Q8, n, k, |index, blocks| {
                blocks.extend(row(index).as_chunks::<34>().0.iter().map(|[low, high, quants @ ..]| Block {
                    scale: [*low, *high],
                    minimum: [0; 2],
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of bits at random, scales that are numbers.
    fn blocks(element: Element, n: usize, k: usize) -> Vec<u8> {
        let mut seed = 3u32;
        let mut bytes = vec![0u8; element.bytes(&[n, k]).expect("whole blocks")];
        for block in bytes.chunks_exact_mut(element.block().1) {
            for byte in &mut *block {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (seed >> 24) as u8;
            }
            let scales = if matches!(element, Element::Q4_1 | Element::Q4K) { 2 } else { 1 };
            for at in 0..scales {
                let scale = f16::from_f32(f32::from(block[2 * at + 1]) / 256.0 - 0.5);
                block[2 * at..][..2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        bytes
    }

    #[test]
    fn what_is_laid_as_it_is_loses_nothing_and_rows_come_in_their_order() {
        let (n, k) = (17, 96);
        for element in [Element::Q4_0, Element::Q8_0, Element::Q4_1] {
            let bytes = blocks(element, n, k);
            let rows = Rows { element, bytes: &bytes, n, k };
            let matrix = rows.matrix(|row| n - 1 - row).expect("packs");
            let got = matrix.packed().expect("in few bits").unpack();
            let due = element.decode(&bytes);
            let due: Vec<f32> = due.chunks_exact(k).rev().flatten().copied().collect();
            assert_eq!(got, due, "{}", element.name());
        }
    }

    #[test]
    fn products_of_scales_are_rounded_once_and_nothing_else_is() {
        let (n, k) = (17, 512);
        let bytes = blocks(Element::Q4K, n, k);
        let rows = Rows { element: Element::Q4K, bytes: &bytes, n, k };
        let got = rows.matrix(|row| row).expect("packs").packed().expect("in few bits").unpack();
        for (of_block, got) in Element::Q4K.nibbles(&bytes).iter().zip(got.as_chunks::<32>().0) {
            let Nibbles { scale, minimum, quants } = of_block;
            // Half a step of f16's 11 bits, of either number.
            let most = (15.0 * scale.abs() + minimum.abs()) / 2048.0;
            for (got, q) in got.iter().zip(quants) {
                let due = scale * f32::from(*q) + minimum;
                assert!((got - due).abs() <= most, "{got} where {due} is due, {most}");
            }
        }
    }

    #[test]
    fn a_row_that_holds_no_number_is_named_as_the_file_counts() {
        for element in [Element::Q4_0, Element::Q8_0, Element::Q4_1, Element::Q5_0] {
            let mut bytes = blocks(element, 3, 32);
            let size = bytes.len() / 3;
            bytes[2 * size..][..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
            let rows = Rows { element, bytes: &bytes, n: 3, k: 32 };
            let error = rows.matrix(|row| 2 - row).err().expect("is refused");
            assert!(error.starts_with("row 2 "), "{}: {error}", element.name());
        }
    }
}
