//! Keys and values in 8 bits, with every kernel this CPU has: a panel is what was written to it, to the bit the same with
//! each, and attention over it is as near to f64 attention over the unrounded ones as half a step of each number allows.

mod support;

use support::{Numbers, under_miri};
use weir_kernels::kv8::Rounding;
use weir_kernels::{AttentionShape, Kernels, KvPanel, PANEL, Strided, registry};

/// One head's positions, rounded, as panels: whole numbers as in memory, and scales of keys and of values.
struct Rounded {
    shape: AttentionShape,
    panels: Vec<(Vec<i8>, [[f32; PANEL]; 2])>,
}

impl Rounded {
    /// `keys` and `values`, `[positions, d]` each.
    fn new(keys: &[f32], values: &[f32], d: usize) -> Rounded {
        let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: d };
        let count = keys.len().div_ceil(d * PANEL);
        let empty = (vec![0; shape.key_panel() + shape.value_panel()], [[0.0; PANEL]; 2]);
        let mut panels = vec![empty; count];
        for (position, (key, value)) in keys.chunks(d).zip(values.chunks(d)).enumerate() {
            let (quants, scales) = &mut panels[position / PANEL];
            let lane = position % PANEL;
            let roundings = [Rounding::of(key), Rounding::of(value)];
            for (scales, rounding) in scales.iter_mut().zip(roundings) {
                scales[lane] = rounding.scale;
            }
            for i in 0..d {
                quants[i * PANEL + lane] = roundings[0].round(key[i]);
                let place = shape.key_panel() + (i / PANEL * PANEL + lane) * PANEL + i % PANEL;
                quants[place] = roundings[1].round(value[i]);
            }
        }
        Rounded { shape, panels }
    }

    fn widened(&self, kernels: &Kernels) -> Vec<Vec<f32>> {
        let widen = |(quants, scales): &(Vec<i8>, [[f32; PANEL]; 2])| {
            let mut panel = vec![f32::NAN; quants.len()];
            kernels.widen(self.shape, quants, scales, &mut panel).expect("shape");
            panel
        };
        self.panels.iter().map(widen).collect()
    }
}

fn every() -> Vec<&'static Kernels> {
    registry::all().into_iter().filter_map(|entry| entry.kernels).collect()
}

/// f64 attention of one query over `[positions, d]`.
fn plain(q: &[f32], keys: &[f32], values: &[f32], d: usize) -> Vec<f64> {
    let dot = |key: &[f32]| q.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
    let weights: Vec<f64> = keys.chunks(d).map(|key| (dot(key) / (d as f64).sqrt()).exp()).collect();
    let total: f64 = weights.iter().sum();
    let at = |i: usize| weights.iter().zip(values.chunks(d)).map(|(w, v)| w / total * f64::from(v[i])).sum();
    (0..d).map(at).collect()
}

fn largest(row: &[f32]) -> f64 {
    row.iter().fold(0.0, |largest, element| largest.max(f64::from(element.abs())))
}

#[test]
fn attention_over_rounded_keys_and_values_is_as_near_as_half_a_step() {
    let mut numbers = Numbers(11);
    for d in under_miri(&[8, 32, 40, 128], &[8]) {
        for positions in under_miri(&[1, 31, 33, 97], &[33]) {
            let (q, mut keys, values) = (numbers.take(d), numbers.take(positions * d), numbers.take(positions * d));
            // Rows of very different size, each with its own scale.
            keys.chunks_mut(d).enumerate().for_each(|(at, key)| key.iter_mut().for_each(|k| *k *= (1 + at % 7) as f32));
            let expected = plain(&q, &keys, &values, d);
            // A score is wrong by at most half a step for each of the query's elements, a weight by e to twice the
            // largest of those, a value by half a step.
            let length: f64 = q.iter().map(|q| f64::from(q.abs())).sum();
            let score = length * largest(&keys) / 254.0 / (d as f64).sqrt();
            let bound = (2.0 * score).exp_m1() * largest(&values) + largest(&values) / 254.0 + 1e-4;
            let rounded = Rounded::new(&keys, &values, d);
            for kernels in every() {
                let panels = rounded.widened(kernels);
                let views: Vec<KvPanel<'_>> = panels
                    .iter()
                    .map(|panel| panel.split_at(rounded.shape.key_panel()))
                    .map(|(keys, values)| KvPanel { keys, values })
                    .collect();
                let mut out = vec![0.0; d];
                let q = Strided { elements: &q, stride: d };
                kernels.attention(rounded.shape, q, &views, &[positions], &mut out).expect("shape");
                for (got, expected) in out.iter().zip(&expected) {
                    let wrong = (f64::from(*got) - expected).abs();
                    assert!(wrong <= bound, "{} d={d} of {positions}: {got} for {expected}", kernels.name());
                }
            }
        }
    }
}

#[test]
fn a_panel_is_what_was_written_with_every_kernel() {
    let d = 40;
    let mut numbers = Numbers(12);
    let (mut keys, values) = (numbers.take(45 * d), numbers.take(45 * d));
    keys[..d].fill(0.0);
    keys[d..2 * d].fill(1e-40);
    keys[2 * d] = 3e38;
    keys[3 * d] = f32::NAN;
    keys[4 * d] = f32::INFINITY;
    let rounded = Rounded::new(&keys, &values, d);
    for kernels in every() {
        let panels = rounded.widened(kernels);
        let key = |at: usize, i: usize| panels[at / PANEL][i * PANEL + at % PANEL];
        let start = rounded.shape.key_panel();
        let value =
            |at: usize, i: usize| panels[at / PANEL][start + (i / PANEL * PANEL + at % PANEL) * PANEL + i % PANEL];
        for at in 0..45 {
            let rows = [&keys[at * d..][..d], &values[at * d..][..d]];
            let [key_rounding, value_rounding] = rows.map(Rounding::of);
            let elements = rows[0].iter().zip(rows[1]).enumerate();
            for (i, (own_key, own_value)) in elements {
                let due = [(key_rounding, *own_key), (value_rounding, *own_value)]
                    .map(|(rounding, element)| f32::from(rounding.round(element)) * rounding.scale);
                let same = |(got, due): (f32, f32)| got == due || got.is_nan() && due.is_nan();
                let got = [key(at, i), value(at, i)];
                assert!(got.into_iter().zip(due).all(same), "{} position {at}", kernels.name());
                if at > 4 {
                    assert!((due[0] - own_key).abs() <= 0.5001 * key_rounding.scale);
                }
            }
        }
        assert!((0..d).all(|i| key(0, i) == 0.0 && key(1, i) == 0.0), "all but zero is zero");
        assert!((0..d).all(|i| key(3, i).is_nan() && key(4, i).is_nan()), "nothing is made up for what is no number");
    }
    let short = every()[0].widen(rounded.shape, &[0; 3], &[[0.0; PANEL]; 2], &mut [0.0; 3]);
    assert!(short.is_err());
}
