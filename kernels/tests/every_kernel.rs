//! Every kernel this CPU has, against plain f64 loops, over shapes taken from the edges of tiles and panels.

mod support;

use support::{Expected, Numbers, compare, present, under_miri};
use weir_kernels::kernels::rope;
use weir_kernels::{Kernels, PackedMatrix, registry};

const SEED: u64 = 7;
const CANARY: f32 = 12_345.0;

fn every() -> Vec<&'static Kernels> {
    present(registry::all().into_iter().map(|entry| (entry.name, entry.kernels)))
}

fn assert_all(failures: Vec<String>) {
    assert!(failures.is_empty(), "seed {SEED}\n{}", failures.join("\n"));
}

fn naive_linear(x: &[f32], w: &[f32], m: usize, n: usize, k: usize) -> Vec<Expected> {
    let mut out = Vec::new();
    for row in 0..m {
        for column in 0..n {
            let (mut value, mut magnitude) = (0.0, 0.0);
            for i in 0..k {
                let product = f64::from(x[row * k + i]) * f64::from(w[column * k + i]);
                value += product;
                magnitude += product.abs();
            }
            out.push(Expected { value, magnitude });
        }
    }
    out
}

#[test]
fn linear_equals_the_triple_loop_and_stays_inside_its_output() {
    let mut numbers = Numbers(SEED);
    let mut failures = Vec::new();
    let all = [(1, 1), (8, 5), (31, 16), (32, 64), (33, 3), (96, 17), (160, 128), (257, 33)];
    let shapes = under_miri(&all, &[(1, 1), (31, 16), (33, 3)]);
    for kernels in every() {
        for m in under_miri(&[1, 2, 3, 4, 5, 7, 8, 9, 13, 31, 32, 33, 64], &[1, 5]) {
            for (n, k) in shapes.iter().copied() {
                let (x, w) = (numbers.take(m * k), numbers.take(n * k));
                let packed = PackedMatrix::pack(&w, n, k).expect("shape");
                let mut guarded = vec![CANARY; m * n + 64];
                kernels.linear(&x, m, &packed, &mut guarded[32..32 + m * n]).expect("shape");
                if guarded[..32].iter().chain(&guarded[32 + m * n..]).any(|value| *value != CANARY) {
                    failures.push(format!("{} m={m} n={n} k={k}: wrote outside", kernels.name()));
                }
                let what = format!("{} m={m} n={n} k={k}", kernels.name());
                let expected = naive_linear(&x, &w, m, n, k);
                failures.extend(compare(&what, &guarded[32..32 + m * n], &expected, k as f64 + 2.0).err());
            }
        }
    }
    assert_all(failures);
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch() {
    let mut numbers = Numbers(SEED);
    let (m, n, k) = if cfg!(miri) { (5, 40, 8) } else { (37, 200, 96) };
    let (x, w) = (numbers.take(m * k), numbers.take(n * k));
    let packed = PackedMatrix::pack(&w, n, k).expect("shape");
    for kernels in every() {
        let mut together = vec![0.0; m * n];
        kernels.linear(&x, m, &packed, &mut together).expect("shape");
        for (row, expected) in together.chunks_exact(n).enumerate() {
            let mut alone = vec![0.0; n];
            kernels.linear(&x[row * k..(row + 1) * k], 1, &packed, &mut alone).expect("shape");
            assert_eq!(alone, expected, "{} row {row}", kernels.name());
        }
    }
}

#[test]
fn rms_norm_and_silu_equal_their_formulas() {
    let mut numbers = Numbers(SEED);
    let mut failures = Vec::new();
    for kernels in every() {
        for d in under_miri(&[1, 7, 8, 15, 16, 33, 128], &[1, 17]) {
            let (mut x, weight) = (numbers.take(3 * d), numbers.take(d));
            let mut expected = Vec::new();
            for row in x.chunks_exact(d) {
                let mean: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / d as f64;
                for (value, weight) in row.iter().zip(&weight) {
                    let value = f64::from(*weight) * f64::from(*value) / (mean + 1e-6).sqrt();
                    expected.push(Expected { value, magnitude: value.abs() });
                }
            }
            let mut y = vec![0.0; 3 * d];
            kernels.rms_norm(&x, &weight, 1e-6, &mut y).expect("shape");
            failures.extend(compare(&format!("{} norm d={d}", kernels.name()), &y, &expected, 8.0).err());
            kernels.rms_norm_in_place(&mut x, &weight, 1e-6).expect("shape");
            assert_eq!(x, y, "in place differs");
        }
        for length in [1, 8, 19, 64] {
            let gate: Vec<f32> = numbers.take(length).iter().map(|v| v * 30.0).collect();
            let up = numbers.take(length);
            let expected: Vec<Expected> = gate
                .iter()
                .zip(&up)
                .map(|(g, u)| {
                    let value = f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u);
                    Expected { value, magnitude: value.abs() }
                })
                .collect();
            let mut got = gate.clone();
            kernels.silu_mul(&mut got, &up).expect("shape");
            failures.extend(compare(&format!("{} silu {length}", kernels.name()), &got, &expected, 8.0).err());
        }
        let (mut y, x) = (numbers.take(21), numbers.take(21));
        let expected: Vec<Expected> = y
            .iter()
            .zip(&x)
            .map(|(y, x)| Expected { value: f64::from(*y) + 0.5 * f64::from(*x), magnitude: 2.0 })
            .collect();
        kernels.add_scaled(&mut y, &x, 0.5).expect("shape");
        failures.extend(compare(kernels.name(), &y, &expected, 1.0).err());
    }
    assert_all(failures);
}

