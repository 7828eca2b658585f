//! GGUF's quantised blocks to f32, after the layouts that ggml documents. Plain code: it runs once, at load. A block's
//! numbers lie along a row. Bytes after the last whole block are ignored: sizes are checked before.

use half::f16;

/// 32 numbers: scale f16, 32 × i8. `y = d q`.
pub(super) fn q8_0(bytes: &[u8]) -> Vec<f32> {
    let blocks = bytes.as_chunks::<34>().0.iter();
    blocks.flat_map(|block| block[2..].iter().map(|q| half(block, 0) * f32::from(*q as i8))).collect()
}

/// 32 numbers: scale f16, 16 bytes; low nibbles are the first half, high nibbles the second. `y = d (q - 8)`.
pub(super) fn q4_0(bytes: &[u8]) -> Vec<f32> {
    let blocks = bytes.as_chunks::<18>().0.iter();
    blocks
        .flat_map(|block| {
            let d = half(block, 0);
            nibbles(&block[2..]).map(|q| d * (f32::from(q) - 8.0))
        })
        .collect()
}

/// 32 numbers of 4 bits, `y = scale q + minimum`.
pub(crate) struct Nibbles {
    pub(crate) scale: f32,
    pub(crate) minimum: f32,
    pub(crate) quants: [u8; 32],
}

impl Nibbles {
    /// The numbers of such blocks.
    pub(super) fn decode(blocks: impl Iterator<Item = Nibbles>) -> Vec<f32> {
        blocks.flat_map(|Nibbles { scale, minimum, quants }| quants.map(|q| scale * f32::from(q) + minimum)).collect()
    }
}

/// As [`q4_0`], with a minimum f16 after the scale. `y = d q + m`.
pub(super) fn q4_1(bytes: &[u8]) -> impl Iterator<Item = Nibbles> {
    bytes.as_chunks::<20>().0.iter().map(|block| {
        let (scale, minimum) = (half(block, 0), half(block, 2));
        Nibbles { scale, minimum, quants: nibbles(&block[4..]) }
    })
}

/// As [`q4_0`], with the fifth bit of number i in bit i of a u32 after the scale. `y = d (q - 16)`.
pub(super) fn q5_0(bytes: &[u8]) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(bytes.len() / 22 * 32);
    for block in bytes.as_chunks::<22>().0 {
        let d = half(block, 0);
        numbers.extend(fifths(&block[2..6], &block[6..]).map(|q| d * (f32::from(q) - 16.0)));
    }
    numbers
}

/// As [`q5_0`], with a minimum f16 after the scale. `y = d q + m`.
pub(super) fn q5_1(bytes: &[u8]) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(bytes.len() / 24 * 32);
    for block in bytes.as_chunks::<24>().0 {
        let (d, m) = (half(block, 0), half(block, 2));
        numbers.extend(fifths(&block[4..8], &block[8..]).map(|q| d * f32::from(q) + m));
    }
    numbers
}

/// The low nibbles of 16 bytes, then the high ones.
pub(crate) fn nibbles(quants: &[u8]) -> [u8; 32] {
    std::array::from_fn(|at| quants[at % 16] >> (at / 16 * 4) & 15)
}

/// [`nibbles`] with a bit above each, the first number's lowest.
fn fifths(bits: &[u8], quants: &[u8]) -> impl Iterator<Item = u8> {
    nibbles(quants).into_iter().enumerate().map(move |(i, q)| q | (bits[i / 8] >> (i % 8) & 1) << 4)
}

/// As [`q4_k`], with 32 bytes between scales and nibbles: the fifth bit of number l of run r is bit r of byte l.
pub(super) fn q5_k(bytes: &[u8]) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(bytes.len() / 176 * 256);
    for block in bytes.as_chunks::<176>().0 {
        let (d, d_min) = (half(block, 0), half(block, 2));
        let (scales, rest) = block[4..].split_at(12);
        let (upper, quants) = rest.split_at(32);
        for (run, quants) in (0..8).map(|run| (run, &quants[run / 2 * 32..][..32])) {
            let (scale, minimum) = scale_and_minimum(scales, run);
            let (scale, minimum) = (d * f32::from(scale), d_min * f32::from(minimum));
            let whole = quants.iter().zip(upper).map(|(q, upper)| q >> (run % 2 * 4) & 15 | (upper >> run & 1) << 4);
            numbers.extend(whole.map(|q| scale * f32::from(q) - minimum));
        }
    }
    numbers
}

/// 256 numbers in 8 runs of 32: scale and scale of minima f16, 12 bytes with a 6-bit scale and minimum for each run,
/// 128 bytes; of each 32 bytes the low nibbles are one run, the high nibbles the next. `y = d s q - dmin m`.
pub(super) fn q4_k(bytes: &[u8]) -> impl Iterator<Item = Nibbles> {
    bytes.as_chunks::<144>().0.iter().flat_map(|block| {
        let (d, d_min) = (half(block, 0), half(block, 2));
        let (scales, quants) = block[4..].split_at(12);
        (0..8).map(move |run| {
            let (scale, minimum) = scale_and_minimum(scales, run);
            let quants = std::array::from_fn(|at| quants[run / 2 * 32 + at] >> (run % 2 * 4) & 15);
            Nibbles { scale: d * f32::from(scale), minimum: -(d_min * f32::from(minimum)), quants }
        })
    })
}

/// The 6-bit scale and minimum of run 0..8. Runs 4..8 keep their two upper bits above those of runs 0..4.
fn scale_and_minimum(packed: &[u8], run: usize) -> (u8, u8) {
    match run {
        0..4 => (packed[run] & 63, packed[run + 4] & 63),
        _ => (packed[run + 4] & 15 | packed[run - 4] >> 6 << 4, packed[run + 4] >> 4 | packed[run] >> 6 << 4),
    }
}

