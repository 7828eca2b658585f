//! One candidate per position: the likeliest token at temperature 0, otherwise one drawn from softmax(logits / T) cut to
//! `top_k`, then to the nucleus `top_p`, then to `min_p`.
//!
//! A draw is the largest of `logit / T + noise`, the noise being standard Gumbel (Gumbel-max: exactly softmax). The
//! noise is a function of seed, position and token and of nothing else: neither of what runs beside, nor of the step. A
//! position whose distribution stands still therefore keeps its draw from step to step, so that editing comes to rest;
//! with fresh noise in each step every edit threshold below 1 would redraw forever.
//!
//! The confidence that decoders compare with their thresholds is `min(p(likeliest), exp((z_drawn - z_likeliest) / T))`
//! (sglang, `dllm/sampling.py`): is the position decided at all, and is the drawn token a plausible one for it. At
//! temperature 0 that is the probability of the likeliest, as in the papers.

use std::hash::{BuildHasher, Hasher};

use weir_kernels::Kernels;
use weir_protocol::{EngineError, Sampling};

use super::Candidate;

/// The nucleus is looked for among so many of the likeliest tokens first, then among eight times as many.
const FIRST_LOOK: usize = 64;

/// One request's sampling.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    /// 0 is greedy.
    temperature: f32,
    top_p: f32,
    /// 0 is all.
    top_k: usize,
    min_p: f32,
    seed: u64,
}

impl Sampler {
    /// Checks the request's settings; what it leaves out is greedy. `seed` goes over the settings' own.
    pub(crate) fn new(sampling: &Sampling, seed: Option<u64>) -> Result<Self, EngineError> {
        let temperature = sampling.temperature.unwrap_or(0.0);
        if !(0.0..=2.0).contains(&temperature) {
            return Err(EngineError::invalid("temperature", "must be a number from 0 to 2"));
        }
        let top_p = sampling.top_p.unwrap_or(1.0);
        // 0 is the likeliest token alone.
        if !(0.0..=1.0).contains(&top_p) {
            return Err(EngineError::invalid("top_p", "must be a number from 0 to 1"));
        }
        let min_p = sampling.min_p.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&min_p) {
            return Err(EngineError::invalid("min_p", "must be a number from 0 to 1"));
        }
        let random = || std::hash::RandomState::new().build_hasher().finish();
        let seed = seed.or(sampling.seed).unwrap_or_else(random);
        Ok(Sampler { temperature, top_p, top_k: sampling.top_k.unwrap_or(0) as usize, min_p, seed })
    }

    /// Whether the likeliest token is always the one.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// The candidate of one row of logits, which belongs to the absolute position `position`. `None` if the logits are
    /// not numbers.
    pub(crate) fn pick(&self, kernels: &Kernels, logits: &[f32], position: usize) -> Option<Candidate> {
        let top = kernels.top1(logits)?;
        let largest = *logits.get(top.index)?;
        let drawn = match self.temperature {
            0.0 => top.index,
            _ => self.draw(logits, largest, position)?,
        };
        let behind = if drawn == top.index { 1.0 } else { self.scaled(*logits.get(drawn)?, largest).exp() as f32 };
        Some(Candidate { token: u32::try_from(drawn).ok()?, probability: top.probability.min(behind) })
    }

    /// A logit relative to the largest, over the temperature: at most 0.
    fn scaled(&self, logit: f32, largest: f32) -> f64 {
        f64::from(logit - largest) / f64::from(self.temperature)
    }

    fn draw(&self, logits: &[f32], largest: f32, position: usize) -> Option<usize> {
        let noise = Noise::new(self.seed, position);
        let mut best = Best::default();
        if let Some(kept) = self.kept(logits, largest) {
            for (token, scaled) in kept {
                best.offer(token, scaled + noise.gumbel(noise.uniform(token)));
            }
            return best.token;
        }
        // All tokens: those far behind the largest need rare noise, which their uniform number shows without logarithms.
        const NEAR: f64 = -8.0;
        for (token, logit) in logits.iter().enumerate() {
            let scaled = self.scaled(*logit, largest);
            if scaled > NEAR {
                best.offer(token, scaled + noise.gumbel(noise.uniform(token)));
            }
        }
        let rare = (-(-(best.score - NEAR)).exp()).exp();
        for (token, logit) in logits.iter().enumerate() {
            let (scaled, uniform) = (self.scaled(*logit, largest), noise.uniform(token));
            if uniform >= rare && scaled <= NEAR {
                best.offer(token, scaled + noise.gumbel(uniform));
            }
        }
        best.token
    }

    /// The tokens that may be drawn with their scaled logits, likeliest first; `None` for all.
    fn kept(&self, logits: &[f32], largest: f32) -> Option<Vec<(usize, f64)>> {
        if self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0 {
            return None;
        }
        let mut tokens: Vec<(usize, f64)> = logits
            .iter()
            .map(|logit| self.scaled(*logit, largest))
            .enumerate()
            .filter(|(_, x)| x.is_finite())
            .collect();
        if self.top_k > 0 {
            front(&mut tokens, self.top_k);
            tokens.truncate(self.top_k);
        }
        if self.top_p < 1.0 {
            nucleus(&mut tokens, f64::from(self.top_p));
        }
        let least = f64::from(self.min_p);
        tokens.retain(|(_, scaled)| scaled.exp() >= least);
        Some(tokens)
    }
}

