//! How a tensor's numbers are stored: plain numbers, or GGUF's blocks of quantised ones. Sizes are computed with
//! overflow checked. Must never know a file format's header.

use half::{bf16, f16};
use weir_kernels::packed::Format;

use super::gguf_blocks::{self, Nibbles};

/// A storage format of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    F32,
    F16,
    Bf16,
    I32,
    I64,
    U32,
    Q8_0,
    Q4_0,
    Q4K,
    Q6K,
    Q4_1,
    Q5_0,
    Q5_1,
    Q5K,
    /// A matrix in one of the kernels' own layouts.
    Packed(Format),
}

impl Element {
    /// What the formats call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Element::F32 => "F32",
            Element::F16 => "F16",
            Element::Bf16 => "BF16",
            Element::I32 => "I32",
            Element::I64 => "I64",
            Element::U32 => "U32",
            Element::Q8_0 => "Q8_0",
            Element::Q4_0 => "Q4_0",
            Element::Q4K => "Q4_K",
            Element::Q6K => "Q6_K",
            Element::Q4_1 => "Q4_1",
            Element::Q5_0 => "Q5_0",
            Element::Q5_1 => "Q5_1",
            Element::Q5K => "Q5_K",
            Element::Packed(Format::Q4) => "WEIR_Q4",
            Element::Packed(Format::Q4m) => "WEIR_Q4M",
            Element::Packed(Format::Q4h) => "WEIR_Q4H",
            Element::Packed(Format::Q8) => "WEIR_Q8",
            Element::Packed(Format::Bf16) => "WEIR_BF16",
        }
    }

    /// Whether its numbers can be decoded one by one.
    pub(crate) fn is_float(self) -> bool {
        !matches!(self, Element::I32 | Element::I64 | Element::U32 | Element::Packed(_))
    }

    /// Elements of a block along a row, and the block's bytes.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Element::F32 | Element::I32 | Element::U32 => (1, 4),
            Element::F16 | Element::Bf16 => (1, 2),
            Element::I64 => (1, 8),
            Element::Q8_0 => (32, 34),
            Element::Q4_0 => (32, 18),
            Element::Q4K => (256, 144),
            Element::Q6K => (256, 210),
            Element::Q4_1 => (32, 20),
            Element::Q5_0 => (32, 22),
            Element::Q5_1 => (32, 24),
            Element::Q5K => (256, 176),
            // A matrix is one piece.
            Element::Packed(_) => (1, 1),
        }
    }

    /// Bytes of a tensor of this shape, whose last dimension is a row; `None` when a row is not whole blocks or the
    /// size overflows.
    pub(crate) fn bytes(self, shape: &[usize]) -> Option<usize> {
        if let Element::Packed(format) = self {
            return match shape {
                [n, k] => format.bytes(*n, *k),
                _ => None,
            };
        }
        let (elements, bytes) = self.block();
        let (row, rest) = match shape.split_last() {
            Some((row, rest)) => (*row, rest),
            None => (1, shape),
        };
        if !row.is_multiple_of(elements) {
            return None;
        }
        rest.iter().try_fold((row / elements).checked_mul(bytes)?, |size, n| size.checked_mul(*n))
    }

    /// The numbers in `bytes`, which are whole blocks of a floating type; of another type, none.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Element::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Element::F16 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
            Element::Bf16 => bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
            // Packed matrices are read by `Weights::take_packed`.
            Element::I32 | Element::I64 | Element::U32 | Element::Packed(_) => Vec::new(),
            Element::Q8_0 => gguf_blocks::q8_0(bytes),
            Element::Q4_0 => gguf_blocks::q4_0(bytes),
            Element::Q4K => Nibbles::decode(gguf_blocks::q4_k(bytes)),
            Element::Q6K => gguf_blocks::q6_k(bytes),
            Element::Q4_1 => Nibbles::decode(gguf_blocks::q4_1(bytes)),
            Element::Q5_0 => gguf_blocks::q5_0(bytes),
            Element::Q5_1 => gguf_blocks::q5_1(bytes),
            Element::Q5K => gguf_blocks::q5_k(bytes),
        }
    }

    /// The blocks in `bytes` of a type of 4 bits with a minimum; of another type, none.
    pub(crate) fn nibbles(self, bytes: &[u8]) -> Vec<Nibbles> {
        match self {
            Element::Q4_1 => gguf_blocks::q4_1(bytes).collect(),
            Element::Q4K => gguf_blocks::q4_k(bytes).collect(),
            _ => Vec::new(),
        }
    }
}
