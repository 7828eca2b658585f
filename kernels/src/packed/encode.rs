//! Numbers to packed bytes. Runs once per checkpoint, so it looks for good scales: of several candidates the one with
//! the least squared error is kept, its scale refined by least squares.

use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};

use crate::error::{KernelError, expect};

use super::format::{BLOCK, Format, GROUP, STRIP};
use super::shared::Shared;
use super::team::{Team, ThreadScratch};

/// Why weights could not be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A length does not fit.
    #[error(transparent)]
    Shape(#[from] KernelError),
    /// A number is not finite, or too large for the format's scale.
    #[error("row {row} holds a number that {} cannot store", .format.name())]
    Number {
        /// Which format.
        format: Format,
        /// Which row of the matrix.
        row: usize,
    },
}

/// A block of a row as a format stores it.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// The f16, little-endian; of [`Format::Q4m`] 8 bits, and a zero.
    pub scale: [u8; 2],
    /// The same; zero in formats without a minimum.
    pub minimum: [u8; 2],
    /// As stored: 0 to 15 for a format of 4 bits.
    pub quants: [i8; BLOCK],
}

/// Strips that a thread takes at a time.
const RUN: usize = 4;

/// Packs the rows that `row` gives into `bytes`, which are as long as the format needs. All threads of the shared team
/// ask for rows.
pub(super) fn encode(
    format: Format,
    n: usize,
    k: usize,
    bytes: &mut [u8],
    row: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<(), EncodeError> {
    each_row(format, n, k, bytes, |index, lane, strip, memory, blocks| {
        let numbers = memory.floats(k);
        row(index, numbers);
        let (front, groups) = strip.split_at_mut(format.strip_header());
        let mut fits = numbers.iter().all(|number| number.is_finite());
        match format {
            _ if !fits => {}
            Format::Bf16 => {
                for (group, numbers) in groups.chunks_exact_mut(format.group_bytes()).zip(numbers.chunks(GROUP)) {
                    for (input, number) in numbers.iter().enumerate() {
                        let place = input / 2 * 64 + lane * 4 + input % 2 * 2;
                        group[place..place + 2].copy_from_slice(&bf16::from_f32(*number).to_le_bytes());
                    }
                }
            }
            Format::Q4 => fits = symmetric(numbers, blocks, -8.0, 7.0),
            Format::Q8 => fits = symmetric(numbers, blocks, -127.0, 127.0),
            Format::Q4m => {
                let scales = with_minimum(numbers, blocks);
                for (index, scale) in scales.into_iter().enumerate() {
                    let at = (index * STRIP + lane) * 4;
                    front[at..at + 4].copy_from_slice(&scale.to_le_bytes());
                }
                fits = scales.iter().all(|scale| scale.is_finite());
            }
            Format::Q4h => fits = with_halves(numbers, blocks),
        }
        if fits { Ok(()) } else { Err(EncodeError::Number { format, row: index }) }
    })
}

/// Lays blocks that are there already: `row` gives those of a row, nothing is rounded.
pub(super) fn lay(
    format: Format,
    n: usize,
    k: usize,
    bytes: &mut [u8],
    row: impl Fn(usize, &mut Vec<Block>) + Sync,
) -> Result<(), EncodeError> {
    each_row(format, n, k, bytes, |index, _, _, _, blocks| {
        row(index, blocks);
        expect("blocks of a row", Some(k.div_ceil(BLOCK)), blocks.len())?;
        let is_whole =
            |block: &Block| [block.scale, block.minimum].map(f16::from_le_bytes).iter().all(|f| f.is_finite());
        if blocks.iter().all(is_whole) { Ok(()) } else { Err(EncodeError::Number { format, row: index }) }
    })
}

/// Makes every row of the matrix, strips being shared out: `make(row, lane, strip, memory, blocks)` writes what lies in
/// front of the strip, or all of it, and gives the row's blocks, which are put where they belong.
fn each_row(
    format: Format,
    n: usize,
    k: usize,
    bytes: &mut [u8],
    make: impl Fn(usize, usize, &mut [u8], &mut ThreadScratch, &mut Vec<Block>) -> Result<(), EncodeError> + Sync,
) -> Result<(), EncodeError> {
    expect("packed bytes", format.bytes(n, k), bytes.len())?;
    bytes.fill(0);
    if k == 0 {
        return Ok(());
    }
    let length = format.strip_bytes(k).unwrap_or_default();
    let shared = Shared::new(bytes);
    let failed: Mutex<Option<(usize, EncodeError)>> = Mutex::new(None);
    Team::shared().run(n.div_ceil(STRIP * RUN), |part, memory| {
        let mut blocks = Vec::with_capacity(k.div_ceil(BLOCK));
        for row in part * STRIP * RUN..((part + 1) * STRIP * RUN).min(n) {
            let lane = row % STRIP;
            // SAFETY: the strips of a part are its own.
            let strip = unsafe { shared.part(row / STRIP * length, length) };
            blocks.clear();
            if let Err(error) = make(row, lane, strip, memory, &mut blocks) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                // The first row that fails, whoever found it.
                *failed = failed.filter(|(first, _)| *first < row).or(Some((row, error)));
                return;
            }
            let (_, groups) = strip.split_at_mut(format.strip_header());
            for (group, blocks) in groups.chunks_exact_mut(format.group_bytes()).zip(blocks.chunks(GROUP / BLOCK)) {
                blocks.iter().enumerate().for_each(|(index, block)| put(format, group, index, lane, block));
            }
            // Inputs that fill up the last group: scale zero, and quants that mean nothing.
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, error)| Err(error))
}

/// Writes block `index` of a group.
fn put(format: Format, group: &mut [u8], index: usize, lane: usize, block: &Block) {
    let (front, quants) = group.split_at_mut(format.group_header());
    let at = index * 32 + lane * 2;
    match format {
        Format::Q4m => {
            front[index * 32 + lane] = block.scale[0];
            front[index * 32 + STRIP + lane] = block.minimum[0];
        }
        Format::Q4h => {
            front[at..at + 2].copy_from_slice(&block.scale);
            front[64 + at..][..2].copy_from_slice(&block.minimum);
        }
        _ => front[at..at + 2].copy_from_slice(&block.scale),
    }
    for (at, q) in block.quants.iter().enumerate() {
        match format {
            Format::Q8 => quants[index * 512 + at / 4 * 64 + lane * 4 + at % 4] = *q as u8,
            _ => {
                let byte = &mut quants[index * 256 + at / 8 * 64 + lane * 4 + at % 4];
                *byte |= (*q as u8 & 15) << (if at % 8 < 4 { 0 } else { 4 });
            }
        }
    }
}

/// `w = d q` with `lowest <= q <= highest`; q4 stores `q + 8`. False when a scale is too large for f16.
fn symmetric(numbers: &[f32], blocks: &mut Vec<Block>, lowest: f32, highest: f32) -> bool {
    let shift = if lowest == -8.0 { 8.0 } else { 0.0 };
    for chunk in numbers.chunks(BLOCK) {
        let mut w = [0.0f32; BLOCK];
        w[..chunk.len()].copy_from_slice(chunk);
        let extreme = w.iter().copied().fold(0.0f32, |best, x| if x.abs() > best.abs() { x } else { best });
        let mut best = (f32::INFINITY, 0.0f32);
        // The extreme at the end of the range (there is one more number below zero than above), a little inside, or, where
        // steps are coarse enough for that to pay, a little cut off.
        for step in if shift > 0.0 { -3..=6 } else { 0..=6 } {
            let d = extreme / (lowest * (1.0 - 0.03 * step as f32));
            if d == 0.0 || !d.is_finite() {
                continue;
            }
            let inverse = 1.0 / d;
            let wq = sum(&w, |w| w * nearest(w * inverse, lowest, highest));
            let qq = sum(&w, |w| nearest(w * inverse, lowest, highest).powi(2));
            let d = f16::from_f32(if qq > 0.0 { wq / qq } else { d }).to_f32();
            let error = squared_error(&w, d, lowest, highest);
            if error < best.0 {
                best = (error, d);
            }
        }
        let d = best.1;
        if !d.is_finite() || (extreme != 0.0 && best.0.is_infinite() && extreme.abs() > 1.0) {
            return false;
        }
        let quants = w.map(|w| (quant(w, d, lowest, highest) + shift) as i8);
        blocks.push(Block { scale: f16::from_f32(d).to_le_bytes(), minimum: [0; 2], quants });
    }
    true
}

/// Rounded, ties to even, between two small whole numbers. `round_ties_even` is a call of the C library on a CPU that may
/// lack SSE 4.1; this is two additions, and vectorised.
fn nearest(x: f32, lowest: f32, highest: f32) -> f32 {
    /// 1.5 · 2^23: beside it f32 has no fractions.
    const WHOLE: f32 = 12_582_912.0;
    (x.clamp(lowest, highest) + WHOLE) - WHOLE
}

fn quant(w: f32, d: f32, lowest: f32, highest: f32) -> f32 {
    if d == 0.0 { 0.0 } else { nearest(w / d, lowest, highest) }
}

fn squared_error(w: &[f32; BLOCK], d: f32, lowest: f32, highest: f32) -> f32 {
    if d == 0.0 || !d.is_finite() {
        return f32::INFINITY;
    }
    let inverse = 1.0 / d;
    sum(w, |w| (w - d * nearest(w * inverse, lowest, highest)).powi(2))
}

/// `Σ of(w)`, in eight chains that do not wait for each other.
fn sum(w: &[f32; BLOCK], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; 8];
    for w in w.as_chunks::<8>().0 {
        sums.iter_mut().zip(w).for_each(|(sum, w)| *sum += of(*w));
    }
    sums.iter().sum()
}

