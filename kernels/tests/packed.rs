//! Packed formats and every packed kernel this CPU has, against plain f64 loops, over shapes from the edges of strips,
//! groups and tiles, and with numbers that are awkward.

mod support;

use support::{Expected, Numbers, compare, present, under_miri};
use weir_kernels::packed::experts::{ExpertScratch, PackedExpert, Visits};
use weir_kernels::packed::head::HeadScratch;
use weir_kernels::packed::{Alone, Block, Format, Inputs, PackedKernels, PackedWeights, Products, Team, all};
use weir_kernels::registry;

const SEED: u64 = 11;
const CANARY: f32 = 12_345.0;

fn every() -> Vec<&'static PackedKernels> {
    present(all().into_iter().map(|entry| (entry.name, entry.kernels)))
}

fn inputs(kernels: &'static PackedKernels, x: &[f32], rows: usize, k: usize) -> Inputs {
    let (mut inputs, team) = (Inputs::default(), Team::new(1));
    Products { kernels, team: &team }.fill(&mut inputs, x, rows, k, (true, true)).expect("shape");
    inputs
}

/// What `format` makes of `x`.
fn seen(inputs: &Inputs, format: Format, x: &[f32], row: usize, k: usize) -> Vec<f32> {
    match format {
        Format::Bf16 => x[row * k..(row + 1) * k].to_vec(),
        _ => inputs.quantised(row).expect("filled"),
    }
}

/// One row of activations times all rows of weights.
fn dots(x: &[f32], w: &[f32], largest: &[f64]) -> Vec<Expected> {
    let magnitude: f64 = x.iter().map(|x| f64::from(x.abs())).sum();
    let dot = |(w, largest): (&[f32], &f64)| Expected {
        value: x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum(),
        // A format with a minimum adds and takes away up to twice the largest weight.
        magnitude: magnitude * largest * 3.0,
    };
    w.chunks_exact(x.len()).zip(largest).map(dot).collect()
}

fn largest(w: &[f32], k: usize) -> Vec<f64> {
    w.chunks_exact(k).map(|w| f64::from(w.iter().fold(0.0_f32, |largest, w| largest.max(w.abs())))).collect()
}

#[test]
fn a_product_equals_the_triple_loop_over_what_was_packed_and_stays_inside_its_output() {
    let mut numbers = Numbers(SEED);
    let mut failures = Vec::new();
    let team = Team::new(2);
    let all = [(1, 1), (16, 32), (15, 31), (17, 33), (33, 64), (48, 65), (80, 160), (130, 512)];
    let shapes = under_miri(&all, &[(1, 1), (17, 33)]);
    for kernels in every() {
        for (n, k) in shapes.iter().copied() {
            let w = numbers.take(n * k);
            for format in Format::ALL {
                let packed = PackedWeights::pack(format, &w, n, k).expect("packs");
                let unpacked = packed.unpack();
                let largest = largest(&unpacked, k);
                for m in under_miri(&[1, 2, 3, 5, 7, 8, 9, 13, 33, 64], &[2]) {
                    let x = numbers.take(m * k);
                    let inputs = inputs(kernels, &x, m, k);
                    let mut guarded = vec![CANARY; m * n + 64];
                    let products = Products { kernels, team: &team };
                    products.linear(&inputs, &packed, &mut guarded[32..32 + m * n]).expect("shape");
                    let what = format!("{} {} m={m} n={n} k={k}", kernels.name(), format.name());
                    if guarded[..32].iter().chain(&guarded[32 + m * n..]).any(|value| *value != CANARY) {
                        failures.push(format!("{what}: wrote outside"));
                    }
                    let mut expected = Vec::new();
                    for row in 0..m {
                        expected.extend(dots(&seen(&inputs, format, &x, row, k), &unpacked, &largest));
                    }
                    failures.extend(compare(&what, &guarded[32..32 + m * n], &expected, k as f64 / 8.0 + 8.0).err());
                }
            }
        }
    }
    assert!(failures.is_empty(), "seed {SEED}\n{}", failures.join("\n"));
}