#[test]
fn top1_finds_the_first_largest_and_its_probability() {
    let mut numbers = Numbers(SEED);
    for kernels in every() {
        for length in under_miri(&[1, 5, 16, 33, 425, 1000], &[1, 33]) {
            let logits: Vec<f32> = numbers.take(length).iter().map(|v| v * 12.0).collect();
            let best = (0..length).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
            let sum: f64 = logits.iter().map(|v| (f64::from(*v) - f64::from(logits[best])).exp()).sum();
            let top = kernels.top1(&logits).expect("finite");
            assert_eq!(top.index, best);
            assert!((f64::from(top.probability) - 1.0 / sum).abs() < 2e-6, "{} {length}", kernels.name());
        }
        assert_eq!(kernels.top1(&[1.0, 3.0, 3.0]).map(|top| top.index), Some(1), "the lowest of equals");
        let suppressed = [f32::NEG_INFINITY, 0.0, 0.0];
        assert_eq!(kernels.top1(&suppressed).map(|top| top.probability), Some(0.5));
        for bad in [vec![], vec![f32::NEG_INFINITY], vec![0.0, f32::INFINITY]] {
            assert_eq!(kernels.top1(&bad), None);
        }
        for place in [0, 3, 16, 39] {
            let mut logits = vec![0.25; 40];
            logits[place] = f32::NAN;
            assert_eq!(kernels.top1(&logits), None, "{} lost a NaN at {place}", kernels.name());
        }
    }
}

#[test]
fn rope_turns_pairs_half_a_head_apart() {
    let (cos, sin) = ([0.6, 0.0], [0.8, 1.0]);
    let mut x = [1.0, 2.0, 3.0, 4.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0];
    rope(&mut x, 5, &cos, &sin).expect("shape");
    let expected = [
        1.0 * 0.6 - 3.0 * 0.8,
        -4.0,
        3.0 * 0.6 + 1.0 * 0.8,
        2.0,
        9.0,
        10.0 * 0.6 - 12.0 * 0.8,
        -13.0,
        12.0 * 0.6 + 10.0 * 0.8,
        11.0,
        14.0,
    ];
    for (got, expected) in x.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-5, "{got} {expected}");
    }
    assert!(rope(&mut x, 3, &cos, &sin).is_err());
    assert!(rope(&mut x, 0, &cos, &sin).is_err());
}

#[test]
fn wrong_shapes_are_refused() {
    let kernels = registry::best();
    let packed = PackedMatrix::pack(&[0.0; 6], 2, 3).expect("shape");
    assert!(PackedMatrix::pack(&[0.0; 5], 2, 3).is_err());
    assert!(PackedMatrix::pack(&[], usize::MAX, 3).is_err());
    assert!(kernels.linear(&[0.0; 5], 2, &packed, &mut [0.0; 4]).is_err());
    assert!(kernels.linear(&[0.0; 6], 2, &packed, &mut [0.0; 3]).is_err());
    assert!(kernels.rms_norm(&[0.0; 5], &[0.0; 2], 1e-6, &mut [0.0; 5]).is_err());
    assert!(kernels.rms_norm(&[0.0; 4], &[], 1e-6, &mut [0.0; 4]).is_err());
}
