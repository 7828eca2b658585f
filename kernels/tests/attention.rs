//! Attention over keys and values in each form they are stored in, with every kernel this CPU has: as f64 attention over
//! the stored numbers, to the bit the same whatever else is asked, and in 8 bits as near to the unrounded as half a step
//! of each number allows.

mod support;

use half::bf16;
use support::{Expected, Numbers, compare, present, under_miri};
use weir_kernels::kv::Rounding;
use weir_kernels::packed::{self, Products, Team};
use weir_kernels::{AttentionShape, Kernels, KvPanel, PANEL, Strided, Visible, registry};

const SEED: u64 = 7;
const CANARY: f32 = 12_345.0;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    F32,
    Bf16,
    Int8,
}

const KINDS: [Kind; 3] = [Kind::F32, Kind::Bf16, Kind::Int8];

/// Panels `[kv_heads, n]`; one holds keys, then values, and scales of both.
struct Stored {
    kind: Kind,
    shape: AttentionShape,
    floats: Vec<Vec<f32>>,
    halves: Vec<Vec<bf16>>,
    quants: Vec<Vec<i8>>,
    scales: Vec<[[f32; PANEL]; 2]>,
}

/// What [`Stored`] makes of one position's row of one head.
fn rounded(kind: Kind, row: &[f32]) -> Vec<f32> {
    let rounding = Rounding::of(row);
    let round = |x: &f32| match kind {
        Kind::F32 => *x,
        Kind::Bf16 => bf16::from_f32(*x).to_f32(),
        Kind::Int8 => f32::from(rounding.round(*x)) * rounding.scale,
    };
    row.iter().map(round).collect()
}

impl Stored {
    /// `keys` and `values` are `[positions, kv_heads, d]`; places of no position hold `filler`.
    fn new(kind: Kind, shape: AttentionShape, [keys, values]: [&[f32]; 2], filler: i8) -> Stored {
        let AttentionShape { kv_heads, head_dim: d, .. } = shape;
        let count = (keys.len() / d / kv_heads).div_ceil(PANEL);
        let (all, size) = (kv_heads * count, shape.key_panel() + shape.value_panel());
        let mut stored = Stored {
            kind,
            shape,
            floats: vec![vec![f32::from(filler); size]; all],
            halves: vec![vec![bf16::from_f32(f32::from(filler)); size]; all],
            quants: vec![vec![filler; size]; all],
            scales: vec![[[1.0; PANEL]; 2]; all],
        };
        for (of_values, rows) in [keys, values].into_iter().enumerate() {
            for (row, numbers) in rows.chunks(d).enumerate() {
                let (position, head) = (row / kv_heads, row % kv_heads);
                let (panel, lane) = (head * count + position / PANEL, position % PANEL);
                let rounding = Rounding::of(numbers);
                stored.scales[panel][of_values][lane] = rounding.scale;
                for (i, number) in numbers.iter().enumerate() {
                    let place = match of_values {
                        0 => i * PANEL + lane,
                        _ => shape.key_panel() + (i / PANEL * PANEL + lane) * PANEL + i % PANEL,
                    };
                    stored.floats[panel][place] = *number;
                    stored.halves[panel][place] = bf16::from_f32(*number);
                    // Pairs that are multiplied together lie together.
                    let place = match of_values {
                        0 => (i / 2 * PANEL + lane) * 2 + i % 2,
                        _ => {
                            shape.key_panel()
                                + i / PANEL * PANEL * PANEL
                                + (lane / 2 * PANEL + i % PANEL) * 2
                                + lane % 2
                        }
                    };
                    stored.quants[panel][place] = rounding.round(*number);
                }
            }
        }
        stored
    }

    fn views(&self) -> Vec<KvPanel<'_>> {
        let at = self.shape.key_panel();
        let view = |panel: usize| match self.kind {
            Kind::F32 => {
                let (keys, values) = self.floats[panel].split_at(at);
                KvPanel::F32 { keys, values }
            }
            Kind::Bf16 => {
                let (keys, values) = self.halves[panel].split_at(at);
                KvPanel::Bf16 { keys, values }
            }
            Kind::Int8 => {
                let (keys, values) = self.quants[panel].split_at(at);
                KvPanel::Int8 { keys, values, scales: &self.scales[panel] }
            }
        };
        (0..self.floats.len()).map(view).collect()
    }
}