/// 256 numbers in two halves of 128: lower 4 bits (128 bytes), upper 2 bits (64 bytes), 16 × i8 scale for 16 numbers
/// each, scale f16 last. `y = d s (q - 32)`. In a half, number 32 k + l has its lower bits in byte `l + 32 (k % 2)`,
/// nibble `k / 2`, and its upper bits in byte `l`, bits `2 k`.
pub(super) fn q6_k(bytes: &[u8]) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(bytes.len() / 210 * 256);
    for block in bytes.as_chunks::<210>().0 {
        let d = half(block, 208);
        for at in 0..2 {
            let (lower, upper) = (&block[at * 64..][..64], &block[128 + at * 32..][..32]);
            let scales = &block[192 + at * 8..][..8];
            for n in 0..128 {
                let (k, l) = (n / 32, n % 32);
                let q = lower[l + k % 2 * 32] >> (k / 2 * 4) & 15 | (upper[l] >> (2 * k) & 3) << 4;
                numbers.push(d * f32::from(scales[n / 16] as i8) * (f32::from(q) - 32.0));
            }
        }
    }
    numbers
}

/// The f16 at `at`, which every block is long enough for.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::gguf::Gguf;
    use crate::checkpoint::source::{Bytes, Named, WeightFiles};
    use crate::checkpoint::tensors::Weights;

    /// `training/test_gguf.py --fixtures` wrote both files: rows that it encoded and blocks of random bits, and what
    /// gguf-py makes of them.
    #[test]
    fn every_type_decodes_as_gguf_py_does() {
        let named = |bytes: &'static [u8]| Named { name: "fixture".into(), bytes: Bytes::Static(bytes) };
        let file = Gguf::parse(named(include_bytes!("../../tests/fixtures/blocks.gguf"))).expect("parses");
        let expected = named(include_bytes!("../../tests/fixtures/blocks.expected.safetensors"));
        let mut expected = Weights::open(WeightFiles { files: vec![expected], index: None }).expect("opens");
        let mut weights = Weights::of_gguf(file).expect("opens");
        for name in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"] {
            let shape = weights.listed(name).expect("present").shape.to_vec();
            assert_eq!(weights.listed(name).expect("present").element.name(), name);
            let got = weights.take(name, &shape, None).expect("finite");
            let due = expected.take(name, &shape, None).expect("finite");
            assert!(got.len() >= 256 && got.iter().any(|value| *value != 0.0), "{name} tests nothing");
            for (index, (got, due)) in got.iter().zip(&due).enumerate() {
                assert!((got - due).abs() <= 1e-6 * due.abs().max(1.0), "{name} {index}: {got} where {due} is due");
            }
        }
    }

    /// Packed here as ggml documents it: the fixture has none of these.
    #[test]
    fn a_fifth_bit_and_a_minimum_are_where_ggml_puts_them() {
        let q: Vec<u8> = (0..32).map(|i| (i * 7 + 3) % 32).collect();
        let (scale, minimum) = (f16::from_f32(0.5).to_le_bytes(), f16::from_f32(3.0).to_le_bytes());
        let nibbles: Vec<u8> = (0..16).map(|i| q[i] & 15 | (q[i + 16] & 15) << 4).collect();
        let fifths: u32 = (0..32).map(|i| u32::from(q[i] >> 4) << i).sum();
        let fifths = fifths.to_le_bytes();
        let due = |of: &dyn Fn(f32) -> f32, bits: u8| q.iter().map(|q| of(f32::from(q & bits))).collect::<Vec<f32>>();
        let q4_1 = Nibbles::decode(q4_1(&[&scale[..], &minimum, &nibbles].concat()));
        assert_eq!(q4_1, due(&|q| 0.5 * q + 3.0, 15));
        assert_eq!(q5_0(&[&scale[..], &fifths, &nibbles].concat()), due(&|q| 0.5 * (q - 16.0), 31));
        assert_eq!(q5_1(&[&scale[..], &minimum, &fifths, &nibbles].concat()), due(&|q| 0.5 * q + 3.0, 31));

        let (scales, minima): (Vec<u8>, Vec<u8>) = (0..8u8).map(|run| (5 + 7 * run, 3 + 8 * run)).unzip();
        let lower = (0..4).map(|run| scales[run] | scales[run + 4] >> 4 << 6);
        let lower = lower.chain((0..4).map(|run| minima[run] | minima[run + 4] >> 4 << 6));
        let packed: Vec<u8> = lower.chain((4..8).map(|run| scales[run] & 15 | (minima[run] & 15) << 4)).collect();
        let q = |run: usize, at: usize| ((run * 5 + at * 11) % 32) as u8;
        let fifths: Vec<u8> = (0..32).map(|at| (0..8).map(|run| (q(run, at) >> 4) << run).sum()).collect();
        let pairs = (0..4).flat_map(|pair| (0..32).map(move |at| (2 * pair, at)));
        let nibbles: Vec<u8> = pairs.map(|(run, at)| q(run, at) & 15 | (q(run + 1, at) & 15) << 4).collect();
        let got = q5_k(&[&scale[..], &minimum, &packed, &fifths, &nibbles].concat());
        for (index, got) in got.iter().enumerate() {
            let (run, at) = (index / 32, index % 32);
            let due = 0.5 * f32::from(scales[run]) * f32::from(q(run, at)) - 3.0 * f32::from(minima[run]);
            assert_eq!(*got, due, "{run} {at}");
        }
        assert_eq!(got.len(), 256);
    }
}
