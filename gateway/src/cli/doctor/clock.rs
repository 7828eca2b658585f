//! Whether this machine's clock can be right: keys, certificates and daily budgets go by it. Compared with the upstreams'
//! `Date`, where there are any.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Finding, Subject};

/// 1 January 2026: this program did not exist before.
const EARLIEST_S: u64 = 1_767_225_600;
/// What a request on its way and whole seconds explain.
const FINE: Duration = Duration::from_secs(10);
const BAD: Duration = Duration::from_secs(300);

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let now = SystemTime::now();
    if now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() < EARLIEST_S {
        let fix = "set it (`timedatectl`, NTP): expired keys would be good, and certificates not yet";
        return vec![Finding::problem("the clock of this machine lies years in the past").fix(fix)];
    }
    let dated = subject.calls().iter().filter_map(|called| Some((called.backend.as_str(), called.date?)));
    let nearest = dated.map(|(backend, (said, seen))| (backend, apart(said, seen))).min_by_key(|(_, apart)| *apart);
    match nearest {
        None => vec![Finding::ok("the clock may be right: no upstream to compare it with")],
        Some((backend, apart)) => vec![judge(backend, apart)],
    }
}

fn apart(said: SystemTime, seen: SystemTime) -> Duration {
    seen.duration_since(said).unwrap_or_else(|before| before.duration())
}

fn judge(backend: &str, apart: Duration) -> Finding {
    let seconds = apart.as_secs();
    let fix = "one of the two is wrong: look at NTP here and there";
    match apart {
        apart if apart <= FINE => Finding::ok(format!("the clock agrees with backend `{backend}`")),
        apart if apart < BAD => {
            Finding::note(format!("the clock and backend `{backend}`'s are {seconds} s apart")).fix(fix)
        }
        _ => Finding::problem(format!("the clock and backend `{backend}`'s are {seconds} s apart")).fix(fix),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn clocks_are_compared_either_way() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!((apart(at(5), at(9)), apart(at(9), at(5))), (Duration::from_secs(4), Duration::from_secs(4)));
        let level = |seconds| judge("gpu", Duration::from_secs(seconds)).level;
        assert_eq!((level(10), level(11), level(300)), (Level::Ok, Level::Note, Level::Problem));
    }
}
