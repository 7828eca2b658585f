//! Expert choice against a second, plainly written form of the rule, on random and on awkward routers.

mod support;

use proptest::prelude::*;
use weir_kernels::route::{Choice, Routing, choose, sigmoid};

/// The rule by exhaustive counting: an entry is kept when fewer than `keep` entries beat it.
fn kept(values: &[f32], keep: usize, allowed: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..values.len())
        .filter(|i| allowed(*i))
        .filter(|i| {
            let beats = |j: &usize| allowed(*j) && (values[*j] > values[*i] || (values[*j] == values[*i] && j < i));
            (0..values.len()).filter(beats).count() < keep
        })
        .collect()
}

fn plain(logits: &[f32], bias: &[f32], routing: Routing) -> Vec<Choice> {
    let biased: Vec<f32> = logits.iter().zip(bias).map(|(l, b)| sigmoid(*l) + b).collect();
    let size = logits.len() / routing.groups;
    let group_scores: Vec<f32> = (0..routing.groups)
        .map(|g| {
            let two = kept(&biased, 2, |e| e / size == g);
            let mut scores: Vec<f32> = two.iter().map(|e| biased[*e]).collect();
            scores.sort_by(|a, b| b.total_cmp(a));
            scores.iter().sum()
        })
        .collect();
    let groups = kept(&group_scores, routing.groups_kept, |_| true);
    let experts = kept(&biased, routing.experts_kept, |e| groups.contains(&(e / size)));
    let sum: f64 = experts.iter().map(|e| f64::from(sigmoid(logits[*e]))).sum();
    experts
        .into_iter()
        .map(|expert| {
            let weight = f64::from(sigmoid(logits[expert])) / if routing.normalize { sum } else { 1.0 };
            Choice { expert, weight: weight as f32 * routing.scale }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn equals_the_plain_rule(
        (groups, size) in (1usize..6, 1usize..6),
        seed in any::<u64>(),
        normalize in any::<bool>(),
        kept in 1usize..6,
        experts_kept in 1usize..8,
    ) {
        let mut numbers = support::Numbers(seed);
        // Coarse values, so that equal scores occur.
        let logits: Vec<f32> = numbers.take(groups * size).iter().map(|v| (v * 4.0).round()).collect();
        let bias: Vec<f32> = numbers.take(groups * size).iter().map(|v| (v * 2.0).round() / 4.0).collect();
        let groups_kept = kept.min(groups);
        let routing = Routing { groups, groups_kept, experts_kept: experts_kept.min(groups_kept * size), normalize, scale: 2.5 };
        let (got, expected) = (choose(&logits, Some(&bias), routing), plain(&logits, &bias, routing));
        prop_assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            prop_assert_eq!(got.expert, expected.expert);
            prop_assert!((got.weight - expected.weight).abs() < 1e-5);
        }
    }
}

#[test]
fn bias_moves_the_choice_but_not_the_weight() {
    let routing = Routing { groups: 1, groups_kept: 1, experts_kept: 1, normalize: false, scale: 1.0 };
    let chosen = choose(&[2.0, -1.0, 0.0], Some(&[0.0, 5.0, 0.0]), routing);
    assert_eq!(chosen, vec![Choice { expert: 1, weight: sigmoid(-1.0) }]);
}

#[test]
fn an_empty_router_chooses_nothing() {
    let routing = Routing { groups: 4, groups_kept: 2, experts_kept: 2, normalize: true, scale: 1.0 };
    assert!(choose(&[], None, routing).is_empty());
}
