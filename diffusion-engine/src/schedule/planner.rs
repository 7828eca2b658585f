//! Who is next, and who reads how much of its prompt in one step. Pure: no model, no clock, no channel; a plan that is
//! dropped changes nothing. Must never let one tenant, or a class of requests, wait for ever.

use std::collections::HashMap;

/// Prompt tokens given out at a time; more where a block is longer.
const CHUNK: usize = 32;

/// A background request that others went past this often counts as interactive.
const PATIENCE: u32 = 16;

/// In one of so many steps background prompts are read first.
const BACKGROUND_TURN: usize = 8;

/// A request that waits for a place, in the order of arrival.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) background: bool,
    /// How many later ones took a place since it came.
    pub(crate) passed: u32,
    /// Requests of its tenant that run.
    pub(crate) running: usize,
    /// When its tenant last got a place, counted in places given; 0 for never.
    pub(crate) served: u64,
}

/// Which of `waiting` gets the next place: interactive before background, then the tenant with fewest running, then
/// the one that got a place longest ago, then the first that came.
pub(crate) fn next_to_join(waiting: &[Waiting]) -> Option<usize> {
    let order = |index: &usize| {
        waiting.get(*index).map(|one| (one.background && one.passed < PATIENCE, one.running, one.served, *index))
    };
    (0..waiting.len()).min_by_key(order)
}

/// A request at the door of a full queue, or in it: its tenant and whether nobody waits for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) background: bool,
}

/// Which of `waiting`, in the order of arrival, leaves a full queue so that `comer` finds a place in it: the newest
/// background one for an interactive comer, else the newest of the tenant that has most waiting, if that has more than
/// the comer's tenant will have. `None`: the comer is refused. So no tenant can fill the queue against another.
pub(crate) fn gives_way(waiting: &[Claim<'_>], comer: Claim<'_>) -> Option<usize> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    waiting.iter().for_each(|one| *counts.entry(one.tenant).or_default() += 1);
    let has = |tenant: &str| counts.get(tenant).copied().unwrap_or(0);
    let is_lower = |one: &Claim<'_>| one.background && !comer.background;
    let any_lower = waiting.iter().any(is_lower);
    let most = if any_lower { 0 } else { has(comer.tenant) + 1 };
    let may_go = |one: &Claim<'_>| if any_lower { is_lower(one) } else { one.background == comer.background };
    let candidates = waiting.iter().enumerate().filter(|(_, one)| may_go(one) && has(one.tenant) > most);
    candidates.map(|(at, one)| (has(one.tenant), at)).max().map(|(_, at)| at)
}

/// A running request's wish to read more of its prompt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) background: bool,
    /// Tokens it must read before it can write; 0 when it writes already.
    pub(crate) left: usize,
    /// Tokens that go together: a block's length.
    pub(crate) unit: usize,
}