fn every() -> Vec<&'static Kernels> {
    present(registry::all().into_iter().map(|entry| (entry.name, entry.kernels)))
}

/// f64 attention of one query over the positions that `seen` says, of one head of `[positions, kv_heads, d]`.
fn plain(
    q: &[f32],
    rows: [&[f32]; 2],
    (kv_heads, head): (usize, usize),
    seen: std::ops::Range<usize>,
) -> Vec<Expected> {
    let d = q.len();
    let row = |of: usize, position: usize| &rows[of][(position * kv_heads + head) * d..][..d];
    let dot = |key: &[f32]| q.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
    let weights: Vec<f64> = seen.clone().map(|at| (dot(row(0, at)) / (d as f64).sqrt()).exp()).collect();
    let total: f64 = weights.iter().sum();
    let element = |i: usize| {
        let terms = seen.clone().zip(&weights).map(|(at, weight)| weight / total * f64::from(row(1, at)[i]));
        let (value, magnitude) = terms.fold((0.0, 0.0), |(v, m), t| (v + t, m + t.abs()));
        Expected { value, magnitude }
    };
    (0..d).map(element).collect()
}

fn run(kernels: &Kernels, stored: &Stored, q: Strided<'_>, visible: Visible<'_>) -> Vec<f32> {
    let mut out = vec![CANARY; visible.ends.len() * stored.shape.heads * stored.shape.head_dim];
    kernels.attention(stored.shape, q, &stored.views(), visible, &mut out).expect("shape");
    out
}

#[test]
fn attention_equals_the_plain_softmax_over_what_is_stored_and_ignores_what_is_hidden() {
    let mut numbers = Numbers(SEED);
    let mut failures = Vec::new();
    let shapes = [(1, 1, 8), (4, 2, 16), (4, 2, 32), (6, 2, 40), (4, 1, 128), (7, 1, 25)];
    let sizes = [(1, 1), (1, 33), (5, 20), (32, 64), (33, 97), (3, 300), (2, 545), (2, 2100)];
    for (heads, kv_heads, head_dim) in under_miri(&shapes, &[(2, 1, 8)]) {
        for (tokens, positions) in under_miri(&sizes, &[(2, 33)]) {
            let shape = AttentionShape { heads, kv_heads, head_dim };
            let (d, row) = (head_dim, kv_heads * head_dim);
            let (q, k, v) =
                (numbers.take(tokens * heads * d), numbers.take(positions * row), numbers.take(positions * row));
            let ends: Vec<usize> = (0..tokens).map(|_| 1 + (numbers.next_u64() as usize) % positions).collect();
            for (kind, window) in KINDS.into_iter().zip([None, Some(1), Some(40)].into_iter().cycle().skip(tokens % 3))
            {
                let [own_k, own_v] =
                    [&k, &v].map(|rows| rows.chunks(d).flat_map(|row| rounded(kind, row)).collect::<Vec<_>>());
                let mut expected = Vec::new();
                for (token, end) in ends.iter().enumerate() {
                    for head in 0..heads {
                        let seen = end.saturating_sub(window.unwrap_or(usize::MAX))..*end;
                        let q = &q[(token * heads + head) * d..][..d];
                        expected.extend(plain(q, [&own_k, &own_v], (kv_heads, head / (heads / kv_heads)), seen));
                    }
                }
                for kernels in every() {
                    let visible = Visible { ends: &ends, window };
                    let strided = Strided { elements: &q, stride: heads * d };
                    let got = run(kernels, &Stored::new(kind, shape, [&k, &v], 0), strided, visible);
                    let what = format!(
                        "{} {kind:?} heads={heads}/{kv_heads} d={d} tokens={tokens} of {positions}, window {window:?}",
                        kernels.name()
                    );
                    // Queries and weights of 16 bits are wrong by half a step of 2^-15 each; scores here are below 4.
                    let steps = if kind == Kind::Int8 { 2048.0 } else { 4.0 * d as f64 + positions as f64 };
                    failures.extend(compare(&what, &got, &expected, steps).err());
                    let beside = run(kernels, &Stored::new(kind, shape, [&k, &v], 77), strided, visible);
                    assert_eq!(got, beside, "{what}: hidden positions leak");
                }
            }
        }
    }
    assert!(failures.is_empty(), "seed {SEED}\n{}", failures.join("\n"));
}

