//! Dense products, gate and up in one, the confidence head, and how weights are stored.

use weir_kernels::cuda::WeightFormat;
use weir_kernels::cuda::format::{pack, unpack};
use weir_kernels::cuda::products::{HeadMemory, Matrices};
use weir_kernels::{PackedMatrix, registry};

use crate::support::{Expected, Numbers, compare};
use crate::{SEED, as_stored, bits, both_orders};

/// `x[m, k] · w[n, k]ᵀ` in f64.
pub(crate) fn product(x: &[f32], w: &[f32], m: usize, n: usize, k: usize) -> Vec<Expected> {
    let mut out = Vec::with_capacity(m * n);
    for row in 0..m {
        for column in 0..n {
            let terms = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[column * k + i]));
            let (value, magnitude) =
                terms.fold((0.0, 0.0), |(sum, all): (f64, f64), term| (sum + term, all + term.abs()));
            out.push(Expected { value, magnitude });
        }
    }
    out
}

/// `silu(gate) * up` of such products; the bound follows both.
pub(crate) fn gated(gate: &[Expected], up: &[Expected]) -> Vec<Expected> {
    let pairs = gate.iter().zip(up);
    pairs
        .map(|(gate, up)| {
            let silu = gate.value / (1.0 + (-gate.value).exp());
            // |silu'| < 1.1 everywhere.
            let magnitude = 1.1 * gate.magnitude * up.value.abs() + silu.abs() * up.magnitude + (silu * up.value).abs();
            Expected { value: silu * up.value, magnitude }
        })
        .collect()
}