/// `w = d q + m`. False when `d` or `m` is too large for f16.
fn with_halves(numbers: &[f32], blocks: &mut Vec<Block>) -> bool {
    for chunk in numbers.chunks(BLOCK) {
        let (scale, minimum) = range(chunk);
        // A scale that rounds to nothing would lose the block.
        let scale = f16::from_f32(scale).max(if scale > 0.0 { f16::MIN_POSITIVE_SUBNORMAL } else { f16::ZERO });
        let minimum = f16::from_f32(-minimum);
        if !(scale.is_finite() && minimum.is_finite()) {
            return false;
        }
        let mut quants = [0; BLOCK];
        for (q, w) in quants.iter_mut().zip(chunk) {
            *q = steps(*w, scale.to_f32(), -minimum.to_f32()) as i8;
        }
        blocks.push(Block { scale: scale.to_le_bytes(), minimum: minimum.to_le_bytes(), quants });
    }
    true
}

/// Scale and minimum of least squared error, of a few that are tried, for `w = scale q - minimum`.
fn range(chunk: &[f32]) -> (f32, f32) {
    let low = chunk.iter().copied().fold(0.0f32, f32::min);
    let high = chunk.iter().copied().fold(0.0f32, f32::max);
    let mut best = (f32::INFINITY, 0.0, 0.0);
    for step in 0..8 {
        let cut = 1.0 - 0.03 * step as f32;
        let (scale, minimum) = refine(chunk, (high - low) * cut / 15.0, -low * cut);
        let error = chunk.iter().map(|w| (w - level(*w, scale, minimum)).powi(2)).sum::<f32>();
        if error < best.0 {
            best = (error, scale, minimum);
        }
    }
    (best.1, best.2)
}

