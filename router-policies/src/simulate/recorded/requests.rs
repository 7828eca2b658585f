//! The requests of a log, in the order in which they came. Must never make up what was asked: a line without a decision
//! says nothing of it and is left out, and counted.

use std::collections::BTreeMap;

use crate::classify::Family;
use crate::latency::{Ask, Priors};
use crate::policy::PIN;
use crate::replay::{Logged, LoggedPlan};
use crate::simulate::asked::{Asked, Own};
use crate::simulate::scenario::Spread;

/// What came.
pub(super) struct Read {
    pub(super) asked: Vec<Asked>,
    /// Seconds after the first, ascending.
    pub(super) times: Vec<f64>,
    /// Rows of the report.
    pub(super) kinds: Vec<String>,
    pub(super) left_out: BTreeMap<String, u64>,
    pub(super) without_answer: u64,
    pub(super) begins_unix: f64,
}

/// `own`: by line, how it was answered.
pub(super) fn read(lines: &[Logged], own: &[Option<Own>], mut left_out: BTreeMap<String, u64>) -> Read {
    let lengths = lengths(lines);
    let mut came = Vec::new();
    for (line, own) in lines.iter().zip(own) {
        match (came_at(line), &line.plan) {
            (Some(at), Some(plan)) => came.push((at, (line, own), plan)),
            (None, Some(_)) => *left_out.entry("without a time".to_owned()).or_default() += 1,
            (_, None) => {
                let outcome = if line.outcome.is_empty() { "no outcome" } else { &line.outcome };
                *left_out.entry(format!("without a decision ({outcome})")).or_default() += 1;
            }
        }
    }
    came.sort_by(|a, b| a.0.total_cmp(&b.0));
    let begins_unix = came.first().map_or(0.0, |(at, _, _)| *at);
    let (mut kinds, mut without_answer) = (Vec::new(), 0);
    let asked = came.iter().map(|(_, (line, own), plan)| {
        let length = answered(line);
        without_answer += u64::from(length.is_none());
        let tokens = length.unwrap_or_else(|| lengths(family(plan)));
        Asked { own: (*own).clone(), ..asked(line, plan, tokens, &mut kinds) }
    });
    Read {
        asked: asked.collect(),
        times: came.iter().map(|(at, _, _)| at - begins_unix).collect(),
        kinds,
        left_out,
        without_answer,
        begins_unix,
    }
}

/// Seconds since 1970 when a request was there as a whole.
pub(super) fn came_at(line: &Logged) -> Option<f64> {
    Some(line.unix_s()? + told_ms(line.body_ms.unwrap_or(0.0)) / 1000.0)
}

/// Milliseconds of a log, as far as they can be true: within a day.
pub(super) fn told_ms(ms: f64) -> f64 {
    ms.clamp(0.0, 86_400_000.0)
}

pub(super) fn family(plan: &LoggedPlan) -> Family {
    plan.family.as_ref().and_then(|judged| Family::named(&judged.name)).unwrap_or(Family::Unsure)
}

/// Tokens of a whole answer.
fn answered(line: &Logged) -> Option<f64> {
    let usage = line.usage.filter(|_| line.outcome == "finished")?;
    (usage.completion_tokens > 0).then_some(usage.completion_tokens as f64)
}

/// What an answer of a family is taken for that was not seen whole: the family's median, else all answers', else the
/// published figure.
fn lengths(lines: &[Logged]) -> impl Fn(Family) -> f64 {
    let mut by: BTreeMap<Option<Family>, Vec<f64>> = BTreeMap::new();
    for line in lines {
        if let (Some(plan), Some(tokens)) = (&line.plan, answered(line)) {
            for family in [None, Some(family(plan))] {
                by.entry(family).or_default().push(tokens);
            }
        }
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let medians: BTreeMap<Option<Family>, f64> = by.into_iter().map(|(of, values)| (of, median(values))).collect();
    let priors = Priors::embedded();
    move |family| {
        let seen = medians.get(&Some(family)).or_else(|| medians.get(&None));
        seen.copied().unwrap_or_else(|| priors.output_tokens(family))
    }
}

fn asked(line: &Logged, plan: &LoggedPlan, output_tokens: f64, kinds: &mut Vec<String>) -> Asked {
    let family = family(plan);
    let pinned = plan.rule == PIN;
    let name = match (pinned, plan.features.tool_needed) {
        (true, _) => "model named".to_owned(),
        (false, true) => format!("{}, tool", family.as_str()),
        (false, false) => family.as_str().to_owned(),
    };
    let kind = kinds.iter().position(|known| *known == name).unwrap_or_else(|| {
        kinds.push(name);
        kinds.len() - 1
    });
    let told = line.usage.filter(|usage| usage.prompt_tokens > 0);
    let prompt_tokens = told.map_or(plan.features.prompt_tokens_estimate, |usage| usage.prompt_tokens).max(1) as f64;
    let exactly = |median: f64| Spread { median, spread: 0.0 };
    Asked {
        kind,
        judged: plan.family.clone(),
        family,
        tenant: line.tenant.clone().unwrap_or_default(),
        own: None,
        conversation: Some(plan.conversation),
        condensed: plan.condensed,
        pinned: pinned.then(|| plan.attempts.iter().map(|attempt| attempt.backend.clone()).collect()),
        ask: Ask::of(family, &plan.features),
        features: plan.features.clone(),
        prompt_tokens: exactly(prompt_tokens),
        output_tokens: exactly(output_tokens),
        cached: told.map_or(0.0, |usage| (usage.cached_tokens as f64 / prompt_tokens).clamp(0.0, 1.0)),
    }
}
