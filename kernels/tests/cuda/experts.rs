//! Routing, grouping, the experts' products and their sum, against the CPU's choice and f64 loops.

use weir_kernels::cuda::WeightFormat;
use weir_kernels::cuda::experts::{RowBlocks, Slots};
use weir_kernels::cuda::products::Matrices;
use weir_kernels::route::{Choice, RouteScratch, Routing};

use crate::products::{gated, product};
use crate::support::{Expected, Numbers, compare};
use crate::{SEED, as_stored, both_orders};

/// What the CPU chooses for each row.
fn choices(logits: &[f32], bias: Option<&[f32]>, routing: Routing, experts: usize, ends: &[usize]) -> Vec<Vec<Choice>> {
    let (mut memory, mut out) = (RouteScratch::default(), Vec::new());
    let mut start = 0;
    for end in ends {
        let own = &logits[start * experts..end * experts];
        if let Some(capacity) = routing.capacity {
            memory.admit(own, experts, bias, capacity);
        }
        for row in own.chunks_exact(experts) {
            let chosen = match routing.capacity {
                Some(_) => memory.choose_admitted(row, bias, routing),
                None => memory.choose(row, bias, routing),
            };
            out.push(chosen.to_vec());
        }
        start = *end;
    }
    out
}

fn routing(groups: usize, groups_kept: usize, experts_kept: usize, capacity: Option<usize>) -> Routing {
    Routing { groups, groups_kept, experts_kept, normalize: capacity.is_none(), scale: 2.5, capacity }
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn the_device_chooses_what_the_cpu_chooses() {
    let mut numbers = Numbers(SEED);
    for (experts, routing) in [
        (1, routing(1, 1, 1, None)),
        (8, routing(4, 2, 2, None)),
        (16, routing(4, 2, 4, None)),
        (256, routing(8, 4, 8, None)),
        (6, routing(6, 2, 2, None)), // groups of one
        (16, routing(1, 1, 4, Some(5))),
        (256, routing(8, 4, 8, Some(48))),
        (16, routing(1, 1, 4, Some(3))), // the pool is smaller than the choice
    ] {
        for rows in [1, 5, 32, 64] {
            // Blocks of 32, and one that is cut.
            let ends: Vec<usize> = (1..=rows).filter(|end| end % 32 == 0 || *end == rows || *end == 3).collect();
            let mut logits: Vec<f32> = numbers.take(rows * experts).iter().map(|value| value * 3.0).collect();
            // Equal scores: the lower index wins on both sides.
            logits[..experts].fill(0.25);
            for bias in [None, Some(numbers.take(experts))] {
                let what = format!("experts={experts} rows={rows} {routing:?} bias={}", bias.is_some());
                let (choice, weight) = both_orders(&what, |gpu| {
                    let mut slots = Slots::new(gpu, rows, experts, routing.experts_kept).expect("slots");
                    let blocks = RowBlocks::new(gpu, &ends).expect("blocks");
                    let logits = gpu.upload(&logits).expect("logits");
                    let bias = bias.as_ref().map(|bias| gpu.upload(bias).expect("bias"));
                    gpu.route(&logits, bias.as_ref(), routing, rows, &blocks, &mut slots).expect("route");
                    slots.chosen(gpu).expect("chosen")
                });
                for (row, expected) in choices(&logits, bias.as_deref(), routing, experts, &ends).iter().enumerate() {
                    let kept = routing.experts_kept;
                    for at in 0..kept {
                        let (expert, weight) = (choice[row * kept + at], weight[row * kept + at]);
                        match expected.get(at) {
                            Some(due) => {
                                assert_eq!(expert, due.expert as i32, "{what} row {row}");
                                assert!((weight - due.weight).abs() <= 4e-6 * due.weight.abs(), "{what} row {row}");
                            }
                            None => assert_eq!((expert, weight), (-1, 0.0), "{what} row {row}"),
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn logits_that_are_no_numbers_stay_inside_the_slots() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (choice, _) = both_orders("bad", |gpu| {
            let mut slots = Slots::new(gpu, 2, 8, 2).expect("slots");
            let logits = gpu.upload(&[bad; 16]).expect("logits");
            let blocks = RowBlocks::new(gpu, &[2]).expect("blocks");
            gpu.route(&logits, None, routing(4, 2, 2, None), 2, &blocks, &mut slots).expect("route");
            let (choice, weight) = slots.chosen(gpu).expect("chosen");
            (choice, crate::bits(&weight))
        });
        assert!(choice.iter().all(|expert| (0..8).contains(expert)), "{choice:?}");
    }
}

/// A layer of experts: gate and up `[experts][width, hidden]`, down `[experts][hidden, width]`.
struct Layer {
    experts: usize,
    hidden: usize,
    width: usize,
    gate: Vec<Vec<f32>>,
    up: Vec<Vec<f32>>,
    down: Vec<Vec<f32>>,
}

impl Layer {
    fn new(numbers: &mut Numbers, experts: usize, hidden: usize, width: usize) -> Self {
        let mut part = || (0..experts).map(|_| numbers.take(width * hidden)).collect();
        Layer { experts, hidden, width, gate: part(), up: part(), down: part() }
    }

    /// In f64, but for the f32 sums in between that the device has, too.
    fn expected(&self, format: WeightFormat, x: &[f32], routes: &[Vec<Choice>], shared: &[f32]) -> Vec<Expected> {
        let Layer { hidden, width, .. } = *self;
        let mut out = Vec::new();
        for (row, route) in routes.iter().enumerate() {
            let x = &x[row * hidden..(row + 1) * hidden];
            let mut sums: Vec<Expected> = shared[row * hidden..(row + 1) * hidden]
                .iter()
                .map(|value| Expected { value: f64::from(*value), magnitude: f64::from(value.abs()) })
                .collect();
            for choice in route {
                let stored = |part: &[Vec<f32>], n, k| as_stored(format, &part[choice.expert], n, k);
                let gate = product(x, &stored(&self.gate, width, hidden), 1, width, hidden);
                let up = product(x, &stored(&self.up, width, hidden), 1, width, hidden);
                let inner = gated(&gate, &up);
                let down = stored(&self.down, hidden, width);
                for (i, sum) in sums.iter_mut().enumerate() {
                    for (inner, weight) in inner.iter().zip(&down[i * width..(i + 1) * width]) {
                        let factor = f64::from(*weight) * f64::from(choice.weight);
                        sum.value += inner.value * factor;
                        sum.magnitude += inner.magnitude * factor.abs();
                    }
                }
            }
            out.extend(sums);
        }
        out
    }
}

fn check(layer: &Layer, format: WeightFormat, rows: usize, bias: &[f32], numbers: &mut Numbers, what: &str) {
    let Layer { experts, hidden, width, .. } = *layer;
    let routing = routing(1, 1, 2.min(experts), None);
    let logits: Vec<f32> = numbers.take(rows * experts);
    let (x, shared) = (numbers.take(rows * hidden), numbers.take(rows * hidden));
    let what = format!("{what}: {} rows={rows} experts={experts}", format.name());
    let got = both_orders(&what, |gpu| {
        let set = |part: &[Vec<f32>], n, k| {
            let mut matrices = Matrices::new(gpu, format, experts, n, k).expect("room");
            for (expert, values) in part.iter().enumerate() {
                gpu.set_matrix(&mut matrices, expert, values).expect("expert");
            }
            matrices
        };
        let (gate, up) = (set(&layer.gate, width, hidden), set(&layer.up, width, hidden));
        let down = set(&layer.down, hidden, width);
        let mut slots = Slots::new(gpu, rows, experts, routing.experts_kept).expect("slots");
        let blocks = RowBlocks::new(gpu, &[rows]).expect("blocks");
        let (logits, bias) = (gpu.upload(&logits).expect("logits"), gpu.upload(bias).expect("bias"));
        gpu.route(&logits, Some(&bias), routing, rows, &blocks, &mut slots).expect("route");
        let x = gpu.upload(&x).expect("x");
        let taken = rows * routing.experts_kept;
        let (mut inner, mut y) = (gpu.zeros(taken * width).expect("inner"), gpu.zeros(taken * hidden).expect("y"));
        gpu.expert_gated((&gate, &up), &x, &slots, &mut inner).expect("gated");
        gpu.expert_linear(&down, &inner, &slots, &mut y).expect("linear");
        let shared = gpu.upload(&shared).expect("shared");
        let mut out = gpu.zeros(rows * hidden).expect("out");
        gpu.combine(&y, &slots, Some(&shared), hidden, &mut out).expect("combine");
        gpu.read_all(&out).expect("out")
    });
    let routes = choices(&logits, Some(bias), routing, experts, &[rows]);
    let expected = layer.expected(format, &x, &routes, &shared);
    compare(&what, &got, &expected, (hidden + width) as f64 + 32.0).expect("near");
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn experts_equal_the_plain_sum() {
    let mut numbers = Numbers(SEED);
    for (experts, hidden, width) in [(1, 8, 4), (5, 33, 17), (8, 64, 32), (40, 40, 70)] {
        let layer = Layer::new(&mut numbers, experts, hidden, width);
        for format in WeightFormat::ALL {
            for rows in [1, 2, 9, 32, 33, 64] {
                let even = vec![0.0; experts];
                check(&layer, format, rows, &even, &mut numbers, "even");
            }
        }
    }
    // More choices than are sorted at a time.
    let layer = Layer::new(&mut numbers, 5, 8, 4);
    check(&layer, WeightFormat::F32, 600, &[0.0; 5], &mut numbers, "many");
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn all_tokens_may_go_to_one_expert_and_none_to_another() {
    let mut numbers = Numbers(SEED);
    let layer = Layer::new(&mut numbers, 12, 64, 32);
    // Everyone visits 3 and 11; 0 is never used, nor is any other.
    let mut bias = vec![0.0; 12];
    (bias[3], bias[11], bias[0]) = (9.0, 8.0, -9.0);
    for format in WeightFormat::ALL {
        for rows in [1, 8, 64] {
            check(&layer, format, rows, &bias, &mut numbers, "one expert");
        }
    }
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn routing_that_does_not_fit_is_refused() {
    both_orders("refused", |gpu| {
        assert!(Slots::new(gpu, 1, 0, 0).is_err());
        assert!(Slots::new(gpu, 1, 5000, 8).is_err());
        assert!(Slots::new(gpu, 1, 4, 5).is_err());
        let mut slots = Slots::new(gpu, 2, 8, 2).expect("slots");
        let logits = gpu.zeros(16).expect("logits");
        let blocks = RowBlocks::new(gpu, &[1]).expect("blocks");
        for wrong in [routing(3, 1, 2, None), routing(0, 1, 2, None), routing(4, 2, 3, None), routing(1, 1, 2, Some(4))]
        {
            assert!(gpu.route(&logits, None, wrong, 2, &blocks, &mut slots).is_err(), "{wrong:?}");
        }
        assert!(gpu.route(&logits, None, routing(4, 2, 2, None), 3, &blocks, &mut slots).is_err(), "too many rows");
        assert!(RowBlocks::new(gpu, &[2, 2]).is_err());
    });
}
