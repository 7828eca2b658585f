//! Numbers rounded to a storage format and back, as `training/gguf_quants.py` encodes them. Blocks run over the rows'
//! ends here, because the nano model's rows are shorter than a K block; a real model's are not.

use half::{bf16, f16};

/// A storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Bf16,
    F16,
    Q8_0,
    Q6K,
    Q4K,
    Q4_0,
}

impl Format {
    pub(super) const ALL: [Format; 6] =
        [Format::Bf16, Format::F16, Format::Q8_0, Format::Q6K, Format::Q4K, Format::Q4_0];

    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Bf16 => "BF16",
            Format::F16 => "F16",
            Format::Q8_0 => "Q8_0",
            Format::Q6K => "Q6_K",
            Format::Q4K => "Q4_K",
            Format::Q4_0 => "Q4_0",
        }
    }

    /// Bits of a number, the blocks' scales included.
    pub(super) fn bits(self) -> f64 {
        match self {
            Format::Bf16 | Format::F16 => 16.0,
            Format::Q8_0 => 8.5,
            Format::Q6K => 210.0 * 8.0 / 256.0,
            Format::Q4K => 4.5,
            Format::Q4_0 => 4.5,
        }
    }

    /// The numbers as a reader of the format gets them back.
    pub(super) fn round(self, numbers: &mut [f32]) {
        match self {
            Format::Bf16 => numbers.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
            Format::F16 => numbers.iter_mut().for_each(|x| *x = half(*x)),
            Format::Q8_0 => numbers.chunks_mut(32).for_each(|block| {
                let d = largest(block) / 127.0;
                block.iter_mut().for_each(|x| *x = half(d) * over(*x, d).round().clamp(-127.0, 127.0));
            }),
            Format::Q4_0 => numbers.chunks_mut(32).for_each(q4_0),
            Format::Q6K => numbers.chunks_mut(256).for_each(q6_k),
            Format::Q4K => numbers.chunks_mut(256).for_each(q4_k),
        }
    }
}

/// The number of largest size becomes -8.
fn q4_0(block: &mut [f32]) {
    let extreme = block.iter().copied().fold(0.0f32, |best, x| if x.abs() > best.abs() { x } else { best });
    let d = extreme / -8.0;
    block.iter_mut().for_each(|x| *x = half(d) * ((over(*x, d) + 8.5).trunc().clamp(0.0, 15.0) - 8.0));
}

/// Runs of 16 with an 8-bit scale.
fn q6_k(block: &mut [f32]) {
    let scales: Vec<f32> = block.chunks(16).map(|run| largest(run) / 31.0).collect();
    let d = half(largest(&scales) / 127.0);
    for (run, scale) in block.chunks_mut(16).zip(scales) {
        let step = d * over(scale, d).round().clamp(0.0, 127.0);
        run.iter_mut().for_each(|x| *x = step * over(*x, step).round().clamp(-32.0, 31.0));
    }
}

/// Runs of 32 with a 6-bit scale and a 6-bit minimum.
fn q4_k(block: &mut [f32]) {
    let range = |run: &[f32]| {
        let low = run.iter().copied().fold(0.0f32, f32::min);
        (low, (run.iter().copied().fold(f32::MIN, f32::max) - low).max(0.0) / 15.0)
    };
    let ranges: Vec<(f32, f32)> = block.chunks(32).map(range).collect();
    let d = half(ranges.iter().map(|(_, scale)| *scale).fold(0.0, f32::max) / 63.0);
    let d_min = half(ranges.iter().map(|(low, _)| -low).fold(0.0, f32::max) / 63.0);
    for (run, (low, scale)) in block.chunks_mut(32).zip(ranges) {
        let step = d * over(scale, d).round().clamp(0.0, 63.0);
        let minimum = d_min * over(-low, d_min).round().clamp(0.0, 63.0);
        run.iter_mut().for_each(|x| *x = step * over(*x + minimum, step).round().clamp(0.0, 15.0) - minimum);
    }
}

fn half(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

fn over(a: f32, b: f32) -> f32 {
    if b == 0.0 { 0.0 } else { a / b }
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |best, x| best.max(x.abs()))
}
