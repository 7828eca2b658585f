//! Expert choice against a second, plainly written form of the rule, on random and on awkward routers.

mod support;

use proptest::prelude::*;
use weir_kernels::route::{Choice, RouteScratch, Routing, sigmoid};

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
    weighed(experts, logits, routing)
}

/// LLaDA2.2's rule for one block of tokens: an expert is in the pool when fewer than `capacity` experts have a larger
/// best score over the block.
fn plain_block(block: &[Vec<f32>], bias: &[f32], routing: Routing, capacity: usize) -> Vec<Vec<Choice>> {
    let score = |token: &[f32], e: usize| sigmoid(token[e]) + bias[e];
    let best: Vec<f32> =
        (0..bias.len()).map(|e| block.iter().map(|token| score(token, e)).fold(f32::NEG_INFINITY, f32::max)).collect();
    let pool = kept(&best, capacity, |_| true);
    let choices = block.iter().map(|token| {
        let biased: Vec<f32> = (0..bias.len()).map(|e| score(token, e)).collect();
        weighed(kept(&biased, routing.experts_kept, |e| pool.contains(&e)), token, routing)
    });
    choices.collect()
}

fn weighed(experts: Vec<usize>, logits: &[f32], routing: Routing) -> Vec<Choice> {
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
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 5 } else { 300 }))]
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
        let routing = Routing { groups, groups_kept, experts_kept: experts_kept.min(groups_kept * size), normalize, scale: 2.5, capacity: None };
        let (mut memory, expected) = (RouteScratch::default(), plain(&logits, &bias, routing));
        let got = memory.choose(&logits, Some(&bias), routing);
        prop_assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            prop_assert_eq!(got.expert, expected.expert);
            prop_assert!((got.weight - expected.weight).abs() < 1e-5);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 5 } else { 300 }))]
    #[test]
    fn block_routing_equals_the_plain_rule(
        experts in 1usize..24,
        tokens in 0usize..7,
        seed in any::<u64>(),
        normalize in any::<bool>(),
        capacity in 1usize..24,
        experts_kept in 1usize..8,
    ) {
        let mut numbers = support::Numbers(seed);
        // Coarse values, so that equal scores occur.
        let block: Vec<Vec<f32>> =
            (0..tokens).map(|_| numbers.take(experts).iter().map(|v| (v * 4.0).round()).collect()).collect();
        let bias: Vec<f32> = numbers.take(experts).iter().map(|v| (v * 2.0).round() / 4.0).collect();
        let capacity = capacity.min(experts);
        let routing =
            Routing { groups: 1, groups_kept: 1, experts_kept, normalize, scale: 2.5, capacity: Some(capacity) };
        let mut memory = RouteScratch::default();
        prop_assert_eq!(memory.admit(&block.concat(), experts, Some(&bias), capacity).len(), capacity);
        let expected = plain_block(&block, &bias, routing, capacity);
        for (token, expected) in block.iter().zip(&expected) {
            let got = memory.choose_admitted(token, Some(&bias), routing);
            prop_assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                prop_assert_eq!(got.expert, expected.expert);
                prop_assert!((got.weight - expected.weight).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn a_block_keeps_a_token_from_an_expert_that_few_want() {
    let routing =
        Routing { groups: 1, groups_kept: 1, experts_kept: 1, normalize: false, scale: 1.0, capacity: Some(1) };
    let (first, second) = ([3.0, 0.0, -3.0], [-3.0, 1.0, 2.0]);
    let mut memory = RouteScratch::default();
    let pool = memory.admit(&[first, second].concat(), 3, None, 1);
    assert_eq!(pool, [0], "the first token's expert has the highest score of the block");
    assert_eq!(memory.choose_admitted(&second, None, routing), [Choice { expert: 0, weight: sigmoid(-3.0) }]);
    memory.admit(&second, 3, None, 1);
    assert_eq!(memory.choose_admitted(&second, None, routing), [Choice { expert: 2, weight: sigmoid(2.0) }]);
}

#[test]
fn bias_moves_the_choice_but_not_the_weight() {
    let routing = Routing { groups: 1, groups_kept: 1, experts_kept: 1, normalize: false, scale: 1.0, capacity: None };
    let mut memory = RouteScratch::default();
    let chosen = memory.choose(&[2.0, -1.0, 0.0], Some(&[0.0, 5.0, 0.0]), routing);
    assert_eq!(chosen, [Choice { expert: 1, weight: sigmoid(-1.0) }]);
}

#[test]
fn an_empty_router_chooses_nothing() {
    let routing = Routing { groups: 4, groups_kept: 2, experts_kept: 2, normalize: true, scale: 1.0, capacity: None };
    assert!(RouteScratch::default().choose(&[], None, routing).is_empty());
}
