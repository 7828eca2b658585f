//! Rotary positions: which elements of a head turn together, how fast, and by how much at a position. Must never turn in
//! less than f32: late positions would fall together.

/// Speeds of one kind of layer, `[rotary_dim / 2]`.
pub(super) struct Rotation {
    speeds: Vec<f32>,
    turns_neighbours: bool,
}

impl Rotation {
    /// Speeds `theta^(-2i / rotary_dim)`, each over its factor (Llama 3.1) and all over `divisor`.
    pub(super) fn new(
        theta: f32,
        rotary_dim: usize,
        divisor: f32,
        factors: Option<&[f32]>,
        turns_neighbours: bool,
    ) -> Self {
        let speed = |pair: usize| {
            let factor = factors.and_then(|factors| factors.get(pair)).copied().unwrap_or(1.0);
            1.0 / theta.powf((2 * pair) as f32 / rotary_dim as f32) / factor / divisor
        };
        Rotation { speeds: (0..rotary_dim / 2).map(speed).collect(), turns_neighbours }
    }

    /// Turns heads `[n, head_dim]` of one token; what is behind the rotary part of a head stays.
    pub(super) fn turn(&self, heads: &mut [f32], head_dim: usize, position: usize) {
        let angles: Vec<(f32, f32)> = self.speeds.iter().map(|speed| (position as f32 * speed).sin_cos()).collect();
        let half = angles.len();
        for head in heads.chunks_exact_mut(head_dim) {
            for (pair, (sin, cos)) in angles.iter().enumerate() {
                let (first, second) =
                    if self.turns_neighbours { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
                let (Some(a), Some(b)) = (head.get(first).copied(), head.get(second).copied()) else { continue };
                head[first] = a * cos - b * sin;
                head[second] = b * cos + a * sin;
            }
        }
    }
}
