//! Attention over pages, against the CPU's kernel over the same keys and values.

use weir_kernels::cuda::blocks::{Pages, Span, Step};
use weir_kernels::kernels::rope;
use weir_kernels::{AttentionShape, KvPanel, PANEL, Strided, registry};

use crate::support::{Expected, Numbers, compare};
use crate::{SEED, both_orders};

/// One request: how many positions are there before its tokens, and how many tokens.
struct Request {
    before: usize,
    tokens: usize,
}

struct Case {
    shape: AttentionShape,
    half: usize,
    requests: Vec<Request>,
}

/// Keys and values as the CPU wants them, `[kv_heads, panels]`.
fn panels(kv: &[f32], shape: AttentionShape, positions: usize, keys: bool) -> Vec<Vec<f32>> {
    let (d, count) = (shape.head_dim, positions.div_ceil(PANEL));
    let size = if keys { shape.key_panel() } else { shape.value_panel() };
    let mut out = vec![vec![0.0; size]; shape.kv_heads * count];
    for (at, value) in kv.iter().enumerate() {
        let (position, head, i) = (at / d / shape.kv_heads, at / d % shape.kv_heads, at % d);
        let lane = position % PANEL;
        let place = if keys { i * PANEL + lane } else { (i / PANEL * PANEL + lane) * PANEL + i % PANEL };
        out[head * count + position / PANEL][place] = *value;
    }
    out
}

/// q, k and v of one token after norms and rotation, as the CPU makes them.
fn turned(qkv: &[f32], shape: AttentionShape, norms: [&[f32]; 2], angles: (&[f32], &[f32])) -> [Vec<f32>; 3] {
    let (d, kernels) = (shape.head_dim, registry::best());
    let (mut q, rest) = (qkv[..shape.heads * d].to_vec(), &qkv[shape.heads * d..]);
    let (mut k, v) = (rest[..shape.kv_heads * d].to_vec(), rest[shape.kv_heads * d..].to_vec());
    for (rows, norm) in [(&mut q, norms[0]), (&mut k, norms[1])] {
        kernels.rms_norm_in_place(rows, norm, 1e-6).expect("shape");
        rope(rows, d, angles.0, angles.1).expect("shape");
    }
    [q, k, v]
}

