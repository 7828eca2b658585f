//! What was learnt about one backend. Fed with finished attempts only, told the time; must never look at a clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fading::Fading;
use super::line::Line;
use super::priors::Priors;
use super::{Ask, Seen};
use crate::classify::Family;
use crate::facts::BackendRole;
use crate::question::Interval;

/// Tokens of a block, which a diffusion engine finishes before it shows anything.
const BLOCK: f64 = 32.0;
/// However many answers come in a minute, older than the last so many they hardly count.
const KEPT: f64 = 64.0;
/// The spread of a logarithm before anything was seen: a factor of two either way is nothing unusual.
const SPREAD: f64 = 0.5;
/// Half of the interval, in spreads: four of five are inside.
const REACH: f64 = 1.2816;

/// Inputs of the wait for the first content: one, thousands of tokens to read, others under way.
const FIRST: usize = 3;
/// Inputs of a forward's time: one, others under way.
const PACE: usize = 2;

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Learnt {
    first: Line,
    pace: Line,
    /// Logarithms of tokens per forward.
    per_forward: BTreeMap<String, Fading>,
    /// Logarithms of an answer's tokens.
    output: BTreeMap<String, Fading>,
    /// Share of the prompt that came from a cache: of first turns, and of later ones.
    cached: [Fading; 2],
    failed: Fading,
    /// Logarithms of what was over what was predicted: first content, end.
    missed: [Fading; 2],
    /// Whether it was inside the interval.
    inside: [Fading; 2],
    /// When it was last seen, in seconds.
    pub(super) at: f64,
}

/// Times before anything is made of them.
struct Raw {
    ttft: f64,
    total: f64,
}

impl Learnt {
    pub(super) fn new(now: f64) -> Self {
        Learnt {
            first: Line::new(FIRST),
            pace: Line::new(PACE),
            per_forward: BTreeMap::new(),
            output: BTreeMap::new(),
            cached: [Fading::default(); 2],
            failed: Fading::default(),
            missed: [Fading::default(); 2],
            inside: [Fading::default(); 2],
            at: now,
        }
    }

    /// Whether what was read from a file can be gone on with.
    pub(super) fn is_sound(&self) -> bool {
        let fading = self.per_forward.values().chain(self.output.values());
        let fading = fading.chain(&self.cached).chain([&self.failed]).chain(&self.missed).chain(&self.inside);
        let named = self.per_forward.keys().chain(self.output.keys());
        self.first.is_sound(FIRST)
            && self.pace.is_sound(PACE)
            && self.at.is_finite()
            && fading.into_iter().all(Fading::is_sound)
            && named.into_iter().all(|word| Family::named(word).is_some())
    }

    /// What still counts of it, at `now`. A clock may have been put back: how long ago that was nobody knows, and what it
    /// is behind is as good a guess as any.
    fn remembered(&self, now: f64, half_life: f64) -> f64 {
        0.5_f64.powf((now - self.at).abs() / half_life.max(1.0))
    }

    fn fade(&mut self, now: f64, half_life: f64) {
        let share = self.remembered(now, half_life) * (1.0 - 1.0 / KEPT);
        self.at = now;
        self.first.fade(share);
        self.pace.fade(share);
        let fading = self.per_forward.values_mut().chain(self.output.values_mut()).chain(&mut self.cached);
        let fading = fading.chain([&mut self.failed]).chain(&mut self.missed).chain(&mut self.inside);
        fading.for_each(|one| one.fade(share));
    }

    /// An attempt ended well.
    pub(super) fn seen(&mut self, role: BackendRole, seen: &Seen, priors: &Priors, now: f64, half_life: f64) {
        let predicted = self.raw(role, &seen.ask, priors);
        let spans = [self.span(0, predicted.ttft), self.span(1, predicted.total)];
        self.fade(now, half_life);
        self.failed.seen(0.0);
        for (at, (was, raw)) in [(seen.ttft_s, predicted.ttft), (seen.total_s, predicted.total)].into_iter().enumerate()
        {
            if was > 0.0 && raw > 0.0 {
                self.missed[at].seen((was / raw).ln());
                let inside = (spans[at].low_ms..=spans[at].high_ms).contains(&(was * 1000.0));
                self.inside[at].seen(f64::from(u8::from(inside)));
            }
        }
        let tokens = seen.completion_tokens as f64;
        let word = seen.ask.family.as_str().to_owned();
        if tokens > 0.0 {
            self.output.entry(word.clone()).or_default().seen(tokens.ln());
        }
        let read = seen.prompt_tokens.saturating_sub(seen.cached_tokens) as f64;
        if seen.prompt_tokens > 0 {
            let share = seen.cached_tokens as f64 / seen.prompt_tokens as f64;
            self.cached[usize::from(seen.ask.continues)].seen(share.clamp(0.0, 1.0));
        }
        let load = f64::from(seen.ask.in_flight);
        let forwards = match (role, seen.steps) {
            (BackendRole::Diffusion, Some(steps)) if steps > 0 && tokens > 0.0 => {
                let per_forward = self.per_forward.entry(word).or_default();
                per_forward.seen((tokens / f64::from(steps)).max(0.1).ln());
                f64::from(steps)
            }
            _ => tokens,
        };
        self.learn_times(role, seen, priors, read, load, forwards);
    }

