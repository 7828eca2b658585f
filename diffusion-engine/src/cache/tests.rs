//! Random requests that come, read, write, and leave in the middle: every page stays accounted for, and what a cache
//! holds is what its own tokens gave, whoever computed it.

use proptest::prelude::*;
use weir_kernels::{AttentionShape, KvPanel, Strided};

use super::*;

const SHAPE: KvShape = KvShape { layers: 2, attention: AttentionShape { heads: 1, kv_heads: 1, head_dim: 2 } };
const PAGES: usize = 24;

/// What the "model" computes at the end of `tokens`: depends on each of them.
fn key(tokens: &[u32]) -> f32 {
    let sum = tokens.iter().fold(7u32, |sum, token| sum.wrapping_mul(31).wrapping_add(*token));
    (sum >> 16) as f32
}

/// A request and all tokens it will have.
struct Request {
    tokens: Vec<u32>,
    cache: KvCache,
}

fn row(elements: &[f32]) -> Strided<'_> {
    Strided { elements, stride: elements.len() }
}

/// Reads or writes up to `count` more tokens, as a forward would.
fn feed(request: &mut Request, count: usize) {
    let start = request.cache.committed();
    let end = (start + count).min(request.tokens.len());
    request.cache.reserve(end).expect("promised");
    for position in start..end {
        let key = key(&request.tokens[..=position]);
        for layer in 0..SHAPE.layers {
            request.cache.write(layer, position..position + 1, row(&[key, layer as f32]), row(&[-key, 1.0]));
        }
    }
    request.cache.commit(&request.tokens[start..end]);
}

/// Whether every committed position holds what its tokens give.
fn is_true(request: &Request) -> bool {
    let end = request.cache.committed();
    (0..SHAPE.layers).all(|layer| {
        let mut panels = Vec::new();
        request.cache.panels(layer, end, &mut panels);
        (0..end).all(|position| {
            let KvPanel::F32 { keys, values } = panels[position / PANEL] else { return false };
            let (lane, key) = (position % PANEL, key(&request.tokens[..=position]));
            [keys[lane], keys[PANEL + lane]] == [key, layer as f32] && values[lane * PANEL..][..2] == [-key, 1.0]
        })
    })
}

#[derive(Debug, Clone)]
enum Do {
    /// Pages of which patterns, what follows them, for which tenant.
    Join {
        patterns: Vec<u32>,
        more: usize,
        tenant: u8,
    },
    Feed {
        who: usize,
        count: usize,
    },
    Leave {
        who: usize,
    },
}

fn action() -> impl Strategy<Value = Do> {
    let join = (proptest::collection::vec(0u32..2, 0..6), 1usize..150, 0u8..3);
    prop_oneof![
        2 => join.prop_map(|(patterns, more, tenant)| Do::Join { patterns, more, tenant }),
        6 => (any::<prop::sample::Index>(), 1usize..100).prop_map(|(who, count)| Do::Feed { who: who.index(64), count }),
        1 => any::<prop::sample::Index>().prop_map(|who| Do::Leave { who: who.index(64) }),
    ]
}

fn kinds() -> impl Strategy<Value = KvType> {
    prop_oneof![Just(KvType::F32), Just(KvType::Bf16), Just(KvType::Int8)]
}

/// Tenant 0 shares with everybody.
fn sharing(tenant: u8) -> Sharing {
    Sharing { salt: (tenant > 0).then(|| tenant.to_string().into()), block: 32 }
}