/// The sums of a block are kept in 16 bits where the CPU has no better: here every one of them is as large as it gets.
#[test]
fn products_of_the_largest_quants_overflow_nothing() {
    let k = 64;
    let signs: [fn(usize) -> f32; 6] = [
        |_| 1.0,
        |_| -1.0,
        |i| if i % 2 == 0 { 1.0 } else { -1.0 },
        |i| if i % 4 < 2 { 1.0 } else { -1.0 },
        |i| if i % 4 < 2 { -1.0 } else { 1.0 },
        |i| if i % 8 < 4 { 1.0 } else { -1.0 },
    ];
    let (team, w): (_, Vec<f32>) = (Team::new(1), (0..signs.len() * k).map(|i| signs[i / k](i % k)).collect());
    let pack = |format| PackedWeights::pack(format, &w, signs.len(), k).expect("packs");
    let mut packed = Format::ALL.map(pack).to_vec();
    // What we never write, and a file may hold.
    let lowest = PackedWeights::lay_rows(Format::Q8, signs.len(), k, |row, blocks| {
        let quant = |i: usize| if signs[row](i) < 0.0 { i8::MIN } else { i8::MAX };
        let scale = half::f16::ONE.to_le_bytes();
        let block = |from| Block { scale, minimum: [0; 2], quants: std::array::from_fn(|i| quant(from + i)) };
        blocks.extend([0, 32].map(block));
    });
    packed.push(lowest.expect("lays"));
    for kernels in every() {
        for packed in &packed {
            let (format, unpacked) = (packed.format(), packed.unpack());
            let inputs = inputs(kernels, &w, signs.len(), k);
            let mut out = vec![CANARY; signs.len() * signs.len()];
            Products { kernels, team: &team }.linear(&inputs, packed, &mut out).expect("shape");
            let mut expected = Vec::new();
            for row in 0..signs.len() {
                let x = seen(&inputs, format, &w, row, k);
                expected.extend(dots(&x, &unpacked, &largest(&unpacked, k)));
            }
            let what = format!("{} {}", kernels.name(), format.name());
            compare(&what, &out, &expected, 16.0).expect("no sum overflows");
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch_and_on_any_number_of_threads() {
    let mut numbers = Numbers(SEED);
    let (m, n, k) = if cfg!(miri) { (2, 17, 33) } else { (37, 600, 512) };
    let (x, w) = (numbers.take(m * k), numbers.take(n * k));
    for kernels in every() {
        for format in Format::ALL {
            let packed = PackedWeights::pack(format, &w, n, k).expect("packs");
            let mut together = vec![0.0; m * n];
            let team = Team::new(3);
            let products = Products { kernels, team: &team };
            products.linear(&inputs(kernels, &x, m, k), &packed, &mut together).expect("shape");
            for (row, expected) in together.chunks_exact(n).enumerate() {
                let mut alone = vec![0.0; n];
                let team = Team::new(1);
                let own = inputs(kernels, &x[row * k..(row + 1) * k], 1, k);
                Products { kernels, team: &team }.linear(&own, &packed, &mut alone).expect("shape");
                assert_eq!(alone, expected, "{} {} row {row}", kernels.name(), format.name());
            }
            let mut by_one = vec![0.0; m * n];
            let (mut alone, integer) = (Alone::default(), format != Format::Bf16);
            alone.fill(kernels, &x, m, k, (integer, !integer)).expect("shape");
            alone.linear(kernels, &packed, &mut by_one).expect("shape");
            assert_eq!(by_one, together, "{} {} by one thread", kernels.name(), format.name());
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "there is one that Miri knows")]
fn every_instruction_set_gives_the_plain_codes_result() {
    let mut numbers = Numbers(SEED);
    let (m, n, k) = (5, 48, 256);
    let (x, w) = (numbers.take(m * k), numbers.take(n * k));
    let team = Team::new(1);
    for format in Format::ALL {
        let packed = PackedWeights::pack(format, &w, n, k).expect("packs");
        let product = |kernels| {
            let mut y = vec![0.0; m * n];
            Products { kernels, team: &team }.linear(&inputs(kernels, &x, m, k), &packed, &mut y).expect("shape");
            y
        };
        let plain = product(all().last().and_then(|entry| entry.kernels).expect("the portable kernels"));
        for kernels in every() {
            for (got, due) in product(kernels).iter().zip(&plain) {
                // The plain code rounds a product before it adds it, where the others round once.
                assert!((got - due).abs() <= 2e-5 * due.abs().max(1.0), "{} {}", kernels.name(), format.name());
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "many numbers for a mean, all in safe code")]
fn a_format_loses_no_more_than_it_says() {
    let mut numbers = Numbers(SEED);
    let (n, k) = (20, 192);
    for scale in [1.0f32, 1e-3, 1e3] {
        let w: Vec<f32> = numbers.take(n * k).iter().map(|w| w * scale).collect();
        let mut errors = Vec::new();
        for format in Format::ALL {
            let got = PackedWeights::pack(format, &w, n, k).expect("packs").unpack();
            let rms = |v: &mut dyn Iterator<Item = f64>| (v.map(|x| x * x).sum::<f64>() / (n * k) as f64).sqrt();
            let error = rms(&mut got.iter().zip(&w).map(|(got, w)| f64::from(got - w)));
            errors.push(error / rms(&mut w.iter().map(|w| f64::from(*w))));
        }
        // Uniform numbers: a step of 1/8 (1/7.5, 1/127) of the largest gives an error of step / √12, against a mean of
        // 1/√3.
        let [q4, q4m, q4h, q8, bf16] = errors[..] else { panic!("five formats") };
        assert!(q4 < 0.075 && q4m < 0.070 && q4h <= q4m && q8 < 0.005 && bf16 < 0.002, "{scale}: {errors:?}");
        assert!(q4m < q4 && q8 < q4h, "{errors:?}");
    }
    // Numbers that all lie on one side are what a minimum is for.
    let w: Vec<f32> = numbers.take(n * k).iter().map(|w| w * 0.1 + 1.0).collect();
    let error = |format| {
        let got = PackedWeights::pack(format, &w, n, k).expect("packs").unpack();
        got.iter().zip(&w).map(|(got, w)| (got - w).abs()).sum::<f32>()
    };
    assert!(error(Format::Q4h) <= error(Format::Q4m) * 1.01 && error(Format::Q4m) <= error(Format::Q4) * 1.01);
}

#[test]
fn zeros_denormals_and_numbers_that_are_none() {
    let (n, k) = if cfg!(miri) { (6, 64) } else { (17, 96) };
    let team = Team::new(1);
    for format in Format::ALL {
        for (weight, input) in [(0.0, 1.0), (1.0, 0.0), (1e-40, 1.0), (1.0, 1e-40), (-0.0, -0.0), (3e-8, 1e30)] {
            let packed = PackedWeights::pack(format, &vec![weight; n * k], n, k).expect("packs");
            for kernels in every() {
                let inputs = inputs(kernels, &vec![input; k], 1, k);
                let mut y = vec![CANARY; n];
                Products { kernels, team: &team }.linear(&inputs, &packed, &mut y).expect("shape");
                let due = f64::from(weight) * f64::from(input) * k as f64;
                let bound = due.abs() * 0.02 + 1e-6 * f64::from(input).abs().max(1e-30) * k as f64;
                assert!(
                    y.iter().all(|y| (f64::from(*y) - due).abs() <= bound),
                    "{} {} {weight} {input}: {y:?} where {due} is due",
                    kernels.name(),
                    format.name()
                );
            }
        }
        let packed = PackedWeights::pack(format, &vec![1.0; n * k], n, k).expect("packs");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for kernels in every() {
                let mut x = vec![1.0; k];
                x[40] = bad;
                let mut y = vec![0.0; n];
                Products { kernels, team: &team }.linear(&inputs(kernels, &x, 1, k), &packed, &mut y).expect("shape");
                assert!(y.iter().all(|y| !y.is_finite()), "{} {} hides {bad}", kernels.name(), format.name());
            }
            let mut w = vec![1.0; n * k];
            w[5 * k] = bad;
            let error = PackedWeights::pack(format, &w, n, k).expect_err("not a number");
            assert!(error.to_string().contains("row 5"), "{error}");
        }
    }
}

/// One expert's three matrices, packed.
struct Expert([PackedWeights; 3]);

impl Expert {
    fn new(numbers: &mut Numbers, format: Format, hidden: usize, width: usize) -> Expert {
        let mut pack = |n, k| PackedWeights::pack(format, &numbers.take(n * k), n, k).expect("packs");
        Expert([pack(width, hidden), pack(width, hidden), pack(hidden, width)])
    }

    fn borrowed(&self) -> PackedExpert<'_> {
        let [gate, up, down] = &self.0;
        PackedExpert { gate, up, down }
    }
}

#[test]
fn experts_equal_one_expert_at_a_time_whoever_visits_them() {
    let mut numbers = Numbers(SEED);
    let f32s = registry::best();
    let [q4, q4m, q4h, q8, bf16] = Format::ALL;
    let all = [(64, 32, q4), (80, 48, q4m), (96, 33, q4h), (128, 40, q8), (96, 64, bf16)];
    let few = [(32, 16, q4), (17, 16, q4m), (33, 17, q4h), (32, 9, q8), (16, 16, bf16)];
    let count = if cfg!(miri) { 3 } else { 6 };
    for (hidden, width, format) in under_miri(&all, &few) {
        let experts: Vec<Expert> = (0..count).map(|_| Expert::new(&mut numbers, format, hidden, width)).collect();
        for (m, pattern) in under_miri(&[(1, 0), (7, 0), (32, 0), (9, 1), (64, 2), (33, 3)], &[(2, 0), (1, 1), (1, 3)])
        {
            let x = numbers.take(m * hidden);
            let mut visits = Visits::default();
            let mut pairs = Vec::new(); // expert, token, weight, in order
            for expert in 0..experts.len() {
                let tokens: Vec<(usize, f32)> = (0..m)
                    .filter(|token| match pattern {
                        // Spread out; all to one, the others unused; all to all; nobody.
                        0 => (token + expert) % 3 == 0,
                        1 => expert == count - 2,
                        2 => true,
                        _ => false,
                    })
                    .map(|token| (token, 0.25 + numbers.next().abs()))
                    .collect();
                pairs.extend(tokens.iter().map(|(token, weight)| (expert, *token, *weight)));
                visits.add(expert, tokens);
            }
            for kernels in every() {
                let mut results = Vec::new();
                for threads in [1, 2] {
                    let team = Team::new(threads);
                    let products = Products { kernels, team: &team };
                    let mut out = vec![CANARY; m * hidden];
                    let find = |index: usize| experts.get(index).map(Expert::borrowed);
                    let (inputs, mut scratch) = (inputs(kernels, &x, m, hidden), ExpertScratch::default());
                    products.experts(f32s, &inputs, &find, &visits, &mut scratch, &mut out).expect("shape");
                    results.push(out);
                }
                assert_eq!(results[0], results[1], "threads change the result");
                // One visit at a time through the plain product.
                let team = Team::new(1);
                let products = Products { kernels, team: &team };
                let mut due = vec![0.0f32; m * hidden];
                for (expert, token, weight) in &pairs {
                    let [gate, up, down] = &experts[*expert].0;
                    let own = inputs(kernels, &x[token * hidden..(token + 1) * hidden], 1, hidden);
                    let (mut g, mut u, mut d) = (vec![0.0; width], vec![0.0; width], vec![0.0; hidden]);
                    products.linear(&own, gate, &mut g).expect("shape");
                    products.linear(&own, up, &mut u).expect("shape");
                    f32s.silu_mul(&mut g, &u).expect("shape");
                    products.linear(&inputs(kernels, &g, 1, width), down, &mut d).expect("shape");
                    f32s.add_scaled(&mut due[token * hidden..(token + 1) * hidden], &d, *weight).expect("shape");
                }
                for (got, due) in results[0].iter().zip(&due) {
                    let bound = 1e-5 * due.abs().max(1.0);
                    assert!((got - due).abs() <= bound, "{} {} m={m}: {got} {due}", kernels.name(), format.name());
                }
            }
        }
    }
}

/// Found by `cargo xtask fuzz shapes`.
#[test]
fn experts_without_inputs_or_width_add_nothing() {
    for kernels in every() {
        for (hidden, width) in [(0, 16), (32, 0), (0, 0)] {
            let expert = Expert::new(&mut Numbers(SEED), Format::Q4, hidden, width);
            let (team, mut visits, mut out) = (Team::new(1), Visits::default(), vec![CANARY; 2 * hidden]);
            visits.add(0, [(0, 1.0), (1, 1.0)]);
            let (inputs, mut scratch) = (inputs(kernels, &vec![1.0; 2 * hidden], 2, hidden), ExpertScratch::default());
            let find = |_: usize| Some(expert.borrowed());
            Products { kernels, team: &team }
                .experts(registry::best(), &inputs, &find, &visits, &mut scratch, &mut out)
                .expect("shape");
            assert_eq!(out, vec![0.0; 2 * hidden], "{} {hidden} {width}", kernels.name());
        }
    }
}

#[test]
fn the_confidence_head_equals_the_logits_top() {
    let mut numbers = Numbers(SEED);
    let f32s = registry::best();
    for (n, k) in under_miri(&[(1, 32), (17, 64), (256, 64), (257, 32), (3000, 96)], &[(1, 32), (257, 32)]) {
        let packed = PackedWeights::pack(Format::Q8, &numbers.take(n * k), n, k).expect("packs");
        for kernels in every() {
            for m in under_miri(&[1, 5, 32], &[1]) {
                let x: Vec<f32> = numbers.take(m * k).iter().map(|x| x * 3.0).collect();
                let inputs = inputs(kernels, &x, m, k);
                let team = Team::new(2);
                let products = Products { kernels, team: &team };
                let mut logits = vec![0.0; m * n];
                products.linear(&inputs, &packed, &mut logits).expect("shape");
                let never: Vec<u32> = if n > 20 { vec![0, 3, 19, n as u32 - 1] } else { Vec::new() };
                let mut best = vec![None; m];
                let mut scratch = HeadScratch::default();
                products.top1(f32s, &inputs, &packed, &never, &mut scratch, &mut best).expect("shape");
                for (logits, best) in logits.chunks_exact_mut(n).zip(best) {
                    never.iter().for_each(|token| logits[*token as usize] = f32::NEG_INFINITY);
                    let (due, best) = (f32s.top1(logits).expect("finite"), best.expect("finite"));
                    assert_eq!(best.index, due.index, "{} n={n}", kernels.name());
                    assert!((best.probability - due.probability).abs() < 1e-5, "{best:?} {due:?}");
                }
            }
            let inputs = inputs(kernels, &vec![f32::NAN; k], 1, k);
            let (team, mut best, mut scratch) = (Team::new(1), vec![None; 1], HeadScratch::default());
            Products { kernels, team: &team }
                .top1(f32s, &inputs, &packed, &[], &mut scratch, &mut best)
                .expect("shape");
            assert_eq!(best, [None]);
        }
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let kernels = weir_kernels::packed::best();
    let team = Team::new(1);
    let products = Products { kernels, team: &team };
    let packed = PackedWeights::pack(Format::Q4, &[1.0; 64], 2, 32).expect("packs");
    assert!(PackedWeights::pack(Format::Q4, &[1.0; 63], 2, 32).is_err());
    let owner = std::sync::Arc::new(packed.bytes().to_vec());
    assert!(PackedWeights::new(Format::Q4, 2, 32, owner.clone(), 0..owner.len()).is_ok());
    assert!(PackedWeights::new(Format::Q4, 17, 32, owner.clone(), 0..owner.len()).is_err());
    assert!(PackedWeights::new(Format::Q4, usize::MAX, 32, owner.clone(), 0..owner.len()).is_err());
    assert!(PackedWeights::new(Format::Q4, 2, 32, owner.clone(), 0..owner.len() + 1).is_err());
    assert!(packed.row(2, &mut [0.0; 32]).is_err() && packed.row(0, &mut [0.0; 31]).is_err());
    let mut inputs = Inputs::default();
    assert!(products.fill(&mut inputs, &[1.0; 31], 1, 32, (true, false)).is_err());
    products.fill(&mut inputs, &[1.0; 32], 1, 32, (false, true)).expect("shape");
    assert!(products.linear(&inputs, &packed, &mut [0.0; 2]).is_err(), "filled for bf16 only");
    products.fill(&mut inputs, &[1.0; 32], 1, 32, (true, false)).expect("shape");
    assert!(products.linear(&inputs, &packed, &mut [0.0; 3]).is_err());
    assert!(products.linear(&inputs, &packed, &mut [0.0; 2]).is_ok());
}