    /// Parts the time into the wait and the forwards.
    fn learn_times(&mut self, role: BackendRole, seen: &Seen, priors: &Priors, read: f64, load: f64, forwards: f64) {
        let x = [1.0, read / 1000.0, load];
        match role {
            // The first token ends the wait, the others are forwards.
            BackendRole::Ar => {
                self.first.seen(&x, seen.ttft_s);
                if forwards >= 4.0 && seen.total_s > seen.ttft_s {
                    self.pace.seen(&[1.0, load], (seen.total_s - seen.ttft_s) / (forwards - 1.0));
                }
            }
            // The first block is part of the wait: what the forwards took is what the wait does not explain.
            BackendRole::Diffusion => {
                let tokens = (seen.completion_tokens as f64).max(1.0);
                let first_block = forwards * (BLOCK.min(tokens) / tokens);
                let prior = self.priors_of(role, priors);
                let pace = self.pace.at(&[1.0, load], &prior.1);
                self.first.seen(&x, (seen.ttft_s - pace * first_block).max(seen.ttft_s * 0.05));
                let wait = self.first.at(&x, &prior.0).min(seen.total_s * 0.8);
                if forwards >= 1.0 {
                    self.pace.seen(&[1.0, load], (seen.total_s - wait) / forwards);
                }
            }
        }
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self, now: f64, half_life: f64) {
        self.fade(now, half_life);
        self.failed.seen(1.0);
    }

    fn priors_of(&self, role: BackendRole, priors: &Priors) -> ([f64; FIRST], [f64; PACE]) {
        let prior = priors.of_role(role);
        let first = [prior.overhead_ms / 1000.0, prior.prefill_ms_per_1k / 1000.0, prior.queue_ms / 1000.0];
        // Others under way slow a forward down by a tenth each, until it is known better.
        (first, [prior.forward_ms / 1000.0, prior.forward_ms / 10_000.0])
    }

    fn raw(&self, role: BackendRole, ask: &Ask, priors: &Priors) -> Raw {
        let prior = self.priors_of(role, priors);
        let load = f64::from(ask.in_flight);
        let cached = self.cached[usize::from(ask.continues)].mean(0.0, 2.0).clamp(0.0, 1.0);
        let read = ask.prompt_tokens as f64 * (1.0 - cached);
        let wait = self.first.at(&[1.0, read / 1000.0, load], &prior.0);
        let pace = self.pace.at(&[1.0, load], &prior.1);
        let tokens = self.output_tokens(ask, priors);
        let per_forward = self.tokens_per_forward(role, ask.family, priors);
        let (ttft, rest) = match role {
            BackendRole::Ar => (wait, tokens - 1.0),
            BackendRole::Diffusion => (wait + pace * BLOCK.min(tokens) / per_forward, tokens - BLOCK),
        };
        Raw { ttft: ttft.max(1e-5), total: (ttft + pace * rest.max(0.0) / per_forward).max(1e-5) }
    }

    fn tokens_per_forward(&self, role: BackendRole, family: Family, priors: &Priors) -> f64 {
        let prior = priors.tokens_per_forward(role, family);
        let learnt = self.per_forward.get(family.as_str()).copied().unwrap_or_default();
        if role == BackendRole::Ar { 1.0 } else { learnt.mean(prior.ln(), 3.0).exp().clamp(0.2, 64.0) }
    }

    fn output_tokens(&self, ask: &Ask, priors: &Priors) -> f64 {
        let guess = if ask.output_tokens > 0 { ask.output_tokens as f64 } else { priors.output_tokens(ask.family) };
        let learnt = self.output.get(ask.family.as_str()).copied().unwrap_or_default();
        let tokens = learnt.mean(guess.max(1.0).ln(), 3.0).exp();
        if ask.max_tokens > 0 { tokens.min(ask.max_tokens as f64) } else { tokens }
    }

    /// The prediction, put right by how far off the earlier ones were.
    fn span(&self, which: usize, seconds: f64) -> Interval {
        let missed = &self.missed[which];
        let lean = missed.mean(0.0, 8.0).clamp(-2.0, 2.0);
        let spread = (missed.spread(SPREAD, 4.0) * (1.0 + 1.0 / (1.0 + missed.weight()))).sqrt();
        let ms = seconds * 1000.0 * lean.exp();
        Interval { expected_ms: ms, low_ms: ms * (-REACH * spread).exp(), high_ms: ms * (REACH * spread).exp() }
    }

    /// First content, and end.
    pub(super) fn predict(&self, role: BackendRole, ask: &Ask, priors: &Priors) -> (Interval, Interval) {
        let raw = self.raw(role, ask, priors);
        let (ttft, mut total) = (self.span(0, raw.ttft), self.span(1, raw.total));
        // Put right apart, the end must still not come before the beginning.
        total.expected_ms = total.expected_ms.max(ttft.expected_ms);
        total.high_ms = total.high_ms.max(total.expected_ms);
        (ttft, total)
    }

    pub(super) fn error_rate(&self) -> f64 {
        self.failed.mean(0.01, 4.0).clamp(0.0, 1.0)
    }

    /// What still counts, `since` having passed.
    pub(super) fn weight(&self, now: f64, half_life: f64) -> f64 {
        self.first.weight() * self.remembered(now, half_life)
    }

    /// How far off the predictions are: typical factor, and share inside their interval, for first content and end.
    pub(super) fn own_error(&self) -> [(f64, f64); 2] {
        [0, 1].map(|at| {
            let (lean, spread) = (self.missed[at].mean(0.0, 0.0), self.missed[at].spread(0.0, 0.0));
            ((lean * lean + spread).sqrt().exp() - 1.0, self.inside[at].mean(0.0, 0.0))
        })
    }

    pub(super) fn is_judged(&self) -> bool {
        self.missed[0].weight() > 0.0
    }
}
