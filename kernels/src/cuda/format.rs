//! How weights lie in a device's memory (the picture is in kernels/cuda/weir.cuh): panels of 32 outputs, in blocks of 32
//! inputs, in pieces of 16 bytes, one for each lane of a warp. Must never depend on a device.

use half::{bf16, f16};

use crate::error::{KernelError, expect};

/// Lanes of a warp: outputs of a panel, inputs of a block.
pub const LANES: usize = 32;

/// How a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    /// As it is.
    F32,
    /// Rounded to bfloat16.
    Bf16,
    /// `scale * q`: a signed byte, one f16 scale for 32 inputs.
    Q8,
    /// `scale * (q - 8)`: half a byte, one f16 scale for 32 inputs.
    Q4,
}

impl WeightFormat {
    /// Every format, for tests and tools.
    pub const ALL: [WeightFormat; 4] = [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Q8, WeightFormat::Q4];

    /// Its part of a kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F32 => "f32",
            WeightFormat::Bf16 => "bf16",
            WeightFormat::Q8 => "q8",
            WeightFormat::Q4 => "q4",
        }
    }

    /// Bytes of 32 weights of one output, without their scale.
    pub fn lane_bytes(self) -> usize {
        match self {
            WeightFormat::F32 => 128,
            WeightFormat::Bf16 => 64,
            WeightFormat::Q8 => 32,
            WeightFormat::Q4 => 16,
        }
    }

    /// Whether there are scales.
    pub fn is_scaled(self) -> bool {
        matches!(self, WeightFormat::Q8 | WeightFormat::Q4)
    }
}

/// A matrix as the device wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// `[panel][block][vector][lane]` of 16 bytes.
    pub bytes: Vec<u8>,
    /// `[panel][block][lane]` of f16; empty where the format has none.
    pub scales: Vec<u16>,
}

/// Blocks of a matrix `[n, k]`, over all panels.
pub fn blocks(n: usize, k: usize) -> usize {
    n.div_ceil(LANES) * k.div_ceil(LANES)
}

/// Packs `values[n, k]`.
///
/// # Errors
/// When `values` has not `n * k` elements.
pub fn pack(format: WeightFormat, values: &[f32], n: usize, k: usize) -> Result<Packed, KernelError> {
    expect("weights", n.checked_mul(k), values.len())?;
    let lane_bytes = format.lane_bytes();
    let count = blocks(n, k);
    let mut bytes = vec![0; count * LANES * lane_bytes];
    let mut scales = vec![0; if format.is_scaled() { count * LANES } else { 0 }];
    let across = k.div_ceil(LANES);
    for (block, place) in bytes.chunks_exact_mut(LANES * lane_bytes).enumerate() {
        let (panel, at) = (block / across, block % across * LANES);
        for lane in 0..LANES {
            let row = panel * LANES + lane;
            let mut own = [0.0; LANES];
            if row < n {
                let values = &values[row * k + at..row * k + (at + LANES).min(k)];
                own[..values.len()].copy_from_slice(values);
            }
            let mut packed = [0u8; 128];
            let scale = pack_lane(format, &own, &mut packed);
            if let Some(slot) = scales.get_mut(block * LANES + lane) {
                *slot = scale.to_bits();
            }
            for (vector, piece) in packed[..lane_bytes].chunks_exact(16).enumerate() {
                place[(vector * LANES + lane) * 16..][..16].copy_from_slice(piece);
            }
        }
    }
    Ok(Packed { bytes, scales })
}

/// Writes 32 weights into the front of `packed` and returns their scale.
fn pack_lane(format: WeightFormat, values: &[f32; LANES], packed: &mut [u8; 128]) -> f16 {
    match format {
        WeightFormat::F32 => {
            for (place, value) in packed.chunks_exact_mut(4).zip(values) {
                place.copy_from_slice(&value.to_le_bytes());
            }
            f16::ZERO
        }
        WeightFormat::Bf16 => {
            for (place, value) in packed.chunks_exact_mut(2).zip(values) {
                place.copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
            }
            f16::ZERO
        }
        WeightFormat::Q8 => {
            let (scale, inverse) = scale(largest(values).abs() / 127.0);
            for (place, value) in packed.iter_mut().zip(values) {
                *place = (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8;
            }
            scale
        }
        WeightFormat::Q4 => {
            // The weight furthest from zero gets -8, the step that only one side has.
            let (scale, inverse) = scale(largest(values) / -8.0);
            for (i, value) in values.iter().enumerate() {
                let q = (value * inverse).round().clamp(-8.0, 7.0) as i8 + 8;
                packed[i % 16] |= (q as u8) << (i / 16 * 4);
            }
            scale
        }
    }
}

/// The value furthest from zero.
fn largest(values: &[f32; LANES]) -> f32 {
    values.iter().fold(0.0, |most: f32, value| if value.abs() > most.abs() { *value } else { most })
}

/// The scale as it will be read, and by what to multiply.
fn scale(wanted: f32) -> (f16, f32) {
    let scale = f16::from_f32(wanted.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()));
    let inverse = if scale == f16::ZERO { 0.0 } else { 1.0 / scale.to_f32() };
    (scale, inverse)
}

/// The weights `[n, k]` as the kernels read them: what a product is checked against.
///
/// # Errors
/// When `packed` is not a matrix `[n, k]`.
pub fn unpack(format: WeightFormat, packed: &Packed, n: usize, k: usize) -> Result<Vec<f32>, KernelError> {
    let lane_bytes = format.lane_bytes();
    expect("bytes", Some(blocks(n, k) * LANES * lane_bytes), packed.bytes.len())?;
    expect("scales", Some(if format.is_scaled() { blocks(n, k) * LANES } else { 0 }), packed.scales.len())?;
    let across = k.div_ceil(LANES);
    let byte = |block: usize, lane: usize, i: usize| {
        packed.bytes[block * LANES * lane_bytes + (i / 16 * LANES + lane) * 16 + i % 16]
    };
    let mut values = Vec::with_capacity(n * k);
    for row in 0..n {
        for column in 0..k {
            let (block, lane, i) = (row / LANES * across + column / LANES, row % LANES, column % LANES);
            let scale = packed.scales.get(block * LANES + lane).map_or(0.0, |bits| f16::from_bits(*bits).to_f32());
            values.push(match format {
                WeightFormat::F32 => f32::from_le_bytes([0, 1, 2, 3].map(|part| byte(block, lane, i * 4 + part))),
                WeightFormat::Bf16 => bf16::from_le_bytes([0, 1].map(|part| byte(block, lane, i * 2 + part))).to_f32(),
                WeightFormat::Q8 => scale * f32::from(byte(block, lane, i) as i8),
                WeightFormat::Q4 => scale * (f32::from(byte(block, lane, i % 16) >> (i / 16 * 4) & 0xf) - 8.0),
            });
        }
    }
    Ok(values)
}
