//! Rotary position angles: position · theta^(-2i / rotary_dim), in f32 as the reference computes them.

/// Inverse frequencies of a model, `[rotary_dim / 2]`.
#[derive(Debug, Clone)]
pub(crate) struct Rope(Vec<f32>);

/// Cosines and sines of one position, `[rotary_dim / 2]` each.
pub(crate) struct Angles {
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

impl Rope {
    pub(crate) fn new(theta: f32, rotary_dim: usize) -> Self {
        Rope((0..rotary_dim / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / rotary_dim as f32)).collect())
    }

    pub(crate) fn angles(&self, position: usize) -> Angles {
        let (sin, cos) = self.0.iter().map(|frequency| (position as f32 * frequency).sin_cos()).unzip();
        Angles { cos, sin }
    }
}