fn likelier(a: &(usize, f64), b: &(usize, f64)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Brings the `count` likeliest to the front, in order.
fn front(tokens: &mut [(usize, f64)], count: usize) {
    if count < tokens.len() {
        tokens.select_nth_unstable_by(count, likelier);
    }
    let count = count.min(tokens.len());
    tokens[..count].sort_unstable_by(likelier);
}

/// Cuts `tokens` to the likeliest that together have `share` of the mass.
fn nucleus(tokens: &mut Vec<(usize, f64)>, share: f64) {
    let enough = share * tokens.iter().map(|(_, scaled)| scaled.exp()).sum::<f64>();
    let mut look = FIRST_LOOK;
    loop {
        front(tokens, look);
        let mut mass = 0.0;
        let last = tokens.iter().take(look).position(|(_, scaled)| {
            mass += scaled.exp();
            mass >= enough
        });
        match last {
            Some(last) => return tokens.truncate(last + 1),
            None if look >= tokens.len() => return,
            None => look *= 8,
        }
    }
}

/// The largest score so far.
struct Best {
    token: Option<usize>,
    score: f64,
}

impl Default for Best {
    fn default() -> Self {
        Best { token: None, score: f64::NEG_INFINITY }
    }
}

impl Best {
    fn offer(&mut self, token: usize, score: f64) {
        if score > self.score {
            *self = Best { token: Some(token), score };
        }
    }
}

/// The noise of one position.
struct Noise(u64);

impl Noise {
    fn new(seed: u64, position: usize) -> Self {
        Noise(mix(mix(seed) ^ position as u64))
    }

    /// A number in (0, 1), the same for the same token.
    fn uniform(&self, token: usize) -> f64 {
        let bits = mix(self.0.wrapping_add((token as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))) >> 11;
        (bits as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A uniform number as a standard Gumbel one.
    fn gumbel(&self, uniform: f64) -> f64 {
        -(-uniform.ln()).ln()
    }
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014).
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_kernels::registry;

    use super::*;

    fn sampler(sampling: Sampling) -> Sampler {
        Sampler::new(&sampling, None).expect("in range")
    }

    fn tempered(temperature: f32, seed: u64) -> Sampling {
        Sampling { temperature: Some(temperature), seed: Some(seed), ..Sampling::default() }
    }

    #[test]
    fn greedy_takes_the_largest() {
        let logits = [0.0, f32::NEG_INFINITY, 3.0];
        let candidate = sampler(tempered(0.0, 1)).pick(registry::best(), &logits, 0).expect("finite");
        assert_eq!(candidate.token, 2);
        assert!((candidate.probability - 1.0 / (1.0 + (-3.0f32).exp())).abs() < 1e-6, "-inf takes no mass");
        assert_eq!(sampler(tempered(0.0, 1)).pick(registry::best(), &[f32::NAN, 1.0], 0), None);
    }

    #[test]
    fn draws_over_positions_follow_the_distribution() {
        let logits = [1.0f32, 2.0, 0.0, -1.0];
        let temperature = 1.5f32;
        let weights: Vec<f64> = logits.iter().map(|l| f64::from(l / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        for cut in [false, true] {
            let top_k = cut.then_some(4);
            let sampler = sampler(Sampling { top_k, ..tempered(temperature, 11) });
            let mut counts = [0u32; 4];
            for position in 0..20_000 {
                let candidate = sampler.pick(registry::best(), &logits, position).expect("finite");
                counts[candidate.token as usize] += 1;
                let behind = ((logits[candidate.token as usize] - 2.0) / temperature).exp();
                let top = (2.0f32).exp() / logits.iter().map(|l| l.exp()).sum::<f32>();
                assert!((candidate.probability - top.min(behind)).abs() < 1e-6);
            }
            for (count, weight) in counts.iter().zip(&weights) {
                assert!((f64::from(*count) / 20_000.0 - weight / total).abs() < 0.015, "{counts:?}");
            }
        }
    }

    #[test]
    fn the_seed_and_the_position_decide() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.37).sin()).collect();
        let draws = |seed: u64| -> Vec<u32> {
            let sampler = sampler(tempered(1.0, seed));
            (0..50).map(|at| sampler.pick(registry::best(), &logits, at).expect("finite").token).collect()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert!(draws(1).windows(2).any(|pair| pair[0] != pair[1]));
        let other = sampler(tempered(1.0, 5));
        assert_eq!(
            Sampler::new(&tempered(1.0, 9), Some(5)).expect("in range").seed,
            other.seed,
            "the second goes first"
        );
    }

    /// The rule by a full sort and without pruning.
    fn plain(sampler: &Sampler, logits: &[f32], position: usize) -> u32 {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut tokens: Vec<(usize, f64)> =
            logits.iter().map(|l| f64::from(l - largest) / f64::from(sampler.temperature)).enumerate().collect();
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if sampler.top_k > 0 {
            tokens.truncate(sampler.top_k);
        }
        let total: f64 = tokens.iter().map(|t| t.1.exp()).sum();
        let mut kept = Vec::new();
        let mut mass = 0.0;
        for token in tokens {
            if kept.is_empty() || mass < f64::from(sampler.top_p) * total || sampler.top_p >= 1.0 {
                mass += token.1.exp();
                if token.1.exp() >= f64::from(sampler.min_p) {
                    kept.push(token);
                }
            }
        }
        let noise = Noise::new(sampler.seed, position);
        let score = |t: &(usize, f64)| t.1 - (-noise.uniform(t.0).ln()).ln();
        kept.into_iter().max_by(|a, b| score(a).total_cmp(&score(b))).expect("the likeliest is kept").0 as u32
    }

    proptest! {
        #[test]
        fn equals_the_plain_form(
            logits in prop::collection::vec(-30.0f32..30.0, 1..300),
            temperature in 0.05f32..2.0,
            top_p in prop_oneof![Just(1.0f32), Just(0.0f32), 0.01f32..1.0],
            top_k in prop_oneof![Just(0u32), 1u32..100],
            min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
            seed: u64,
            position in 0usize..5000,
        ) {
            let (top_p, top_k, min_p) = (Some(top_p), Some(top_k), Some(min_p));
            let sampler = sampler(Sampling { top_p, top_k, min_p, ..tempered(temperature, seed) });
            let got = sampler.pick(registry::best(), &logits, position).expect("finite");
            prop_assert_eq!(got.token, plain(&sampler, &logits, position));
        }
    }

    #[test]
    fn out_of_range_settings_name_their_field() {
        let none = Sampling::default();
        for (sampling, field) in [
            (Sampling { temperature: Some(-0.1), ..none.clone() }, "temperature"),
            (Sampling { temperature: Some(2.1), ..none.clone() }, "temperature"),
            (Sampling { temperature: Some(f32::NAN), ..none.clone() }, "temperature"),
            (Sampling { top_p: Some(-0.1), ..none.clone() }, "top_p"),
            (Sampling { top_p: Some(1.1), ..none.clone() }, "top_p"),
            (Sampling { top_p: Some(f32::NAN), ..none.clone() }, "top_p"),
            (Sampling { min_p: Some(1.1), ..none.clone() }, "min_p"),
        ] {
            let error = Sampler::new(&sampling, None).expect_err("out of range");
            assert!(matches!(&error, EngineError::InvalidRequest { field: named, .. } if named == field), "{error:?}");
        }
    }
}
