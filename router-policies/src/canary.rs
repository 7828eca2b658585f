//! A new policy for a small share of the conversations, which rolls itself back when it does worse: more failures, a
//! later first content, or more answers that break their form, each beyond what chance explains. A pure machine: it draws
//! by a conversation's number and is told what became of requests. Must never come back by itself once rolled back.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

/// When a canary is given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardRails {
    /// Most by which its share of failures may exceed the live one's.
    pub error_rise: f64,
    /// Most times the live first-content time (geometric means).
    pub ttft_ratio: f64,
    /// Most by which its share of answers that break a demanded form may exceed the live one's.
    pub invalid_rise: f64,
    /// Requests of each arm before anything is judged.
    pub min_requests: u64,
}

/// Which policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// The one that everybody has.
    Live,
    /// The new one.
    Canary,
}

impl Arm {
    /// The word in metrics and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Arm::Live => "live",
            Arm::Canary => "canary",
        }
    }
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// It ended in an error that is not the caller's own.
    pub failed: bool,
    /// A form was demanded, and whether the answer broke it.
    pub broke_form: Option<bool>,
    /// Until the first content.
    pub ttft_ms: Option<f64>,
}

/// Why a canary was given up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RolledBack {
    /// `errors`, `ttft` or `form`.
    pub by: &'static str,
    /// The canary's figure: a share, or milliseconds.
    pub canary: f64,
    /// The live one's.
    pub live: f64,
}

/// One-sided 95 %.
const BEYOND_CHANCE: f64 = 1.645;
/// From this many requests on, old ones count half: more where so many are to be judged.
const FORGET_AT: f64 = 20_000.0;

/// See the module.
#[derive(Debug, Clone)]
pub struct Canary {
    share: f64,
    rails: GuardRails,
    arms: [Tally; 2],
    rolled_back: Option<RolledBack>,
}

/// What an arm did.
#[derive(Debug, Clone, Default)]
struct Tally {
    requests: f64,
    failed: f64,
    with_form: f64,
    broke_form: f64,
    timed: f64,
    log_ttft: f64,
    log_ttft_squared: f64,
}

impl Canary {
    /// For `share` of the conversations, 0 to 1.
    pub fn new(share: f64, rails: GuardRails) -> Self {
        Canary { share, rails, arms: Default::default(), rolled_back: None }
    }

    /// Who decides for this conversation: always the same one, until the canary is given up.
    pub fn arm(&self, conversation: u64) -> Arm {
        let mut hasher = DefaultHasher::new();
        // Another lot than that of weights: both must not fall together.
        (conversation, "canary").hash(&mut hasher);
        let draw = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
        if self.rolled_back.is_none() && draw < self.share { Arm::Canary } else { Arm::Live }
    }

    /// Why it was given up.
    pub fn rolled_back(&self) -> Option<&RolledBack> {
        self.rolled_back.as_ref()
    }

    /// Takes note of one request. `Some` at the moment at which the canary is given up.
    pub fn saw(&mut self, arm: Arm, outcome: Outcome) -> Option<RolledBack> {
        let forget_at = FORGET_AT.max(2.0 * self.rails.min_requests as f64);
        self.arms[arm as usize].add(outcome, forget_at);
        if self.rolled_back.is_some() {
            return None;
        }
        self.rolled_back = self.judge();
        self.rolled_back.clone()
    }

    fn judge(&self) -> Option<RolledBack> {
        let [live, canary] = &self.arms;
        let least = self.rails.min_requests.max(1) as f64;
        if live.requests < least || canary.requests < least {
            return None;
        }
        let shares = [
            ("errors", (canary.failed, canary.requests), (live.failed, live.requests), self.rails.error_rise),
            ("form", (canary.broke_form, canary.with_form), (live.broke_form, live.with_form), self.rails.invalid_rise),
        ];
        for (by, (part, whole), (live_part, live_whole), rise) in shares {
            if whole < least || live_whole < least {
                continue;
            }
            let (share, live_share) = (part / whole, live_part / live_whole);
            // Pooled: with no failure on either side there is no spread to judge by.
            let pooled = (part + live_part) / (whole + live_whole);
            let spread = (pooled * (1.0 - pooled) * (1.0 / whole + 1.0 / live_whole)).sqrt();
            if share - live_share > rise && share - live_share > BEYOND_CHANCE * spread {
                return Some(RolledBack { by, canary: share, live: live_share });
            }
        }
        let (Some(slow), Some(usual)) = (canary.ttft(least), live.ttft(least)) else { return None };
        let apart = slow.mean - usual.mean;
        let spread = (slow.variance / canary.timed + usual.variance / live.timed).sqrt();
        (apart > self.rails.ttft_ratio.ln() && apart > BEYOND_CHANCE * spread).then(|| RolledBack {
            by: "ttft",
            canary: slow.mean.exp(),
            live: usual.mean.exp(),
        })
    }
}

struct LogTime {
    mean: f64,
    variance: f64,
}