/// Runs a case on the device and on the CPU. The device reads each request's prefix in one step, then its block in
/// another; pages are handed out crosswise and hold garbage before.
fn check(case: &Case, bf16: bool, failures: &mut Vec<String>) {
    let Case { shape, half, requests } = case;
    let (shape, half, d) = (*shape, *half, shape.head_dim);
    let width = (shape.heads + 2 * shape.kv_heads) * d;
    let mut numbers = Numbers(SEED);
    let totals: Vec<usize> = requests.iter().map(|request| request.before + request.tokens).collect();
    let all: usize = totals.iter().sum();
    let qkv = numbers.take(all * width);
    let (query_norm, key_norm) = (numbers.take(d), numbers.take(d));
    let angles: Vec<f32> = numbers.take(all * half).iter().map(|angle| angle * 3.0).collect();
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|angle| (angle.cos(), angle.sin())).unzip();
    let pages_of: Vec<usize> = totals.iter().map(|total| total.div_ceil(PANEL)).collect();
    let page_count: usize = pages_of.iter().sum::<usize>() + 1;
    // Page p of request r: crosswise over the pool.
    let mut next = page_count as u32;
    let tables: Vec<Vec<u32>> = pages_of
        .iter()
        .map(|count| {
            (0..*count)
                .map(|_| {
                    next -= 1;
                    next
                })
                .collect()
        })
        .collect();
    let mut starts = vec![0];
    for total in &totals {
        starts.push(starts.last().expect("one") + total);
    }
    let layer = 1;
    let what = format!(
        "{}/{} heads of {d}, bf16 {bf16}, {:?}",
        shape.heads,
        shape.kv_heads,
        requests.iter().map(|request| (request.before, request.tokens)).collect::<Vec<_>>()
    );
    let outputs = both_orders(&what, |gpu| {
        let mut pages = Pages::new(gpu, bf16, shape, 2, page_count).expect("pages");
        let norms = [&query_norm, &key_norm].map(|norm| gpu.upload(norm).expect("norm"));
        let mut outputs = Vec::new();
        for first_half in [true, false] {
            let range = |request: usize| match first_half {
                true => 0..requests[request].before,
                false => requests[request].before..totals[request],
            };
            let visible: Vec<Vec<usize>> = (0..requests.len()).map(|r| vec![range(r).end; range(r).len()]).collect();
            let positions: Vec<Vec<usize>> = (0..requests.len()).map(|r| range(r).collect()).collect();
            let spans: Vec<Span<'_>> = (0..requests.len())
                .map(|r| Span { table: &tables[r], positions: &positions[r], visible: &visible[r] })
                .collect();
            let gather = |values: &[f32], width: usize| -> Vec<f32> {
                let rows = (0..requests.len()).flat_map(|r| range(r).map(move |position| (r, position)));
                rows.flat_map(|(r, position)| &values[(starts[r] + position) * width..][..width]).copied().collect()
            };
            let (cos, sin) = (gather(&cos, half), gather(&sin, half));
            let step = Step::new(gpu, &pages, &spans, (&cos, &sin)).expect("step");
            let rows = step.rows();
            let qkv = gpu.upload(&gather(&qkv, width)).expect("qkv");
            let mut q = gpu.zeros(rows * shape.heads * d).expect("q");
            gpu.place_qkv(&qkv, (&norms[0], &norms[1], 1e-6), &step, layer, &mut q, &mut pages).expect("place");
            let mut partial = gpu.zeros(step.partial_len()).expect("partial");
            let mut out = gpu.zeros(rows * shape.heads * d).expect("out");
            gpu.attention(&q, &pages, &step, layer, &mut partial, &mut out).expect("attention");
            outputs = gpu.read_all(&out).expect("out");
        }
        outputs
    });
    let mut at = 0;
    for (r, request) in requests.iter().enumerate() {
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for position in 0..totals[r] {
            let row = starts[r] + position;
            let angles = (&cos[row * half..][..half], &sin[row * half..][..half]);
            let [q, k, v] = turned(&qkv[row * width..][..width], shape, [&query_norm, &key_norm], angles);
            queries.push(q);
            let round = |value: &f32| if bf16 { half::bf16::from_f32(*value).to_f32() } else { *value };
            keys.extend(k.iter().map(round));
            values.extend(v.iter().map(round));
        }
        let (keys, values) = (panels(&keys, shape, totals[r], true), panels(&values, shape, totals[r], false));
        let views: Vec<KvPanel<'_>> =
            keys.iter().zip(&values).map(|(keys, values)| KvPanel::F32 { keys, values }).collect();
        let q = queries[request.before..].concat();
        let visible = vec![totals[r]; request.tokens];
        let mut expected = vec![0.0; q.len()];
        let rows = Strided { elements: &q, stride: shape.heads * d };
        registry::best().attention(shape, rows, &views, visible[..].into(), &mut expected).expect("shape");
        // Values lie in [-1, 1) and their weights sum to 1; scores are as large as a norm's weights make them. A key that
        // is rounded to bf16 the other way on one side moves a score by 2^-8 of one of its terms.
        let slack = if bf16 { 1024.0 * d as f64 } else { 0.0 };
        let steps = 8.0 * d as f64 + 2.0 * totals[r] as f64 + slack;
        let expected: Vec<Expected> =
            expected.iter().map(|value| Expected { value: f64::from(*value), magnitude: 1.0 }).collect();
        let got = &outputs[at..at + q.len()];
        failures.extend(compare(&format!("{what}, request {r}"), got, &expected, steps).err());
        at += q.len();
    }
    assert_eq!(at, outputs.len());
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn norm_rope_and_attention_over_pages_equal_the_cpus() {
    let heads = |heads, kv_heads, head_dim| AttentionShape { heads, kv_heads, head_dim };
    let request = |before, tokens| Request { before, tokens };
    let cases = [
        // A lone token, nothing before it; the least head.
        Case { shape: heads(1, 1, 2), half: 1, requests: vec![request(0, 1)] },
        // LLaDA2-mini's heads: a block with an empty prefix, and one after 32 positions.
        Case { shape: heads(16, 4, 128), half: 32, requests: vec![request(0, 32)] },
        Case { shape: heads(4, 1, 128), half: 32, requests: vec![request(32, 32)] },
        // Tails everywhere, several requests, a prefix that is cut three times.
        Case { shape: heads(4, 2, 40), half: 10, requests: vec![request(5, 3), request(33, 31), request(0, 7)] },
        Case { shape: heads(2, 1, 16), half: 8, requests: vec![request(545, 20), request(10, 1), request(256, 32)] },
        // Groups that do not divide a tile; the largest head; no rotation.
        Case { shape: heads(6, 2, 32), half: 4, requests: vec![request(64, 11)] },
        Case { shape: heads(3, 1, 256), half: 0, requests: vec![request(31, 2)] },
        Case { shape: heads(20, 1, 8), half: 2, requests: vec![request(3, 33), request(40, 64)] },
    ];
    let mut failures = Vec::new();
    for case in &cases {
        for bf16 in [false, true] {
            check(case, bf16, &mut failures);
        }
    }
    assert!(failures.is_empty(), "seed {SEED}\n{}", failures.join("\n"));
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn tokens_see_what_they_may_and_nothing_else() {
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 8 };
    let width = 4 * 8;
    let mut numbers = Numbers(SEED);
    let qkv = numbers.take(64 * width);
    let positions: Vec<usize> = (0..64).collect();
    let run = |visible: &[usize], qkv: &[f32]| {
        both_orders("visible", |gpu| {
            let mut pages = Pages::new(gpu, false, shape, 1, 2).expect("pages");
            let norm = gpu.upload(&[1.0f32; 8]).expect("norm");
            let span = [Span { table: &[1, 0], positions: &positions, visible }];
            let step = Step::new(gpu, &pages, &span, (&[], &[])).expect("step");
            let qkv = gpu.upload(qkv).expect("qkv");
            let (mut q, mut out) = (gpu.zeros(64 * 16).expect("q"), gpu.zeros(64 * 16).expect("out"));
            let mut partial = gpu.zeros(step.partial_len()).expect("partial");
            gpu.place_qkv(&qkv, (&norm, &norm, 1e-6), &step, 0, &mut q, &mut pages).expect("place");
            gpu.attention(&q, &pages, &step, 0, &mut partial, &mut out).expect("attention");
            gpu.read_all(&out).expect("out")
        })
    };
    // Block-causal, blocks of 8; then the last block's keys and values change.
    let visible: Vec<usize> = (0..64).map(|position| (position / 8 + 1) * 8).collect();
    let before = run(&visible, &qkv);
    let mut changed = qkv.clone();
    changed[56 * width..].iter_mut().for_each(|value| *value = 0.5 - *value);
    let after = run(&visible, &changed);
    assert_eq!(before[..56 * 16], after[..56 * 16], "an earlier block saw a later one");
    assert_ne!(before[56 * 16..], after[56 * 16..]);
    // One that sees itself alone returns its own value.
    let causal: Vec<usize> = (1..=64).collect();
    let own = run(&causal, &qkv);
    for head in 0..2 {
        for i in 0..8 {
            assert!((own[head * 8 + i] - qkv[3 * 8 + i]).abs() < 1e-6);
        }
    }
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn steps_that_do_not_fit_the_pages_are_refused() {
    both_orders("refused", |gpu| {
        let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 8 };
        let pages = Pages::new(gpu, false, shape, 1, 2).expect("pages");
        for (table, positions, visible) in [
            (&[0u32, 1][..], &[0usize][..], &[0usize][..]), // sees nothing
            (&[0, 1], &[0], &[65]),                         // sees beyond its pages
            (&[0, 1], &[64], &[64]),                        // lies beyond its pages
            (&[0, 2], &[0], &[1]),                          // a page that does not exist
            (&[], &[0], &[1]),
            (&[0, 1], &[0, 1], &[1]), // lies somewhere and sees who knows what
        ] {
            let span = [Span { table, positions, visible }];
            assert!(Step::new(gpu, &pages, &span, (&[], &[])).is_err(), "{table:?} {positions:?} {visible:?}");
        }
        let span = [Span { table: &[0], positions: &[0], visible: &[1] }];
        assert!(Step::new(gpu, &pages, &span, (&[0.0; 5], &[0.0; 5])).is_err(), "turns more than a head has");
        assert!(Pages::new(gpu, false, AttentionShape { heads: 3, kv_heads: 2, head_dim: 8 }, 1, 1).is_err());
        assert!(Pages::new(gpu, false, AttentionShape { heads: 1, kv_heads: 1, head_dim: 257 }, 1, 1).is_err());
    });
}