#[test]
fn bf16_gives_the_bits_of_the_same_numbers_in_f32() {
    let mut numbers = Numbers(SEED);
    let (head_dim, tokens, positions) = under_miri(&[(40, 9, 345)], &[(8, 2, 33)])[0];
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim };
    let (q, rows) = (numbers.take(tokens * 4 * head_dim), [0; 2].map(|_| numbers.take(positions * 2 * head_dim)));
    let ends: Vec<usize> = (0..tokens).map(|token| positions - token).collect();
    let same = [0, 1].map(|of| rounded(Kind::Bf16, &rows[of]));
    let stored = Stored::new(Kind::Bf16, shape, [&rows[0], &rows[1]], 0);
    let widened = Stored::new(Kind::F32, shape, [&same[0], &same[1]], 0);
    for kernels in every() {
        let q = Strided { elements: &q, stride: 4 * head_dim };
        let [got, due] = [&stored, &widened].map(|stored| run(kernels, stored, q, ends[..].into()));
        assert_eq!(got, due, "{}", kernels.name());
    }
}

#[test]
fn whole_numbers_do_not_outgrow_their_sums() {
    let head_dim = if cfg!(miri) { 32 } else { 256 };
    let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim };
    let positions = 2 * head_dim;
    // Each product is the largest there is, and all of a sum have the same sign.
    for sign in [1.0, -1.0] {
        let (keys, values) = (vec![sign; positions * head_dim], vec![sign * 3.0; positions * head_dim]);
        let stored = Stored::new(Kind::Int8, shape, [&keys, &values], 0);
        for kernels in every() {
            let q = vec![0.5; head_dim];
            let got = run(kernels, &stored, Strided { elements: &q, stride: head_dim }, [positions][..].into());
            assert!(got.iter().all(|number| (number - sign * 3.0).abs() < 1e-3), "{}: {}", kernels.name(), got[0]);
        }
    }
}

#[test]
fn what_is_no_number_does_not_become_one() {
    let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 8 };
    let (clean, mut broken, mut wrong) = (vec![1.0; 33 * 8], vec![1.0; 33 * 8], vec![0.5; 8]);
    (broken[3], wrong[5]) = (f32::NAN, f32::INFINITY);
    for kind in KINDS {
        for kernels in every() {
            for (q, keys, values) in
                [(&[0.5; 8][..], &broken, &clean), (&[0.5; 8], &clean, &broken), (&wrong, &clean, &clean)]
            {
                let stored = Stored::new(kind, shape, [keys, values], 0);
                let got = run(kernels, &stored, Strided { elements: q, stride: 8 }, [33][..].into());
                assert!(got.iter().any(|number| number.is_nan()), "{} {kind:?}: {got:?}", kernels.name());
            }
        }
    }
}

#[test]
fn attention_of_a_token_has_the_same_bits_alone_and_in_a_batch() {
    for (tokens, positions) in under_miri(&[(23, 300), (11, 1030)], &[(3, 51)]) {
        same_alone(tokens, positions);
    }
}

