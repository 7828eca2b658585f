//! Keys and values in 8 bits: what one position has of one head, its keys or its values, are whole numbers from -127 to
//! 127 times one scale. Written number by number, into panels; read as whole panels of f32. Must never know a request.

use crate::error::{KernelError, expect};
use crate::kernels::{AttentionShape, Kernels};
use crate::panel::PANEL;

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

impl Kernels {
    /// One head's panel, `[keys then values]` as in a [`crate::KvPanel`], out of its whole numbers and the scales of 32
    /// positions' keys and of their values.
    ///
    /// # Errors
    /// When the two do not have the lengths of the shape's panels.
    pub fn widen(
        &self,
        shape: AttentionShape,
        quants: &[i8],
        scales: &[[f32; PANEL]; 2],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let length = shape.key_panel() + shape.value_panel();
        expect("quants", Some(length), quants.len())?;
        expect("a panel", Some(length), out.len())?;
        // SAFETY: the registry saw the instruction set.
        unsafe { (self.widen)(quants, shape.head_dim, scales, out) };
        Ok(())
    }
}
