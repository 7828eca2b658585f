//! Whether one of several equal backends fails so much more than the others that it should be left alone, although its
//! failures alone would not open its breaker. When all of them fail alike, the cause is elsewhere, and ejecting would
//! only move the load onto fewer.

use super::window::Counts;

/// Answers without which a backend is not compared.
const ANSWERS_MIN: u32 = 10;
/// How much more often than the mean of the others it must fail.
const WORSE_BY: f64 = 0.25;

/// Another member of the group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) counts: Counts,
    /// Whether it takes requests.
    pub(super) is_in: bool,
}

/// Whether the backend with `own` counts stands out among its `peers`.
pub(super) fn stands_out(own: Counts, peers: &[Peer]) -> bool {
    let compared: Vec<f64> =
        peers.iter().filter(|peer| peer.counts.total() >= ANSWERS_MIN).map(|peer| peer.counts.failure_rate()).collect();
    // At least half of the group stays in.
    let stay = peers.iter().filter(|peer| peer.is_in).count();
    if own.total() < ANSWERS_MIN || compared.is_empty() || stay * 2 < peers.len() + 1 {
        return false;
    }
    let mean = compared.iter().sum::<f64>() / compared.len() as f64;
    own.failure_rate() >= mean + WORSE_BY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(own: (u32, u32), peers: &[(u32, u32, bool)], expect: bool) {
        let counts = |good, bad| Counts { good, bad };
        let peers: Vec<Peer> =
            peers.iter().map(|(good, bad, is_in)| Peer { counts: counts(*good, *bad), is_in: *is_in }).collect();
        assert_eq!(stands_out(counts(own.0, own.1), &peers), expect);
    }

    #[test]
    fn only_who_is_worse_than_the_others_stands_out() {
        check((7, 3), &[(10, 0, true), (9, 1, true)], true);
        check((8, 2), &[(10, 0, true), (9, 1, true)], false);
        check((5, 5), &[(5, 5, true), (5, 5, true)], false);
        check((1, 3), &[(10, 0, true)], false);
        check((7, 3), &[(3, 0, true)], false);
        check((7, 3), &[], false);
    }

    #[test]
    fn half_of_the_group_stays() {
        check((5, 5), &[(10, 0, true), (10, 0, false)], false);
        check((5, 5), &[(10, 0, true), (10, 0, true), (10, 0, false)], true);
        check((5, 5), &[(10, 0, true)], true);
    }
}
