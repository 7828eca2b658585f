//! Recorded decisions made again under another policy: what moves, and how first content, total time and cost are
//! expected to change, with intervals. Deterministic, and blind to prompts: a log's features are enough. Must never claim
//! a change it has no data for: what cannot be estimated is counted as such.

mod estimate;
mod logged;

pub use estimate::Change;
use estimate::Estimates;
pub use logged::{Logged, LoggedUsage, Unread};
pub(crate) use logged::{LoggedPlan, LoggedTry};

use std::collections::BTreeMap;

use serde::Serialize;

use crate::facts::BackendFacts;
use crate::policy::{PIN, Policy};
use crate::question::Question;

/// Money for a million tokens, by backend.
pub type Prices = BTreeMap<String, (f64, f64)>;

/// A rule, and whom it asks first.
pub type Place = (String, String);

/// What moves from where to where.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flow {
    /// The rule that decided, and whom it asked first.
    pub from: Place,
    /// The same under the new policy.
    pub to: Place,
    /// How many requests.
    pub requests: u64,
    /// How first content, total time and money of a request are expected to change, where the backend changes.
    pub change: Option<Changes>,
}

/// Expected changes, new minus old.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Changes {
    /// Milliseconds to the first content.
    pub ttft_ms: Option<Change>,
    /// Milliseconds to the end.
    pub total_ms: Option<Change>,
    /// Money a request.
    pub money: Option<Change>,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replayed {
    /// The new policy.
    pub policy: String,
    /// Requests decided again.
    pub requests: u64,
    /// Of them, whose first backend changes.
    pub moved: u64,
    /// Requests for a model the caller named: no rule decides.
    pub pinned: u64,
    /// Lines without a decision (refused before it) or that could not be read.
    pub unread: u64,
    /// What moves, the most frequent first.
    pub flows: Vec<Flow>,
    /// Over all moved requests.
    pub overall: Changes,
    /// First-content times as recorded, and as expected under the new policy, sorted: for plots.
    pub ttft_before: Vec<f64>,
    /// See `ttft_before`.
    pub ttft_after: Vec<f64>,
    /// Moved requests for whose new backend nothing is known.
    pub without_estimate: u64,
}

struct Moved<'a> {
    logged: &'a Logged,
    backend: String,
}

/// Replays `lines` under `policy`. `backends` are those of a config; one that only the log knows is taken for an AR
/// backend that takes everything.
pub fn replay(lines: &[Logged], unread: u64, policy: &Policy, backends: &[BackendFacts], prices: &Prices) -> Replayed {
    let facts = with_recorded(backends, lines);
    let estimates = Estimates::of(lines);
    let mut groups: BTreeMap<(Place, Place), Vec<Moved<'_>>> = BTreeMap::new();
    let (mut requests, mut pinned, mut undecided) = (0, 0, unread);
    for logged in lines {
        let Some(plan) = &logged.plan else {
            undecided += 1;
            continue;
        };
        if plan.rule == PIN {
            pinned += 1;
            continue;
        }
        requests += 1;
        let question = Question {
            model: "auto",
            family: plan.family.clone(),
            predicted: &plan.predicted,
            tenant: logged.tenant.as_deref().unwrap_or_default(),
            now: logged.moment(),
            conversation: plan.conversation,
            condensed: plan.condensed.filter(|_| policy.condenses().is_some()),
            ..Question::about(plan.features.clone(), &facts)
        };
        let decided = policy.decide(&question);
        let backend = decided.attempts.first().map(|attempt| attempt.backend.clone()).unwrap_or_default();
        let before = plan.attempts.first().map(|attempt| attempt.backend.clone()).unwrap_or_default();
        let key = ((plan.rule.clone(), before), (decided.rule, backend.clone()));
        groups.entry(key).or_default().push(Moved { logged, backend });
    }
    let mut flows = Vec::new();
    let mut all_moved: Vec<&Moved<'_>> = Vec::new();
    let (mut ttft_before, mut ttft_after) = (Vec::new(), Vec::new());
    for ((from, to), members) in &groups {
        let moves = from.1 != to.1;
        for one in members {
            let recorded = one.logged.ttft_ms.filter(|_| one.logged.outcome == "finished");
            let expected = if moves { estimates.ttft(one.logged, &one.backend).map(|one| one.mean) } else { recorded };
            if let (Some(recorded), Some(expected)) = (recorded, expected) {
                ttft_before.push(recorded);
                ttft_after.push(expected);
            }
        }
        let change = moves.then(|| {
            all_moved.extend(members);
            changes(&estimates, &members.iter().collect::<Vec<_>>(), prices)
        });
        flows.push(Flow { from: from.clone(), to: to.clone(), requests: members.len() as u64, change });
    }
    flows.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.from.cmp(&b.from)).then_with(|| a.to.cmp(&b.to)));
    ttft_before.sort_by(f64::total_cmp);
    ttft_after.sort_by(f64::total_cmp);
    let without = all_moved.iter().filter(|one| estimates.total(one.logged, &one.backend).is_none()).count();
    Replayed {
        policy: policy.origin().to_owned(),
        requests,
        moved: all_moved.len() as u64,
        pinned,
        unread: undecided,
        overall: changes(&estimates, &all_moved, prices),
        flows,
        ttft_before,
        ttft_after,
        without_estimate: without as u64,
    }
}

