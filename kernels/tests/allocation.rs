//! Products allocate nothing once their memory has grown: a denoise step asks for them hundreds of times. The only test of
//! its binary, since it counts what every thread allocates.

#[path = "support/allocations.rs"]
mod allocations;
#[path = "support/numbers.rs"]
mod numbers;

use allocations::allocations;
use numbers::Numbers;
use weir_kernels::packed::experts::{ExpertScratch, PackedExpert, Visits};
use weir_kernels::packed::head::HeadScratch;
use weir_kernels::packed::{Format, Inputs, PackedWeights, Products, Team, best};
use weir_kernels::{AttentionShape, KvPanel, Strided, registry};

const EXPERTS: usize = 6;

#[test]
fn nothing_is_allocated_once_the_memory_has_grown() {
    let (rows, hidden, width, vocabulary) = (12, 128, 64, 300);
    let mut numbers = Numbers(17);
    let mut pack = |n: usize, k: usize| PackedWeights::pack(Format::Q4, &numbers.take(n * k), n, k).expect("finite");
    let (matrix, head) = (pack(width, hidden), pack(vocabulary, hidden));
    let experts: Vec<[PackedWeights; 3]> =
        (0..EXPERTS).map(|_| [pack(width, hidden), pack(width, hidden), pack(hidden, width)]).collect();
    let x = Numbers(18).take(rows * hidden);
    let team = Team::new(2);
    let (kernels, products) = (registry::best(), Products { kernels: best(), team: &team });
    let (mut inputs, mut visits) = (Inputs::default(), Visits::default());
    let (mut expert_scratch, mut head_scratch) = (ExpertScratch::default(), HeadScratch::default());
    let (mut product, mut sum) = (vec![0.0; rows * width], vec![0.0; rows * hidden]);
    let mut likeliest = vec![None; rows];
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 32 };
    let (keys, values) = (vec![0.5; shape.key_panel()], vec![0.25; shape.value_panel()]);
    let panels = [KvPanel::F32 { keys: &keys, values: &values }; 80];
    let visible = vec![32; rows];
    let (mut mixed, mut unjoined) = (vec![0.0; rows * hidden], Vec::new());

    let mut step = || {
        products.fill(&mut inputs, &x, rows, hidden, (true, false)).expect("the shape is right");
        products.linear(&inputs, &matrix, &mut product).expect("the shape is right");
        let chosen = (0..rows).flat_map(|row| [(row, row % EXPERTS, 0.75), (row, (row + 1) % EXPERTS, 0.25)]);
        visits.sort(EXPERTS, chosen);
        let find = |index: usize| experts.get(index).map(|[gate, up, down]| PackedExpert { gate, up, down });
        products.experts(kernels, &inputs, &find, &visits, &mut expert_scratch, &mut sum).expect("the shape is right");
        products.top1(kernels, &inputs, &head, &[3], &mut head_scratch, &mut likeliest).expect("the shape is right");
        let q = Strided { elements: &x, stride: hidden };
        // A prefix that threads share, and many tokens behind a short one.
        for (rows, ends) in [(1, &[40 * 32][..]), (rows, &visible)] {
            let mixed = &mut mixed[..rows * hidden];
            products
                .attention(kernels, shape, q, &panels, ends.into(), &mut unjoined, mixed)
                .expect("the shape is right");
        }
    };
    // Which thread takes which part is chance: several times, so that each has met the largest.
    (0..200).for_each(|_| step());
    // One that met it last is a thread's right; that every step allocates is not.
    let quiet = (0..50).filter(|_| {
        let before = allocations();
        step();
        allocations() == before
    });
    assert!(quiet.count() >= 45, "most steps should allocate nothing");
}