/// `w = D s q - M m`; gives the row's `D` and `M`.
fn with_minimum(numbers: &[f32], blocks: &mut Vec<Block>) -> [f32; 2] {
    let ranges: Vec<(f32, f32)> = numbers.chunks(BLOCK).map(range).collect(); // scale, minimum
    let largest = |pick: fn(&(f32, f32)) -> f32| ranges.iter().map(pick).fold(0.0f32, f32::max) / 255.0;
    let (d, m) = (largest(|range| range.0), largest(|range| range.1));
    for (chunk, (scale, minimum)) in numbers.chunks(BLOCK).zip(&ranges) {
        // A scale that rounds to nothing would lose the block: the least one it can have is 1.
        let least = if *scale > 0.0 { 1.0 } else { 0.0 };
        let s = if d > 0.0 { (scale / d).round_ties_even().clamp(least, 255.0) } else { 0.0 };
        let min = if m > 0.0 { (minimum / m).round_ties_even().clamp(0.0, 255.0) } else { 0.0 };
        let mut quants = [0; BLOCK];
        for (q, w) in quants.iter_mut().zip(chunk) {
            *q = steps(*w, d * s, m * min) as i8;
        }
        blocks.push(Block { scale: [s as u8, 0], minimum: [min as u8, 0], quants });
    }
    [d, m]
}

fn steps(w: f32, scale: f32, minimum: f32) -> f32 {
    if scale > 0.0 { nearest((w + minimum) / scale, 0.0, 15.0) } else { 0.0 }
}

/// The number that `w` becomes.
fn level(w: f32, scale: f32, minimum: f32) -> f32 {
    scale * steps(w, scale, minimum) - minimum
}

/// Scale and minimum of least squared error for the levels that this scale and minimum give; the minimum stays at or
/// above zero, because it is stored without a sign.
fn refine(w: &[f32], scale: f32, minimum: f32) -> (f32, f32) {
    let n = w.len() as f32;
    let (mut q1, mut q2, mut w1, mut wq) = (0.0, 0.0, 0.0, 0.0);
    for w in w {
        let q = steps(*w, scale, minimum);
        q1 += q;
        q2 += q * q;
        w1 += w;
        wq += w * q;
    }
    let determinant = n * q2 - q1 * q1;
    if determinant <= 0.0 || scale <= 0.0 {
        return (scale, minimum);
    }
    let slope = (n * wq - q1 * w1) / determinant;
    let start = (w1 - slope * q1) / n;
    if slope > 0.0 && start <= 0.0 && slope.is_finite() && start.is_finite() {
        (slope, -start)
    } else if q2 > 0.0 && wq > 0.0 {
        (wq / q2, 0.0)
    } else {
        (scale, minimum)
    }
}
