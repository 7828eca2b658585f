//! One candidate per position: the likeliest token at temperature 0, otherwise one drawn from softmax(logits / T)
//! cut to the nucleus `top_p` and renormalised. A seed and the same request give the same draws, alone or in a batch.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use weir_kernels::Kernels;
use weir_protocol::{EngineError, Sampling};

use super::Candidate;

const MOST_TEMPERATURE: f32 = 2.0;

/// One request's sampling.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    /// 0 is greedy.
    temperature: f32,
    top_p: f32,
    /// State of a SplitMix64 generator.
    state: u64,
}

impl Sampler {
    /// Checks the request's settings; what it leaves out is greedy. `seed` goes over the settings' own.
    pub(crate) fn new(sampling: &Sampling, seed: Option<u64>) -> Result<Self, EngineError> {
        let temperature = sampling.temperature.unwrap_or(0.0);
        if !(0.0..=MOST_TEMPERATURE).contains(&temperature) {
            return Err(EngineError::invalid("temperature", "must be a number from 0 to 2"));
        }
        let top_p = sampling.top_p.unwrap_or(1.0);
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(EngineError::invalid("top_p", "must be a number above 0, at most 1"));
        }
        let state = seed.or(sampling.seed).unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Ok(Sampler { temperature, top_p, state })
    }

    /// The candidate of one row of logits, in which `never` cannot be chosen. `None` if the logits are not numbers.
    pub(crate) fn pick(&mut self, kernels: &Kernels, logits: &mut [f32], never: Option<u32>) -> Option<Candidate> {
        if let Some(logit) = never.and_then(|token| logits.get_mut(token as usize)) {
            *logit = f32::NEG_INFINITY;
        }
        let top = kernels.top1(logits)?;
        if self.temperature == 0.0 {
            return Some(Candidate { token: u32::try_from(top.index).ok()?, probability: top.probability });
        }
        let largest = *logits.get(top.index)?;
        let weight = |logit: f32| f64::from((logit - largest) / self.temperature).exp();
        let mut tokens: Vec<(usize, f64)> = logits.iter().map(|logit| weight(*logit)).enumerate().collect();
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let nucleus = tokens.iter().map(|(_, weight)| weight).sum::<f64>() * f64::from(self.top_p);
        let mut mass = 0.0;
        let enough = tokens.iter().position(|(_, weight)| {
            mass += weight;
            mass >= nucleus
        });
        tokens.truncate(enough.map_or(tokens.len(), |last| last + 1));
        let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
        let mut left = self.uniform() * total;
        let drawn = tokens.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        let (index, weight) = drawn.or(tokens.first())?;
        Some(Candidate { token: u32::try_from(*index).ok()?, probability: (weight / total) as f32 })
    }

    /// A number in [0, 1).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use weir_kernels::registry;

    use super::*;

    fn sampler(temperature: f32, top_p: f32, seed: u64) -> Sampler {
        let sampling =
            Sampling { temperature: Some(temperature), top_p: Some(top_p), seed: Some(seed), ..Sampling::default() };
        Sampler::new(&sampling, None).expect("in range")
    }

    #[test]
    fn greedy_takes_the_largest_that_is_allowed() {
        let mut logits = vec![0.0, 5.0, 3.0];
        let candidate = sampler(0.0, 1.0, 1).pick(registry::best(), &mut logits, Some(1)).expect("finite");
        assert_eq!(candidate.token, 2);
        assert!((candidate.probability - 1.0 / (1.0 + (-3.0f32).exp())).abs() < 1e-6, "the mask takes no mass");
        assert_eq!(sampler(0.0, 1.0, 1).pick(registry::best(), &mut [f32::NAN, 1.0], None), None);
    }

    #[test]
    fn draws_follow_the_distribution_and_the_seed() {
        let logits = [1.0f32, 2.0, 0.0, -1.0];
        let temperature = 1.5f32;
        let weights: Vec<f64> = logits.iter().map(|l| f64::from(l / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        let run = |top_p: f32| {
            let mut sampler = sampler(temperature, top_p, 11);
            let mut counts = [0u32; 4];
            for _ in 0..20_000 {
                let candidate = sampler.pick(registry::best(), &mut logits.to_vec(), None).expect("finite");
                counts[candidate.token as usize] += 1;
            }
            counts
        };
        for (count, weight) in run(1.0).iter().zip(&weights) {
            assert!((f64::from(*count) / 20_000.0 - weight / total).abs() < 0.015, "{count}");
        }
        let nucleus = run(0.6);
        assert_eq!(nucleus, run(0.6), "the same seed draws the same");
        assert_eq!((nucleus[2], nucleus[3]), (0, 0), "0.6 of the mass lies in the two likeliest: {nucleus:?}");
    }

    #[test]
    fn out_of_range_settings_name_their_field() {
        for (temperature, top_p, field) in [
            (-0.1, 1.0, "temperature"),
            (2.1, 1.0, "temperature"),
            (f32::NAN, 1.0, "temperature"),
            (1.0, 0.0, "top_p"),
            (1.0, 1.1, "top_p"),
            (0.0, f32::NAN, "top_p"),
        ] {
            let sampling = Sampling { temperature: Some(temperature), top_p: Some(top_p), ..Sampling::default() };
            let error = Sampler::new(&sampling, None).expect_err("out of range");
            assert!(matches!(&error, EngineError::InvalidRequest { field: named, .. } if named == field), "{error:?}");
        }
    }
}