/// Tokens each of `lanes` reads in step number `turn`: `budget` in all, in chunks of whole units, one after the other
/// to each tenant in turn and to its requests in turn, interactive first. Somebody gets something as long as anybody wants it.
pub(crate) fn share_out(lanes: &[Reading<'_>], budget: usize, turn: usize) -> Vec<usize> {
    let mut grants = vec![0; lanes.len()];
    let mut given = 0;
    let background_first = turn.is_multiple_of(BACKGROUND_TURN);
    for background in [background_first, !background_first] {
        let mut tenants: Vec<&str> = Vec::new();
        for lane in lanes.iter().filter(|lane| lane.background == background && lane.left > 0) {
            if !tenants.contains(&lane.tenant) {
                tenants.push(lane.tenant);
            }
        }
        let start = turn % tenants.len().max(1);
        tenants.rotate_left(start);
        loop {
            let before = given;
            for tenant in &tenants {
                let wanting = (0..lanes.len()).map(|at| (at + turn) % lanes.len()).filter(|at| {
                    let lane = &lanes[*at];
                    lane.background == background && lane.tenant == *tenant && grants[*at] < lane.left
                });
                let Some(at) = wanting.min_by_key(|at| grants[*at]) else { continue };
                let (lane, grant) = (&lanes[at], &mut grants[at]);
                let unit = lane.unit.max(1);
                let chunk = (CHUNK.div_ceil(unit) * unit).min(lane.left - *grant);
                if given == 0 || given + chunk <= budget {
                    *grant += chunk;
                    given += chunk;
                }
            }
            if given == before {
                break;
            }
        }
    }
    grants
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(background: bool) -> Waiting {
        Waiting { background, passed: 0, running: 0, served: 0 }
    }

    #[test]
    fn tenants_take_turns_and_background_waits_but_not_for_ever() {
        assert_eq!(next_to_join(&[]), None);
        let mut queue = [waiting(true), waiting(false), waiting(false), waiting(false)];
        assert_eq!(next_to_join(&queue), Some(1), "interactive, first come");
        (queue[1].served, queue[2].served) = (1, 1);
        assert_eq!(next_to_join(&queue), Some(3), "the tenant that waited longer");
        queue[3].running = 1;
        assert_eq!(next_to_join(&queue), Some(1), "the tenant with fewer running");
        queue[0].passed = PATIENCE;
        assert_eq!(next_to_join(&queue), Some(0), "passed over often enough");
    }

    fn claims(written: &str) -> Vec<Claim<'_>> {
        let word = |at: usize| &written[at..=at];
        let claim = |(at, letter): (usize, char)| Claim { tenant: word(at), background: letter.is_ascii_uppercase() };
        written.char_indices().map(claim).collect()
    }

    #[track_caller]
    fn check_way(waiting: &str, comer: &str, expect: Option<usize>) {
        let comer = claims(comer)[0];
        assert_eq!(gives_way(&claims(waiting), comer), expect, "{waiting} {comer:?}");
    }

    /// A letter is a tenant, a capital one a background request (of another tenant, here).
    #[test]
    fn a_full_queue_is_no_tenants_own() {
        check_way("aaaa", "b", Some(3));
        check_way("aaab", "b", Some(2));
        check_way("aabb", "b", None);
        check_way("aab", "b", None);
        check_way("aabcc", "d", Some(4));
        check_way("aaaa", "a", None);
        check_way("aAaB", "a", Some(3));
        check_way("aaaa", "B", None);
        check_way("AAAA", "B", Some(3));
        check_way("AaAA", "a", Some(3));
        check_way("", "a", None);
    }

    fn reading(tenant: &str, background: bool, left: usize, unit: usize) -> Reading<'_> {
        Reading { tenant, background, left, unit }
    }

    #[test]
    fn the_budget_is_shared_by_tenant_and_interactive_reads_first() {
        let two = [reading("a", false, 900, 32), reading("a", false, 900, 32), reading("b", false, 900, 32)];
        assert_eq!(share_out(&two, 256, 1), [64, 64, 128]);
        let mixed = [reading("a", true, 900, 32), reading("a", false, 96, 32), reading("b", true, 900, 1)];
        assert_eq!(share_out(&mixed, 256, 1), [64, 96, 96]);
        assert_eq!(share_out(&mixed, 256, BACKGROUND_TURN), [128, 0, 128], "now and then background first");
        assert_eq!(share_out(&[reading("a", false, 600, 256)], 64, 1), [256], "a block goes as a whole");
        assert_eq!(share_out(&[reading("a", false, 40, 1)], 256, 1), [40]);
        let many: Vec<Reading<'_>> = ["a", "b", "c"].map(|tenant| reading(tenant, false, 64, 32)).into();
        let firsts: Vec<Vec<usize>> = (1..4).map(|turn| share_out(&many, 32, turn)).collect();
        assert_eq!(firsts, [[0, 32, 0], [0, 0, 32], [32, 0, 0]], "each in turn when there is too little for all");
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_wanted_and_somebody_gets_something(
            lanes in proptest::collection::vec((0u8..4, any::<bool>(), 0usize..20, 0usize..4), 0..12),
            budget in 0usize..400,
            turn in 0usize..40,
        ) {
            let tenants = ["a", "b", "c", "d"];
            let lanes: Vec<Reading<'_>> = lanes
                .iter()
                .map(|(tenant, background, units, unit)| {
                    let unit = [1, 16, 32, 64][*unit];
                    reading(tenants[usize::from(*tenant)], *background, units * unit, unit)
                })
                .collect();
            let grants = share_out(&lanes, budget, turn);
            let given: usize = grants.iter().sum();
            let wanted: usize = lanes.iter().map(|lane| lane.left).sum();
            for (lane, grant) in lanes.iter().zip(&grants) {
                prop_assert!(*grant <= lane.left && grant.is_multiple_of(lane.unit));
            }
            prop_assert!(given <= budget.max(64), "{given} of {budget}");
            prop_assert!((wanted == 0) == (given == 0));
            // What is left over is less than any chunk that is still wanted.
            prop_assert!(given == wanted || budget.saturating_sub(given) < 64);
        }
    }
}
