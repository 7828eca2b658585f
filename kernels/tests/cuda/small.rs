//! Embedding rows and the residual norm.

use weir_kernels::cuda::blocks::Numbers as Stored;
use weir_kernels::registry;

use crate::support::{Expected, Numbers, compare};
use crate::{SEED, both_orders};

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn embeddings_are_gathered_and_strangers_refused() {
    let mut numbers = Numbers(SEED);
    let (vocab, hidden) = (9, 300);
    let table = numbers.take(vocab * hidden);
    for bf16 in [false, true] {
        let got = both_orders("embed", |gpu| {
            let stored = Stored::upload(gpu, bf16, &table).expect("table");
            let mut x = gpu.zeros(3 * hidden).expect("x");
            gpu.embed(&stored, hidden, &[8, 0, 8], &mut x).expect("embed");
            assert!(gpu.embed(&stored, hidden, &[9], &mut x).is_err());
            assert!(gpu.embed(&stored, hidden, &[0; 4], &mut x).is_err(), "x is too small");
            gpu.read_all(&x).expect("x")
        });
        let round = |value: &f32| if bf16 { half::bf16::from_f32(*value).to_f32() } else { *value };
        let expected: Vec<f32> =
            [8, 0, 8].iter().flat_map(|row| &table[row * hidden..(row + 1) * hidden]).map(round).collect();
        assert_eq!(got, expected);
    }
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn the_residual_norm_equals_the_cpus() {
    let mut numbers = Numbers(SEED);
    for (rows, d) in [(1, 1), (3, 31), (2, 256), (5, 700)] {
        let (x, delta, weight) = (numbers.take(rows * d), numbers.take(rows * d), numbers.take(d));
        for with_delta in [false, true] {
            let (sum, normed) = both_orders("norm", |gpu| {
                let (mut sum, mut normed) = (gpu.upload(&x).expect("x"), gpu.zeros(rows * d).expect("normed"));
                let delta = with_delta.then(|| gpu.upload(&delta).expect("delta"));
                let weight = gpu.upload(&weight).expect("weight");
                gpu.add_rms_norm(&mut sum, delta.as_ref(), (&weight, 1e-6), rows, &mut normed).expect("norm");
                (gpu.read_all(&sum).expect("sum"), gpu.read_all(&normed).expect("normed"))
            });
            let expected: Vec<f32> =
                x.iter().zip(&delta).map(|(x, delta)| if with_delta { x + delta } else { *x }).collect();
            assert_eq!(sum, expected);
            let mut cpu = vec![0.0; rows * d];
            registry::best().rms_norm(&expected, &weight, 1e-6, &mut cpu).expect("shape");
            let cpu: Vec<Expected> = cpu
                .iter()
                .map(|value| Expected { value: f64::from(*value), magnitude: f64::from(value.abs()) })
                .collect();
            compare(&format!("rows={rows} d={d}"), &normed, &cpu, 16.0).expect("near");
        }
    }
}
