//! Keys and values as a cache holds them: panels of 32 positions in f32, bf16 or 8 bits, all of them read by attention
//! where they lie. In 8 bits what one position has of one head, its keys or its values, are whole numbers from -127 to 127
//! times one scale. Must never know a request.

use half::bf16;

use crate::error::{KernelError, expect};
use crate::kernels::AttentionShape;
use crate::ops::fetch;
use crate::panel::PANEL;

/// 32 positions of one key/value head: keys are `[head_dim, 32 positions]`, values `[ceil(head_dim / 32), 32 positions, 32]`,
/// filled up with zeros; in 8 bits `[ceil(head_dim / 2), 32 positions, 2]` and `[ceil(head_dim / 32), 16, 32, 2 positions]`,
/// since pairs are multiplied together. Positions not yet written must hold finite numbers.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "said above")]
pub enum KvPanel<'a> {
    F32 {
        keys: &'a [f32],
        values: &'a [f32],
    },
    Bf16 {
        keys: &'a [bf16],
        values: &'a [bf16],
    },
    /// Scales of the 32 positions' keys, then of their values.
    Int8 {
        keys: &'a [i8],
        values: &'a [i8],
        scales: &'a [[f32; PANEL]; 2],
    },
}

/// Numbers of a panel as they lie in memory.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    at: *const u8,
    /// Bytes of a number.
    size: usize,
}

impl Stored {
    fn new<T>(numbers: &[T]) -> Self {
        Stored { at: numbers.as_ptr().cast(), size: size_of::<T>() }
    }

    #[inline(always)]
    pub(crate) fn skip(self, numbers: usize) -> Self {
        Stored { at: self.at.wrapping_add(numbers * self.size), ..self }
    }

    /// Asks for these before they are read.
    #[inline(always)]
    pub(crate) fn fetch(self, numbers: usize) {
        fetch(self.at, numbers * self.size);
    }
}

impl KvPanel<'_> {
    /// Whether it is one of this shape.
    pub(crate) fn check(&self, shape: AttentionShape) -> Result<(), KernelError> {
        let (keys, values) = match self {
            KvPanel::F32 { keys, values } => (keys.len(), values.len()),
            KvPanel::Bf16 { keys, values } => (keys.len(), values.len()),
            KvPanel::Int8 { keys, values, .. } => (keys.len(), values.len()),
        };
        expect("keys", Some(shape.key_panel()), keys)?;
        expect("values", Some(shape.value_panel()), values)
    }

    /// Whether it is in 8 bits.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, KvPanel::Int8 { .. })
    }

    #[inline(always)]
    pub(crate) fn keys(&self) -> Stored {
        match self {
            KvPanel::F32 { keys, .. } => Stored::new(keys),
            KvPanel::Bf16 { keys, .. } => Stored::new(keys),
            KvPanel::Int8 { keys, .. } => Stored::new(keys),
        }
    }

    /// Elements 32 `dp` to 32 `dp + 31`.
    #[inline(always)]
    pub(crate) fn values(&self, dp: usize) -> Stored {
        let all = match self {
            KvPanel::F32 { values, .. } => Stored::new(values),
            KvPanel::Bf16 { values, .. } => Stored::new(values),
            KvPanel::Int8 { values, .. } => Stored::new(values),
        };
        all.skip(dp * PANEL * PANEL)
    }
}

/// Turns one position's keys or values of one head into whole numbers.
#[derive(Debug, Clone, Copy)]
pub struct Rounding {
    /// What 1 is worth.
    pub scale: f32,
    inverse: f32,
}

/// Added to a number and taken off again it leaves the nearest whole one: at this size f32 has no other.
const WHOLE: f32 = 12_582_912.0;

impl Rounding {
    /// For these elements. Where all are below 1e-35 they are zero; where one is not finite, none is a number.
    pub fn of(row: &[f32]) -> Self {
        let largest = row.iter().fold(0.0, |largest: f32, element| largest.max(element.abs()));
        // A maximum may lose NaN.
        let clean: f32 = row.iter().map(|element| element * 0.0).sum();
        let inverse = if largest < 1e-35 { 0.0 } else { 127.0 / largest };
        Rounding { scale: largest / 127.0 + clean, inverse }
    }

    /// The element as a whole number.
    pub fn round(self, element: f32) -> i8 {
        ((element * self.inverse + WHOLE) - WHOLE) as i8
    }
}
