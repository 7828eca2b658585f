//! Packed bytes to numbers, plainly: for embeddings, for checks, and as what the products are compared with.

use half::{bf16, f16};

use super::format::{BLOCK, Format, GROUP, STRIP};

/// Row `lane` of one strip, as many numbers as `out` takes. Bytes that are not there read as zero.
pub(super) fn row(format: Format, strip: &[u8], lane: usize, out: &mut [f32]) {
    let header = format.strip_header();
    let (front, groups) = strip.split_at(header.min(strip.len()));
    let scales = [float(front, lane), float(front, STRIP + lane)];
    for (group, numbers) in groups.chunks_exact(format.group_bytes()).zip(out.chunks_mut(GROUP)) {
        for (input, number) in numbers.iter_mut().enumerate() {
            *number = one(format, group, lane, input, scales);
        }
    }
}

/// Number `input` of a group.
fn one(format: Format, group: &[u8], lane: usize, input: usize, [scale, minimum]: [f32; 2]) -> f32 {
    let (block, at) = (input / BLOCK, input % BLOCK);
    let (front, quants) = group.split_at(64.min(group.len()));
    let nibble = || {
        let byte = byte(quants, block * 256 + at / 8 * 64 + lane * 4 + at % 4);
        f32::from(if at % 8 < 4 { byte & 15 } else { byte >> 4 })
    };
    let half = || f16::from_le_bytes([byte(front, block * 32 + lane * 2), byte(front, block * 32 + lane * 2 + 1)]);
    match format {
        Format::Q4 => half().to_f32() * (nibble() - 8.0),
        Format::Q4m => {
            let (s, m) = (byte(front, block * 32 + lane), byte(front, block * 32 + STRIP + lane));
            scale * f32::from(s) * nibble() - minimum * f32::from(m)
        }
        Format::Q8 => {
            let q = byte(quants, block * 512 + at / 4 * 64 + lane * 4 + at % 4) as i8;
            half().to_f32() * f32::from(q)
        }
        Format::Bf16 => {
            let place = input / 2 * 64 + lane * 4 + input % 2 * 2;
            bf16::from_le_bytes([byte(group, place), byte(group, place + 1)]).to_f32()
        }
    }
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

fn float(bytes: &[u8], index: usize) -> f32 {
    bytes.as_chunks().0.get(index).map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
}
