//! Shapes of packed products and of attention: whatever the sizes, formats, rows, visits and windows, every instruction set
//! stays inside its buffers and agrees with the plain code. Run with AddressSanitizer, which sees what is read too far, too.

#![no_main]

#[path = "attending.rs"]
mod attending;
#[path = "../../kernels/tests/support/numbers.rs"]
mod numbers;

use libfuzzer_sys::{arbitrary, fuzz_target};
use weir_kernels::packed::experts::{ExpertScratch, PackedExpert, Visits};
use weir_kernels::packed::head::HeadScratch;
use weir_kernels::packed::{Format, Inputs, PackedKernels, PackedWeights, Products, Team, all};
use weir_kernels::registry;

use attending::{Attending, attend};
use numbers::Numbers;

#[derive(Debug, arbitrary::Arbitrary)]
struct Case {
    rows: u8,
    n: u16,
    k: u16,
    format: u8,
    threads: u8,
    seed: u64,
    /// Expert and token of each visit.
    visits: Vec<(u8, u8)>,
    never: Vec<u16>,
    /// A number that is awkward, and where.
    odd: (u16, f32),
    attending: Attending,
}

const EXPERTS: usize = 5;

fuzz_target!(|case: Case| {
    let (rows, n, k) = (usize::from(case.rows % 40), usize::from(case.n % 90), usize::from(case.k % 200));
    let format = Format::ALL[usize::from(case.format) % Format::ALL.len()];
    let team = Team::new(usize::from(case.threads % 3) + 1);
    attend(&case.attending, &team, case.seed);
    let mut numbers = Numbers(case.seed);
    let mut x = numbers.take(rows * k);
    let place = usize::from(case.odd.0);
    if let Some(number) = x.get_mut(place) {
        *number = case.odd.1;
    }
    let Ok(w) = PackedWeights::pack(format, &numbers.take(n * k), n, k) else { return };
    let experts: Vec<[PackedWeights; 3]> = (0..EXPERTS)
        .filter_map(|_| {
            let mut pack = |n: usize, k: usize| PackedWeights::pack(format, &numbers.take(n * k), n, k).ok();
            Some([pack(n, k)?, pack(n, k)?, pack(k, n)?])
        })
        .collect();
    let mut visits = Visits::default();
    for expert in 0..EXPERTS {
        let own = case.visits.iter().filter(|(which, _)| usize::from(*which) % EXPERTS == expert);
        // One token too many now and then: that must be refused.
        let mut tokens: Vec<usize> = own.map(|(_, token)| usize::from(*token) % (rows + 1)).collect();
        tokens.sort_unstable();
        tokens.dedup();
        visits.add(expert, tokens.into_iter().map(|token| (token, 0.5)));
    }
    let mut never: Vec<u32> = case.never.iter().map(|token| u32::from(*token)).collect();
    never.sort_unstable();
    let results: Vec<Results> = all()
        .into_iter()
        .filter_map(|entry| entry.kernels)
        .map(|kernels| run(kernels, &team, &x, rows, &w, &experts, &visits, &never))
        .collect();
    let odd = !case.odd.1.is_finite() || case.odd.1.abs() > 1e3;
    let Some((plain, others)) = results.split_last() else { return };
    for other in others {
        assert_eq!(other.refused, plain.refused);
        assert_eq!(other.product.len(), plain.product.len());
        for (got, due) in other.product.iter().chain(&other.experts).zip(plain.product.iter().chain(&plain.experts)) {
            let near = (got - due).abs() <= 1e-3 * due.abs().max(1.0);
            assert!(near || odd || got.to_bits() == due.to_bits(), "{got} where the plain code has {due}");
        }
        assert!(other.tops.iter().zip(&plain.tops).all(|(got, due)| got.is_some() == due.is_some() || odd));
    }
});

#[derive(Default)]
struct Results {
    product: Vec<f32>,
    experts: Vec<f32>,
    tops: Vec<Option<usize>>,
    refused: bool,
}

#[allow(clippy::too_many_arguments)]
fn run(
    kernels: &'static PackedKernels,
    team: &Team,
    x: &[f32],
    rows: usize,
    w: &PackedWeights,
    experts: &[[PackedWeights; 3]],
    visits: &Visits,
    never: &[u32],
) -> Results {
    let products = Products { kernels, team };
    let (mut inputs, mut out) = (Inputs::default(), Results::default());
    products.fill_for(&mut inputs, x, rows, w).expect("the shape is right");
    out.product = vec![0.0; rows * w.n()];
    products.linear(&inputs, w, &mut out.product).expect("the shape is right");
    let mut best = vec![None; rows];
    products
        .top1(registry::best(), &inputs, w, never, &mut HeadScratch::default(), &mut best)
        .expect("the shape is right");
    out.tops = best.into_iter().map(|best| best.map(|top| top.index)).collect();
    assert!(out.tops.iter().flatten().all(|token| *token < w.n()));
    out.experts = vec![0.0; rows * w.k()];
    let find = |index: usize| experts.get(index).map(|[gate, up, down]| PackedExpert { gate, up, down });
    let mut scratch = ExpertScratch::default();
    out.refused = products.experts(registry::best(), &inputs, &find, visits, &mut scratch, &mut out.experts).is_err();
    if out.refused {
        out.experts.clear();
    }
    out
}