const SHAPES: [(usize, usize); 8] = [(1, 1), (31, 33), (32, 32), (33, 64), (70, 300), (5, 31), (96, 257), (64, 512)];

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn linear_and_gated_equal_the_triple_loop() {
    let mut numbers = Numbers(SEED);
    let mut failures = Vec::new();
    for format in WeightFormat::ALL {
        for (n, k) in SHAPES {
            for m in [1, 2, 7, 8, 9, 31, 32, 33, 64] {
                let (x, gate, up) = (numbers.take(m * k), numbers.take(n * k), numbers.take(n * k));
                let what = format!("{} m={m} n={n} k={k}", format.name());
                let (y, h) = both_orders(&what, |gpu| {
                    let x = gpu.upload(&x).expect("x");
                    let gate = gpu.matrix(format, &gate, n, k).expect("gate");
                    let up = gpu.matrix(format, &up, n, k).expect("up");
                    let (mut y, mut h) = (gpu.zeros(m * n).expect("y"), gpu.zeros(m * n).expect("h"));
                    gpu.linear(&gate, &x, m, &mut y).expect("linear");
                    gpu.gated((&gate, &up), &x, m, &mut h).expect("gated");
                    (gpu.read_all(&y).expect("y"), gpu.read_all(&h).expect("h"))
                });
                let stored = product(&x, &as_stored(format, &gate, n, k), m, n, k);
                failures.extend(compare(&what, &y, &stored, k as f64 + 2.0).err());
                let up = product(&x, &as_stored(format, &up, n, k), m, n, k);
                failures.extend(compare(&format!("gated {what}"), &h, &gated(&stored, &up), k as f64 + 8.0).err());
            }
        }
    }
    assert!(failures.is_empty(), "seed {SEED}\n{}", failures.join("\n"));
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn a_row_has_the_same_bits_alone_and_in_a_batch() {
    let mut numbers = Numbers(SEED);
    let (m, n, k) = (37, 70, 300);
    let (x, w) = (numbers.take(m * k), numbers.take(n * k));
    for format in WeightFormat::ALL {
        let together = both_orders("together", |gpu| {
            let (w, x) = (gpu.matrix(format, &w, n, k).expect("w"), gpu.upload(&x).expect("x"));
            let mut y = gpu.zeros(m * n).expect("y");
            gpu.linear(&w, &x, m, &mut y).expect("linear");
            gpu.read_all(&y).expect("y")
        });
        for row in [0, 8, 36] {
            let alone = both_orders("alone", |gpu| {
                let w = gpu.matrix(format, &w, n, k).expect("w");
                let x = gpu.upload(&x[row * k..(row + 1) * k]).expect("x");
                let mut y = gpu.zeros(n).expect("y");
                gpu.linear(&w, &x, 1, &mut y).expect("linear");
                gpu.read_all(&y).expect("y")
            });
            assert_eq!(alone, together[row * n..(row + 1) * n], "{} row {row}", format.name());
        }
    }
}

#[test]
fn stored_weights_are_as_near_as_the_format_allows() {
    let mut numbers = Numbers(SEED);
    for (n, k) in [(1, 1), (33, 65), (64, 96)] {
        for factor in [1.0, 1e-20, 3e-7, 1e4] {
            let values: Vec<f32> = numbers.take(n * k).iter().map(|value| value * factor).collect();
            for format in WeightFormat::ALL {
                let stored = unpack(format, &pack(format, &values, n, k).expect("shape"), n, k).expect("shape");
                for (at, (value, stored)) in values.iter().zip(&stored).enumerate() {
                    let block = at / k * k + at % k / 32 * 32;
                    let block = &values[block..(block + 32).min(at / k * k + k)];
                    let most = block.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                    // Half a step and the scale's own rounding (2^-11, or half the smallest f16); -8 has no opposite.
                    let bound = match format {
                        WeightFormat::F32 => 0.0,
                        WeightFormat::Bf16 => value.abs() / 256.0,
                        WeightFormat::Q8 => most / 127.0 * 0.51 + most / 2048.0 + 127.0 * 3e-8,
                        WeightFormat::Q4 => most / 8.0 * 1.01 + most / 2048.0 + 8.0 * 3e-8,
                    };
                    let off = (value - stored).abs();
                    assert!(off <= bound, "{} {value} became {stored}, bound {bound}", format.name());
                }
            }
        }
    }
    let zeros = pack(WeightFormat::Q4, &[0.0; 64], 2, 32).expect("shape");
    assert_eq!(unpack(WeightFormat::Q4, &zeros, 2, 32).expect("shape"), vec![0.0; 64]);
    assert!(pack(WeightFormat::Q4, &[0.0; 63], 2, 32).is_err());
    assert!(unpack(WeightFormat::Q8, &zeros, 2, 32).is_err());
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn denormals_and_zeros_are_multiplied_right() {
    // Scales that are subnormal f16, weights and inputs that are subnormal f32.
    for (format, weight) in [(WeightFormat::Q4, 8e-7f32), (WeightFormat::Q8, 1e-5), (WeightFormat::F32, 1e-41)] {
        let w: Vec<f32> = (0..64).map(|i| if i % 3 == 0 { 0.0 } else { weight * (i % 5) as f32 / 4.0 }).collect();
        let x = vec![1.0f32; 32];
        let got = both_orders("denormal", |gpu| {
            let (w, x) = (gpu.matrix(format, &w, 2, 32).expect("w"), gpu.upload(&x).expect("x"));
            let mut y = gpu.zeros(2).expect("y");
            gpu.linear(&w, &x, 1, &mut y).expect("linear");
            gpu.read_all(&y).expect("y")
        });
        let expected = product(&x, &as_stored(format, &w, 2, 32), 1, 2, 32);
        compare(format.name(), &got, &expected, 34.0).expect("near");
        assert!(got.iter().all(|value| *value > 0.0), "{}: flushed to zero: {got:?}", format.name());
    }
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn the_head_finds_the_cpus_token_and_probability() {
    let mut numbers = Numbers(SEED);
    let kernels = registry::best();
    for format in WeightFormat::ALL {
        for (vocab, k, rows) in [(1, 1, 1), (31, 8, 3), (33, 40, 8), (300, 64, 9), (1000, 96, 33)] {
            let x: Vec<f32> = numbers.take(rows * k).iter().map(|value| value * 4.0).collect();
            let w = numbers.take(vocab * k);
            let banned: Vec<i32> = if vocab > 30 { vec![7, vocab as i32 - 1] } else { Vec::new() };
            let what = format!("{} vocab={vocab} k={k} rows={rows}", format.name());
            let (token, probability) = both_orders(&what, |gpu| {
                let (w, x) = (gpu.matrix(format, &w, vocab, k).expect("w"), gpu.upload(&x).expect("x"));
                let banned = gpu.upload(&banned).expect("banned");
                let mut work = HeadMemory::new(gpu, rows, vocab).expect("work");
                gpu.head(&w, &x, rows, &banned, &mut work).expect("head");
                (gpu.read_all(&work.token).expect("token"), gpu.read_all(&work.probability).expect("probability"))
            });
            let packed = PackedMatrix::pack(&as_stored(format, &w, vocab, k), vocab, k).expect("shape");
            let mut logits = vec![0.0; rows * vocab];
            kernels.linear(&x, rows, &packed, &mut logits).expect("shape");
            for (row, logits) in logits.chunks_exact_mut(vocab).enumerate() {
                for token in &banned {
                    logits[*token as usize] = f32::NEG_INFINITY;
                }
                let top = kernels.top1(logits).expect("numbers");
                let off = (probability[row] - top.probability).abs();
                assert!(off <= 1e-4 * top.probability, "{what} row {row}: {} for {top:?}", probability[row]);
                let lead = logits[top.index] - logits[token[row] as usize];
                assert!(lead.abs() < 1e-4, "{what} row {row}: token {} for {top:?}", token[row]);
            }
        }
    }
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn the_head_takes_the_lowest_of_equals_and_refuses_what_is_no_number() {
    let vocab = 70;
    let head = |w: &[f32], banned: &[i32]| {
        both_orders("head", |gpu| {
            let w = gpu.matrix(WeightFormat::F32, w, vocab, 1).expect("w");
            let (x, banned) = (gpu.upload(&[1.0f32]).expect("x"), gpu.upload(banned).expect("banned"));
            let mut work = HeadMemory::new(gpu, 1, vocab).expect("work");
            gpu.head(&w, &x, 1, &banned, &mut work).expect("head");
            (gpu.read_all(&work.token).expect("token")[0], gpu.read_all(&work.probability).expect("probability")[0])
        })
    };
    let mut w = vec![0.0; vocab];
    for at in [40, 41, 65] {
        w[at] = 200.0;
    }
    assert_eq!(head(&w, &[]), (40, 1.0 / 3.0));
    assert_eq!(head(&w, &[40]), (41, 0.5));
    let all: Vec<i32> = (0..vocab as i32).collect();
    assert_eq!(head(&w, &all), (-1, 0.0), "nothing is left");
    for bad in [f32::NAN, f32::INFINITY] {
        for at in [0, 33, 69] {
            let mut w = w.clone();
            w[at] = bad;
            assert_eq!(head(&w, &[]).0, -1, "{bad} at {at}");
        }
    }
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn wrong_shapes_are_refused_before_anything_runs() {
    both_orders("shapes", |gpu| {
        let w = gpu.matrix(WeightFormat::Q4, &[0.5; 64], 2, 32).expect("w");
        let other = gpu.matrix(WeightFormat::Q8, &[0.5; 64], 2, 32).expect("w");
        let (x, mut y) = (gpu.zeros(64).expect("x"), gpu.zeros(4).expect("y"));
        assert!(gpu.matrix(WeightFormat::Q4, &[0.5; 63], 2, 32).is_err());
        assert!(gpu.linear(&w, &x, 3, &mut y).is_err(), "x is too small");
        assert!(gpu.linear(&w, &x, usize::MAX, &mut y).is_err());
        assert!(gpu.gated((&w, &other), &x, 1, &mut y).is_err(), "two formats");
        let mut two = Matrices::new(gpu, WeightFormat::F32, 2, 2, 32).expect("room");
        assert!(gpu.set_matrix(&mut two, 2, &[0.0; 64]).is_err());
        assert!(gpu.linear(&two, &x, 1, &mut y).is_err(), "not one matrix");
        gpu.linear(&w, &x, 0, &mut y).expect("no rows are no work");
        bits(&gpu.read_all(&y).expect("y"))
    });
}
