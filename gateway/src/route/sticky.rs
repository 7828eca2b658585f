//! Which backend a conversation is with: within one user turn, tool loops and repeated requests included, the backend
//! that answered goes on. Bounded: old conversations are forgotten, half of the table at a time. Must never keep a
//! conversation with a backend across user turns, nor decide by itself: the policy gets told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use weir_router_policies::Turn;

/// Conversations remembered at least; twice as many at most.
const REMEMBERED: usize = 20_000;

/// See the module.
pub(super) struct Sticky {
    halves: Mutex<Halves>,
    most: usize,
}

#[derive(Default)]
struct Halves {
    young: HashMap<u64, Entry>,
    old: HashMap<u64, Entry>,
}

#[derive(Clone)]
struct Entry {
    turn: u64,
    backend: Arc<str>,
}

impl Sticky {
    pub(super) fn new() -> Self {
        Sticky::of(REMEMBERED)
    }

    fn of(most: usize) -> Self {
        Sticky { halves: Mutex::default(), most }
    }

    /// The backend that answered in this very turn, if the turn goes on.
    pub(super) fn stays_with(&self, turn: Turn) -> Option<Arc<str>> {
        let halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = halves.young.get(&turn.conversation).or_else(|| halves.old.get(&turn.conversation))?;
        (turn.goes_on && entry.turn == turn.number).then(|| Arc::clone(&entry.backend))
    }

    /// `backend` answered.
    pub(super) fn answered(&self, turn: Turn, backend: &str) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.young.len() >= self.most {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.young.insert(turn.conversation, Entry { turn: turn.number, backend: backend.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_engine_changes_at_a_user_turn_only(steps in prop::collection::vec((0_u64..4, any::<bool>(), 0..3_usize), 1..60)) {
            const BACKENDS: [&str; 3] = ["a", "b", "c"];
            let sticky = Sticky::of(100);
            let mut turns = [0_u64; 4];
            let mut answered: HashMap<(u64, u64), &str> = HashMap::new();
            for (conversation, speaks, wished) in steps {
                let at = &mut turns[usize::try_from(conversation).unwrap()];
                *at += u64::from(speaks);
                let turn = Turn { conversation, number: *at, goes_on: !speaks };
                let stays = sticky.stays_with(turn);
                let before = answered.get(&(conversation, *at)).copied();
                // Whatever the policy wishes now, within a turn it is who answered first.
                prop_assert_eq!(stays.as_deref(), before.filter(|_| !speaks));
                let backend = BACKENDS.into_iter().find(|name| stays.as_deref() == Some(*name)).unwrap_or(BACKENDS[wished]);
                sticky.answered(turn, backend);
                let first = *answered.entry((conversation, *at)).or_insert(backend);
                prop_assert!(speaks || first == backend);
            }
        }
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let sticky = Sticky::of(10);
        let turn = |conversation| Turn { conversation, number: 1, goes_on: true };
        (0..1000).for_each(|conversation| sticky.answered(turn(conversation), "a"));
        let kept = (0..1000).filter(|conversation| sticky.stays_with(turn(*conversation)).is_some()).count();
        assert!((10..=20).contains(&kept), "{kept}");
        assert!(sticky.stays_with(turn(999)).is_some() && sticky.stays_with(turn(0)).is_none());
    }
}
