//! Packed bytes to numbers, plainly: for embeddings, for checks, and as what the products are compared with.

use half::{bf16, f16};

use super::format::{BLOCK, Format, GROUP, STRIP};

/// Row `lane` of one strip, as many numbers as `out` takes. Bytes that are not there read as zero.
pub(super) fn row(format: Format, strip: &[u8], lane: usize, out: &mut [f32]) {
    let header = format.strip_header();
    let (front, groups) = strip.split_at(header.min(strip.len()));
    let scales = [float(front, lane), float(front, STRIP + lane)];
    for (group, numbers) in groups.chunks_exact(format.group_bytes()).zip(out.chunks_mut(GROUP)) {
        for (index, numbers) in numbers.chunks_mut(BLOCK).enumerate() {
            block(format, group, lane, index, scales, numbers);
        }
    }
}

/// The numbers of block `block` of a group; what they share is made once.
fn block(format: Format, group: &[u8], lane: usize, block: usize, [scale, minimum]: [f32; 2], out: &mut [f32]) {
    let (front, quants) = group.split_at(format.group_header().min(group.len()));
    let nibble = |at: usize| {
        let byte = byte(quants, block * 256 + at / 8 * 64 + lane * 4 + at % 4);
        f32::from(if at % 8 < 4 { byte & 15 } else { byte >> 4 })
    };
    let half =
        |at: usize| f16::from_le_bytes([0, 1].map(|part| byte(front, at + block * 32 + lane * 2 + part))).to_f32();
    let numbers = out.iter_mut().enumerate();
    match format {
        Format::Q4 => {
            let scale = half(0);
            numbers.for_each(|(at, number)| *number = scale * (nibble(at) - 8.0));
        }
        Format::Q4m => {
            let small = |at: usize| f32::from(byte(front, block * 32 + at + lane));
            let (scale, minimum) = (scale * small(0), minimum * small(STRIP));
            numbers.for_each(|(at, number)| *number = scale * nibble(at) - minimum);
        }
        Format::Q4h => {
            let (scale, minimum) = (half(0), half(64));
            numbers.for_each(|(at, number)| *number = scale * nibble(at) + minimum);
        }
        Format::Q8 => {
            let scale = half(0);
            let quant = |at: usize| byte(quants, block * 512 + at / 4 * 64 + lane * 4 + at % 4) as i8;
            numbers.for_each(|(at, number)| *number = scale * f32::from(quant(at)));
        }
        Format::Bf16 => numbers.for_each(|(at, number)| {
            let place = (block * BLOCK + at) / 2 * 64 + lane * 4 + at % 2 * 2;
            *number = bf16::from_le_bytes([byte(quants, place), byte(quants, place + 1)]).to_f32();
        }),
    }
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

fn float(bytes: &[u8], index: usize) -> f32 {
    bytes.as_chunks().0.get(index).map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
}