proptest! {
    #[test]
    fn every_page_is_accounted_for_and_true(actions in proptest::collection::vec(action(), 1..120), kind in kinds()) {
        let pool = Pool::new(SHAPE, kind, PAGES);
        let mut prefixes = PrefixCache::new(pool);
        let mut requests: Vec<Request> = Vec::new();
        for action in actions {
            match action {
                Do::Join { patterns, more, tenant } => {
                    let prefix: Vec<u32> =
                        patterns.iter().flat_map(|pattern| (0..32).map(move |at| at * (pattern + 1))).collect();
                    let mut tokens = prefix.clone();
                    tokens.extend((0..more as u32).map(|at| at % 5));
                    let sharing = sharing(tenant);
                    let need = Need { prefix: &prefix, positions: tokens.len(), sharing: Some(&sharing) };
                    let cache = prefixes.admit(&need);
                    if cache.is_none() {
                        prop_assert!(!requests.is_empty(), "alone everything fits");
                    }
                    requests.extend(cache.map(|cache| Request { tokens, cache }));
                }
                Do::Feed { who, count } => {
                    let count_of = requests.len();
                    if let Some(request) = requests.get_mut(who % count_of.max(1)) {
                        feed(request, count);
                        prefixes.publish(&mut request.cache, usize::MAX);
                    }
                }
                Do::Leave { who } if !requests.is_empty() => drop(requests.swap_remove(who % requests.len())),
                Do::Leave { .. } => {}
            }
            prop_assert!(prefixes.adds_up(requests.iter().map(|request| &request.cache)));
            // The others hold these keys only rounded.
            prop_assert!(kind != KvType::F32 || requests.iter().all(is_true));
        }
        requests.clear();
        prop_assert!(prefixes.adds_up(std::iter::empty()));
        let everything = Need { prefix: &[], positions: PAGES * PANEL, sharing: None };
        prop_assert!(prefixes.admit(&everything).is_some(), "what nobody uses can be thrown out");
        prop_assert_eq!(prefixes.pages().shared, 0);
    }
}

fn request(prefixes: &mut PrefixCache, tokens: &[u32], tenant: u8) -> Request {
    let sharing = sharing(tenant);
    let need = Need { prefix: tokens, positions: tokens.len() + 1, sharing: Some(&sharing) };
    Request { tokens: tokens.to_vec(), cache: prefixes.admit(&need).expect("room") }
}

/// How many positions of `tokens` the tree has for `tenant`.
fn cached(prefixes: &mut PrefixCache, tokens: &[u32], tenant: u8) -> usize {
    request(prefixes, tokens, tenant).cache.cached()
}

fn run(prefixes: &mut PrefixCache, tokens: &[u32], tenant: u8) {
    let mut request = request(prefixes, tokens, tenant);
    feed(&mut request, tokens.len());
    prefixes.publish(&mut request.cache, usize::MAX);
}

#[test]
fn whole_pages_of_equal_tokens_are_shared_within_a_tenant_and_with_those_open_to_all() {
    let mut prefixes = PrefixCache::new(Pool::new(SHAPE, KvType::F32, PAGES));
    let tokens: Vec<u32> = (0..100).collect();
    run(&mut prefixes, &tokens, 1);
    assert_eq!(cached(&mut prefixes, &tokens, 1), 96, "the last page is not whole");
    assert_eq!(cached(&mut prefixes, &tokens[..90], 1), 64);
    assert_eq!(cached(&mut prefixes, &tokens[1..], 1), 0, "from position 0 only");
    let mut other = tokens.clone();
    other[40] = 999;
    assert_eq!(cached(&mut prefixes, &other, 1), 32);
    assert_eq!(cached(&mut prefixes, &tokens, 2), 0, "another tenant sees nothing");
    assert_eq!(cached(&mut prefixes, &tokens, 0), 0);
    // What is open to all serves both, and what follows it stays apart.
    run(&mut prefixes, &other[..64], 0);
    run(&mut prefixes, &other, 2);
    assert_eq!(cached(&mut prefixes, &other, 2), 96);
    assert_eq!(cached(&mut prefixes, &other, 1), 64);
    // Another block length gives other K/V for the same tokens.
    let halves = Sharing { salt: None, block: 16 };
    let need = Need { prefix: &other, positions: 100, sharing: Some(&halves) };
    assert_eq!(prefixes.admit(&need).expect("room").cached(), 0);
}