fn same_alone(tokens: usize, positions: usize) {
    let mut numbers = Numbers(SEED);
    let (heads, head_dim) = if cfg!(miri) { (2, 8) } else { (4, 32) };
    let (shape, width) = (AttentionShape { heads, kv_heads: heads / 2, head_dim }, heads * head_dim);
    let q = numbers.take(tokens * width);
    let (k, v) = (numbers.take(positions * width / 2), numbers.take(positions * width / 2));
    // The first see no more than the first 256 positions, which are weighed together, or the first 1,024, a span.
    let ends: Vec<usize> = (0..tokens).map(|token| positions - 2 * tokens + 2 * token + 1).collect();
    for (kind, window) in [(Kind::F32, None), (Kind::F32, Some(30)), (Kind::Bf16, None), (Kind::Int8, Some(270))] {
        let stored = Stored::new(kind, shape, [&k, &v], 0);
        for kernels in every() {
            let all = Strided { elements: &q, stride: width };
            let together = run(kernels, &stored, all, Visible { ends: &ends, window });
            let stride = width + 22;
            let mut apart = vec![CANARY; tokens * stride];
            apart
                .chunks_exact_mut(stride)
                .zip(q.chunks_exact(width))
                .for_each(|(place, q)| place[..width].copy_from_slice(q));
            let apart = Strided { elements: &apart[..tokens * stride - 22], stride };
            let same = run(kernels, &stored, apart, Visible { ends: &ends, window });
            assert_eq!(same, together, "{}: queries that lie apart", kernels.name());
            for token in 0..tokens {
                let own = Visible { ends: &ends[token..=token], window };
                let alone = run(kernels, &stored, all.skip(token), own);
                assert_eq!(alone, together[token * width..(token + 1) * width], "{} token {token}", kernels.name());
            }
        }
    }
}

#[test]
fn threads_that_share_a_prefix_change_no_bit() {
    let mut numbers = Numbers(SEED);
    // Spans are of 1,024 positions; where tokens and heads are enough for the threads, none is cut out.
    let cases = [
        (4, 1, 16, 1, 2100, None),
        (6, 2, 40, 3, 3100, Some(1500)),
        (2, 2, 8, 19, 1030, None),
        (2, 1, 8, 64, 1100, None),
    ];
    for (heads, kv_heads, head_dim, tokens, positions, window) in under_miri(&cases, &[(1, 1, 8, 1, 260, None)]) {
        let shape = AttentionShape { heads, kv_heads, head_dim };
        let (width, row) = (heads * head_dim, kv_heads * head_dim);
        let (q, k, v) = (numbers.take(tokens * width), numbers.take(positions * row), numbers.take(positions * row));
        // Some see nothing of the last spans, and with a window nothing of the first.
        let ends: Vec<usize> = (0..tokens).map(|token| positions - token * (positions - 40) / tokens).collect();
        let (elements, stride, visible) = (&q[..], width, Visible { ends: &ends, window });
        for kind in under_miri(&KINDS, &[Kind::F32]) {
            let stored = Stored::new(kind, shape, [&k, &v], 0);
            for kernels in every() {
                let due = run(kernels, &stored, Strided { elements, stride }, visible);
                let mut memory = Vec::new();
                for threads in under_miri(&[1, 2, 5, 16], &[3]) {
                    let (team, mut got) = (Team::new(threads), vec![CANARY; tokens * width]);
                    let products = Products { kernels: packed::best(), team: &team };
                    let q = Strided { elements, stride };
                    let done = products.attention(kernels, shape, q, &stored.views(), visible, &mut memory, &mut got);
                    done.expect("shape");
                    assert_eq!(got, due, "{} {kind:?} {shape:?} {tokens} of {positions}, {threads}", kernels.name());
                    // What is left of another call is not read.
                    memory.fill(f32::NAN);
                }
            }
        }
    }
}

#[test]
fn attention_in_8_bits_is_as_near_as_half_a_step() {
    let largest = |row: &[f32]| row.iter().fold(0.0, |largest, element: &f32| f64::from(element.abs()).max(largest));
    let mut numbers = Numbers(11);
    for d in under_miri(&[8, 32, 40, 128], &[8]) {
        for positions in under_miri(&[1, 31, 33, 97], &[33]) {
            let (q, keys, values) = (numbers.take(d), numbers.take(positions * d), numbers.take(positions * d));
            let expected = plain(&q, [&keys, &values], (1, 0), 0..positions);
            // A score is wrong by at most half a step for each of the query's elements, a weight by e to twice the
            // largest of those, a value by half a step.
            let length: f64 = q.iter().map(|q| f64::from(q.abs())).sum();
            let score = length * largest(&keys) / 254.0 / (d as f64).sqrt();
            let bound = (2.0 * score).exp_m1() * largest(&values) + largest(&values) / 254.0 + 1e-4;
            let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: d };
            let stored = Stored::new(Kind::Int8, shape, [&keys, &values], 0);
            for kernels in every() {
                let got = run(kernels, &stored, Strided { elements: &q, stride: d }, [positions][..].into());
                for (got, expected) in got.iter().zip(&expected) {
                    let wrong = (f64::from(*got) - expected.value).abs();
                    assert!(wrong <= bound, "{} d={d} of {positions}: {got} for {}", kernels.name(), expected.value);
                }
            }
        }
    }
}

