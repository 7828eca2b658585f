//! Rotary position angles: position · theta^(-2i / rotary_dim), in f32 as the reference computes them. Must never turn in
//! less than f32: late positions would fall together.

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

    /// The same slowed down: all pairs by `divisor`, each by its own of `factors` (Llama 3.1), where there are such.
    pub(crate) fn slowed(self, divisor: f32, factors: Option<&[f32]>) -> Self {
        let factor = |pair: usize| factors.and_then(|factors| factors.get(pair)).copied().unwrap_or(1.0);
        Rope(self.0.into_iter().enumerate().map(|(pair, speed)| speed / factor(pair) / divisor).collect())
    }

    pub(crate) fn angles(&self, position: usize) -> Angles {
        let (sin, cos) = self.0.iter().map(|frequency| (position as f32 * frequency).sin_cos()).unzip();
        Angles { cos, sin }
    }
}