#[test]
fn the_longest_unused_goes_first_and_what_is_in_use_stays() {
    let mut prefixes = PrefixCache::new(Pool::new(SHAPE, KvType::F32, 8));
    let prompt = |first: u32| -> Vec<u32> { (first..first + 64).collect() };
    let (a, b, c) = (prompt(0), prompt(1000), prompt(2000));
    [&a, &b].into_iter().for_each(|tokens| run(&mut prefixes, tokens, 1));
    assert_eq!(cached(&mut prefixes, &a, 1), 64, "used last");
    let using = request(&mut prefixes, &a, 1);
    run(&mut prefixes, &c, 1);
    // 6 pages in the tree, 1 held by `using`; 3 more push out both of b's.
    let big = Need { prefix: &[], positions: 3 * 32, sharing: None };
    let held = prefixes.admit(&big).expect("b's go");
    assert_eq!(prefixes.pages().shared, 4);
    drop(held);
    assert_eq!(cached(&mut prefixes, &b, 1), 0);
    assert_eq!((cached(&mut prefixes, &a, 1), cached(&mut prefixes, &c, 1)), (64, 64));
    let most = Need { prefix: &[], positions: 6 * 32, sharing: None };
    assert!(prefixes.admit(&most).is_none(), "a's pages are in use");
    assert_eq!(cached(&mut prefixes, &c, 1), 64, "and nothing goes for who has to wait");
    drop(using);
    assert!(prefixes.admit(&most).is_some());
}

#[test]
fn use_counts_each_time_and_the_end_of_a_prompt_goes_before_its_beginning() {
    let mut prefixes = PrefixCache::new(Pool::new(SHAPE, KvType::F32, 8));
    let (a, b): (Vec<u32>, Vec<u32>) = ((0..64).collect(), (1000..1064).collect());
    [&a, &b].into_iter().for_each(|tokens| run(&mut prefixes, tokens, 1));
    let mut left = |pages: usize| {
        for tokens in [&a, &b, &a] {
            cached(&mut prefixes, tokens, 1);
        }
        let need = Need { prefix: &[], positions: pages * PANEL, sharing: None };
        drop(prefixes.admit(&need).expect("nobody uses any"));
        [&b, &a].map(|tokens| cached(&mut prefixes, tokens, 1))
    };
    // Of 8 pages as many stay in the tree as are not asked for.
    assert_eq!(left(5), [32, 64]);
    assert_eq!(left(6), [0, 64]);
    assert_eq!(left(7), [0, 32]);
}

#[test]
fn requests_that_compute_the_same_keep_one_copy() {
    let mut prefixes = PrefixCache::new(Pool::new(SHAPE, KvType::F32, PAGES));
    let tokens: Vec<u32> = (0..96).collect();
    let mut twins = [request(&mut prefixes, &tokens, 1), request(&mut prefixes, &tokens, 1)];
    for twin in &mut twins {
        feed(twin, 96);
        prefixes.publish(&mut twin.cache, 64);
    }
    assert_eq!(prefixes.pages().shared, 2, "the third may still change");
    assert!(prefixes.adds_up(twins.iter().map(|twin| &twin.cache)));
    assert!(twins.iter().all(is_true));
    // 4 pages were promised to each; 2 are one copy in the tree.
    let rest = Need { prefix: &[], positions: (PAGES - 6) * PANEL, sharing: None };
    assert!(prefixes.admit(&rest).is_some());
}

#[test]
fn a_request_cannot_take_more_than_it_was_promised() {
    let mut prefixes = PrefixCache::new(Pool::new(SHAPE, KvType::F32, PAGES));
    let need = Need { prefix: &[], positions: 33, sharing: None };
    let mut cache = prefixes.admit(&need).expect("room");
    cache.reserve(64).expect("two pages");
    assert!(cache.reserve(65).is_err());
}

#[test]
fn a_page_that_was_used_comes_back_clean() {
    let pool = Pool::new(SHAPE, KvType::F32, 1);
    let mut prefixes = PrefixCache::new(pool);
    let need = Need { prefix: &[], positions: 32, sharing: None };
    let mut cache = prefixes.admit(&need).expect("room");
    cache.reserve(32).expect("promised");
    cache.write(0, 3..4, row(&[f32::NAN; 2]), row(&[f32::NAN; 2]));
    drop(cache);
    let mut cache = prefixes.admit(&need).expect("room");
    cache.reserve(1).expect("promised");
    let mut panels = Vec::new();
    cache.panels(0, 1, &mut panels);
    for panel in panels {
        let KvPanel::F32 { keys, values } = panel else { panic!("{panel:?}") };
        assert!(keys.iter().chain(values).all(|element| *element == 0.0));
    }
}