#[test]
fn numbers_are_rounded_to_the_nearest_step_and_none_is_made_up() {
    let row = Numbers(12).take(40);
    let rounding = Rounding::of(&row);
    for (own, stored) in row.iter().zip(rounded(Kind::Int8, &row)) {
        assert!((stored - own).abs() <= 0.5001 * rounding.scale, "{stored} for {own}");
    }
    assert!(rounded(Kind::Int8, &[0.0; 8]).iter().all(|number| *number == 0.0));
    assert!(rounded(Kind::Int8, &[1e-40; 8]).iter().all(|number| *number == 0.0), "all but zero is zero");
    assert_eq!(rounded(Kind::Int8, &[3e38, -3e38])[0], 3e38);
    for wrong in [f32::NAN, f32::INFINITY] {
        assert!(rounded(Kind::Int8, &[1.0, wrong]).iter().all(|number| number.is_nan()), "{wrong}");
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let kernels = registry::best();
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 8 };
    let (keys, values) = (vec![0.0; 256], vec![0.0; 1024]);
    let panel = KvPanel::F32 { keys: &keys, values: &values };
    let two = [0.0; 32];
    let ask = |panels: &[KvPanel<'_>], elements: &[f32], stride: usize, ends: &[usize], window: Option<usize>| {
        let mut out = vec![0.0; 16 * ends.len()];
        kernels.attention(shape, Strided { elements, stride }, panels, Visible { ends, window }, &mut out)
    };
    assert!(ask(&[panel], &two, 16, &[32], None).is_ok());
    assert!(ask(&[panel], &two, 16, &[32], Some(1)).is_ok());
    assert!(ask(&[panel], &two, 16, &[33], None).is_err(), "sees beyond the panels");
    assert!(ask(&[panel], &two, 16, &[0], None).is_err(), "sees nothing");
    assert!(ask(&[panel], &two, 16, &[32], Some(0)).is_err(), "sees nothing");
    assert!(ask(&[], &two, 16, &[1], None).is_err());
    assert!(ask(&[panel], &two, 8, &[1, 1], None).is_err(), "rows overlap");
    let odd = |heads: usize, kv_heads: usize| {
        let (shape, none) = (AttentionShape { heads, kv_heads, head_dim: 8 }, Strided { elements: &[], stride: 32 });
        kernels.attention(shape, none, &[], [][..].into(), &mut [])
    };
    assert!(odd(1, 1).is_ok() && odd(0, 1).is_err() && odd(0, 0).is_err() && odd(3, 2).is_err());
    assert!(ask(&[panel], &two[..31], 16, &[1, 1], None).is_err(), "a row is cut");
    let short = [
        KvPanel::F32 { keys: &keys[1..], values: &values },
        KvPanel::Bf16 { keys: &[bf16::ZERO; 256], values: &[bf16::ZERO; 1023] },
        KvPanel::Int8 { keys: &[0; 255], values: &[0; 1024], scales: &[[0.0; PANEL]; 2] },
    ];
    assert!(short.iter().all(|panel| ask(&[*panel], &two, 16, &[1], None).is_err()));
    let other = KvPanel::Int8 { keys: &[0; 256], values: &[0; 1024], scales: &[[0.0; PANEL]; 2] };
    assert!(ask(&[other], &two, 16, &[1], None).is_ok());
    assert!(ask(&[other, panel], &two, 16, &[1], None).is_err(), "not of one form");
    assert!(ask(&[panel, other], &two, 16, &[1], None).is_err(), "not of one form");
}