fn changes(estimates: &Estimates, moved: &[&Moved<'_>], prices: &Prices) -> Changes {
    let finished = || moved.iter().filter(|one| one.logged.outcome == "finished");
    let ttft = finished().filter_map(|one| Some((one.logged.ttft_ms?, estimates.ttft(one.logged, &one.backend)?)));
    let total = finished().filter_map(|one| Some((one.logged.total_ms?, estimates.total(one.logged, &one.backend)?)));
    let money = finished().filter_map(|one| {
        let usage = one.logged.usage?;
        let cost = |backend: &str| {
            let (input, output) = prices.get(backend).copied().unwrap_or_default();
            (usage.prompt_tokens as f64 * input + usage.completion_tokens as f64 * output) / 1e6
        };
        Some((cost(one.logged.backend.as_deref()?), estimate::Known::exactly(cost(&one.backend))))
    });
    Changes { ttft_ms: Change::of(ttft), total_ms: Change::of(total), money: Change::of(money) }
}

fn with_recorded(backends: &[BackendFacts], lines: &[Logged]) -> Vec<BackendFacts> {
    let mut facts = backends.to_vec();
    let planned = lines.iter().filter_map(|line| line.plan.as_ref()).flat_map(|plan| &plan.attempts);
    for attempt in planned {
        if facts.iter().all(|known| known.name != attempt.backend) {
            facts.push(BackendFacts::of_log(&attempt.backend));
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [[rule]]
        name = "calls"
        when = "tool_needed"
        route = "diffusion"
        reason = "r"
        attempts = [{ backend = "role:diffusion" }, { backend = "role:ar" }]
        [[rule]]
        name = "rest"
        route = "ar"
        reason = "r"
        attempts = [{ backend = "role:ar" }]
    "#;

    fn line(backend: &str, rule: &str, tool: bool, ttft: f64) -> Logged {
        let text = format!(
            r#"{{"v":1,"time":"2026-11-23T08:33:00Z","backend":"{backend}","outcome":"finished","ttft_ms":{ttft},"total_ms":{},
            "usage":{{"prompt_tokens":1000,"completion_tokens":100}},
            "plan":{{"rule":"{rule}","attempts":[{{"backend":"{backend}"}}],"features":{{"tool_needed":{tool}}}}}}}"#,
            ttft * 4.0
        );
        Logged::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_moves_is_told_with_its_expected_change() {
        let mut lines: Vec<Logged> = (0..50).map(|at| line("ar", "all", at % 5 == 0, 400.0 + f64::from(at))).collect();
        lines.extend((0..20).map(|at| line("diffusion", "pin", false, 100.0 + f64::from(at))));
        lines.push(Logged::read(br#"{"v":1,"outcome":"invalid_request"}"#).unwrap());
        let policy = Policy::parse(POLICY, "new").unwrap();
        let prices = Prices::from([("ar".into(), (1.0, 2.0))]);
        let replayed = replay(&lines, 3, &policy, &policy.test_backends(), &prices);
        assert_eq!((replayed.requests, replayed.moved, replayed.pinned, replayed.unread), (50, 10, 20, 4));
        assert_eq!(replayed.flows.len(), 2);
        assert_eq!(replayed.flows[1].to, ("calls".to_owned(), "diffusion".to_owned()));
        let ttft = replayed.overall.ttft_ms.unwrap();
        // From about 422 to about 109.
        assert!((ttft.mean + 313.0).abs() < 2.0 && ttft.low < ttft.mean && ttft.high > ttft.mean, "{ttft:?}");
        assert!(ttft.high < 0.0, "the gain is sure");
        let money = replayed.overall.money.unwrap();
        assert!((money.mean + 0.0012).abs() < 1e-9, "{money:?}");
        assert_eq!(replayed.ttft_before.len(), replayed.ttft_after.len());
        assert_eq!(replayed.without_estimate, 0);
        assert_eq!(replay(&lines, 3, &policy, &policy.test_backends(), &prices), replayed, "the same twice");
    }

    #[test]
    fn a_backend_nobody_measured_is_not_guessed() {
        let lines: Vec<Logged> = (0..10).map(|_| line("ar", "all", true, 400.0)).collect();
        let policy = Policy::parse(POLICY, "new").unwrap();
        let replayed = replay(&lines, 0, &policy, &policy.test_backends(), &Prices::new());
        assert_eq!((replayed.moved, replayed.without_estimate), (10, 10));
        assert_eq!(replayed.overall.ttft_ms, None);
    }
}
