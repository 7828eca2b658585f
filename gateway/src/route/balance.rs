//! The order in which the equal members of a group are asked. Without a cache: the cheaper of two drawn at random (power
//! of two choices over peak EWMA), which spreads load without herding onto one. With a prefix cache: the conversation's
//! own member (rendezvous hashing: when one goes, only its conversations move), unless it already carries too much.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::dice::Dice;

/// How much more than its share of the attempts a conversation's own member may carry.
const SHARE_MAX: f64 = 1.25;

/// A member as it stands now.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: String,
    /// Whether it may be asked.
    pub(super) is_in: bool,
    pub(super) in_flight: usize,
    pub(super) cost: f64,
    pub(super) caches: bool,
}

/// Indices of `members`, best first; those that may not be asked come last.
pub(super) fn order(members: &[Member], conversation: u64, dice: &Dice) -> Vec<usize> {
    let (mut inside, outside): (Vec<usize>, Vec<usize>) = (0..members.len()).partition(|at| members[*at].is_in);
    if inside.iter().any(|at| members[*at].caches) {
        by_conversation(members, &mut inside, conversation);
    } else {
        by_cost(members, &mut inside, dice);
    }
    inside.extend(outside);
    inside
}

fn by_cost(members: &[Member], inside: &mut [usize], dice: &Dice) {
    let cost = |at: &usize| members[*at].cost;
    // Who follows only matters when the first one fails.
    inside.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    if inside.len() < 2 {
        return;
    }
    let one = dice.below(inside.len());
    let other = (one + 1 + dice.below(inside.len() - 1)) % inside.len();
    // Sorted, so the nearer to the front is the cheaper.
    inside[..=one.min(other)].rotate_right(1);
}

fn by_conversation(members: &[Member], inside: &mut [usize], conversation: u64) {
    let total: usize = inside.iter().map(|at| members[*at].in_flight).sum();
    let most = (SHARE_MAX * (total as f64 + 1.0) / inside.len().max(1) as f64).ceil();
    inside.sort_by_key(|at| {
        let member = &members[*at];
        let mut hasher = DefaultHasher::new();
        (conversation, &member.name).hash(&mut hasher);
        (member.in_flight as f64 >= most, std::cmp::Reverse(hasher.finish()))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(costs: &[f64], caches: bool) -> Vec<Member> {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let member = |(name, cost): (&'static str, &f64)| Member {
            name: name.to_owned(),
            is_in: true,
            in_flight: 0,
            cost: *cost,
            caches,
        };
        NAMES.into_iter().zip(costs).map(member).collect()
    }

    fn firsts(members: &[Member], draws: u64, conversation: impl Fn(u64) -> u64) -> Vec<usize> {
        let dice = Dice::new(1);
        let mut firsts = vec![0; members.len()];
        (0..draws).for_each(|draw| firsts[order(members, conversation(draw), &dice)[0]] += 1);
        firsts
    }

    #[test]
    fn the_cheaper_of_two_goes_first_and_the_dearest_never() {
        let firsts = firsts(&members(&[0.3, 0.1, 0.2, 0.4], false), 3000, |_| 0);
        // Of the six pairs the cheapest wins three, the next two, the third one.
        assert!(firsts[1] > 1300 && firsts[2] > 800 && firsts[0] > 350, "{firsts:?}");
        assert_eq!(firsts[3], 0);
    }

    #[test]
    fn every_member_is_in_the_order_once_and_those_out_come_last() {
        for caches in [false, true] {
            let mut members = members(&[0.1, 0.2, 0.3, 0.4], caches);
            members[0].is_in = false;
            for conversation in 0..50 {
                let mut order = order(&members, conversation, &Dice::new(conversation));
                assert_eq!(order[3], 0);
                order.sort_unstable();
                assert_eq!(order, [0, 1, 2, 3]);
            }
        }
    }

    #[test]
    fn a_conversation_keeps_its_member_and_only_moves_when_it_goes() {
        let all = members(&[0.1; 4], true);
        let spread = firsts(&all, 4000, |draw| draw);
        assert!(spread.iter().all(|count| (800..1200).contains(count)), "{spread:?}");
        let mut fewer = all.clone();
        fewer[2].is_in = false;
        for conversation in 0..500 {
            let before = order(&all, conversation, &Dice::new(1))[0];
            let after = order(&fewer, conversation, &Dice::new(2))[0];
            assert!(before == after || before == 2);
        }
    }

    #[test]
    fn a_member_with_too_much_is_passed_over() {
        let mut members = members(&[0.1, 0.1], true);
        let own = order(&members, 9, &Dice::new(1))[0];
        members[own].in_flight = 10;
        assert_ne!(order(&members, 9, &Dice::new(1))[0], own);
        members[1 - own].in_flight = 9;
        assert_eq!(order(&members, 9, &Dice::new(1))[0], own, "both carry their share");
    }
}