impl Tally {
    /// Each count is forgotten by itself: a form that is rarely demanded would never come to be judged otherwise.
    fn add(&mut self, outcome: Outcome, forget_at: f64) {
        let halve = |count: f64, figures: &mut [&mut f64]| {
            if count >= forget_at {
                figures.iter_mut().for_each(|figure| **figure /= 2.0);
            }
        };
        halve(self.requests, &mut [&mut self.requests, &mut self.failed]);
        halve(self.with_form, &mut [&mut self.with_form, &mut self.broke_form]);
        halve(self.timed, &mut [&mut self.timed, &mut self.log_ttft, &mut self.log_ttft_squared]);
        self.requests += 1.0;
        self.failed += f64::from(u8::from(outcome.failed));
        if let Some(broke) = outcome.broke_form {
            self.with_form += 1.0;
            self.broke_form += f64::from(u8::from(broke));
        }
        if let Some(ms) = outcome.ttft_ms.filter(|ms| ms.is_finite() && *ms > 0.0) {
            self.timed += 1.0;
            self.log_ttft += ms.ln();
            self.log_ttft_squared += ms.ln() * ms.ln();
        }
    }

    fn ttft(&self, least: f64) -> Option<LogTime> {
        let mean = self.log_ttft / self.timed;
        let variance = (self.log_ttft_squared / self.timed - mean * mean).max(0.0);
        (self.timed >= least).then_some(LogTime { mean, variance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAILS: GuardRails = GuardRails { error_rise: 0.02, ttft_ratio: 1.5, invalid_rise: 0.02, min_requests: 50 };

    fn fine(ttft_ms: f64) -> Outcome {
        Outcome { failed: false, broke_form: Some(false), ttft_ms: Some(ttft_ms) }
    }

    /// Both arms see these, turn by turn, until one gives up.
    fn run(live: impl Fn(u32) -> Outcome, canary: impl Fn(u32) -> Outcome, rounds: u32) -> Option<(u32, RolledBack)> {
        let mut machine = Canary::new(0.1, RAILS);
        (0..rounds).find_map(|round| {
            let live = machine.saw(Arm::Live, live(round));
            live.or_else(|| machine.saw(Arm::Canary, canary(round))).map(|why| (round, why))
        })
    }

    #[test]
    fn a_conversation_stays_with_its_arm_and_the_share_is_kept() {
        let machine = Canary::new(0.1, RAILS);
        let canaries = (0..20_000).filter(|conversation| machine.arm(*conversation) == Arm::Canary).count();
        assert!((1_850..2_150).contains(&canaries), "{canaries}");
        assert_eq!(Canary::new(0.0, RAILS).arm(1), Arm::Live);
    }

    #[test]
    fn each_guard_rail_holds_by_itself() {
        let failing = |round: u32| Outcome { failed: round.is_multiple_of(5), ..fine(100.0) };
        let (round, why) = run(|_| fine(100.0), failing, 1000).expect("a fifth fails");
        assert_eq!((why.by, round < 60), ("errors", true));
        let (_, why) = run(|_| fine(100.0), |_| fine(200.0), 1000).expect("twice as slow");
        assert_eq!(why.by, "ttft");
        assert!((why.canary / why.live - 2.0).abs() < 0.01);
        let breaking = |round: u32| Outcome { broke_form: Some(round.is_multiple_of(4)), ..fine(100.0) };
        assert_eq!(run(|_| fine(100.0), breaking, 1000).expect("a quarter breaks").1.by, "form");
    }

    #[test]
    fn chance_and_small_differences_are_no_reason() {
        let noisy = |round: u32| Outcome { failed: round % 50 == 7, ..fine(100.0 + f64::from(round % 40)) };
        assert_eq!(run(noisy, |round| noisy(round + 13), 3000), None);
        assert_eq!(run(|_| fine(100.0), |_| fine(140.0), 3000), None, "slower, but within the rail");
        assert_eq!(run(|_| fine(100.0), |_| Outcome { failed: true, ..fine(100.0) }, 49), None, "too few to judge");
    }

    #[test]
    fn many_requests_and_rare_forms_come_to_be_judged() {
        let many = GuardRails { min_requests: 30_000, ..RAILS };
        let rare = GuardRails { min_requests: 1000, ..RAILS };
        // A form is demanded of every fiftieth.
        let form = |round: u32| round.is_multiple_of(50).then_some(true);
        let failing: fn(u32) -> Outcome = |_| Outcome { failed: true, ..fine(100.0) };
        let breaking = move |round| Outcome { broke_form: form(round), ..fine(100.0) };
        let kept = move |round| Outcome { broke_form: form(round).map(|_| false), ..fine(100.0) };
        let mut machine = Canary::new(0.1, many);
        let judged = (0..40_000).find_map(|round| {
            machine.saw(Arm::Live, fine(100.0));
            machine.saw(Arm::Canary, failing(round)).map(|why| why.by)
        });
        assert_eq!(judged, Some("errors"));
        let mut machine = Canary::new(0.1, rare);
        let judged = (0..60_000).find_map(|round| {
            machine.saw(Arm::Live, kept(round));
            machine.saw(Arm::Canary, breaking(round)).map(|why| why.by)
        });
        assert_eq!(judged, Some("form"));
    }

    #[test]
    fn once_rolled_back_it_stays_so() {
        let mut machine = Canary::new(1.0, RAILS);
        for _ in 0..100 {
            machine.saw(Arm::Live, fine(100.0));
            machine.saw(Arm::Canary, Outcome { failed: true, ..fine(100.0) });
        }
        assert_eq!(machine.rolled_back().map(|why| why.by), Some("errors"));
        assert_eq!(machine.arm(7), Arm::Live);
        (0..100_000).for_each(|_| assert_eq!(machine.saw(Arm::Live, fine(100.0)), None));
        assert_eq!(machine.arm(7), Arm::Live);
    }
}
