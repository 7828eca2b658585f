//! The log-probability of a written token under the distribution it was chosen from: penalties, bias and forbidden
//! tokens are in it, temperature and the cuts of sampling are not. Must never be computed for who did not ask.

use weir_kernels::Kernels;
use weir_protocol::{TokenChance, TokenLogprob};

use crate::checkpoint::tokenizer::TextTokenizer;

/// What a probability of 0 is written as: JSON has no infinity, and OpenAI's API says this.
const NEVER: f32 = -9999.0;

/// One written token's score.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenScore {
    pub(crate) token: u32,
    pub(crate) logprob: f32,
    /// The likeliest tokens of its row, likeliest first.
    pub(crate) top: Vec<(u32, f32)>,
}

impl TokenScore {
    /// Of a token that had no alternative.
    pub(crate) fn certain(token: u32) -> Self {
        TokenScore { token, logprob: 0.0, top: Vec::new() }
    }

    /// With the tokens' texts.
    pub(crate) fn named(&self, tokenizer: &TextTokenizer) -> TokenLogprob {
        let chance = |(id, logprob): (u32, f32)| {
            let token = tokenizer.token_text(id);
            let bytes = tokenizer.token_bytes(id, &token);
            TokenChance { token, logprob: logprob.max(NEVER), bytes }
        };
        let top = self.top.iter().copied().map(chance).collect();
        TokenLogprob { chosen: chance((self.token, self.logprob)), top }
    }
}

/// The score of `token` in `row`, with the `count` likeliest beside it. `None` if the row has no numbers.
pub(crate) fn score(kernels: &Kernels, row: &[f32], token: u32, count: usize) -> Option<TokenScore> {
    let best = kernels.top1(row)?;
    // ln Σ e^z, from p(best) = e^(z_best) / Σ e^z.
    let normaliser = row.get(best.index)? - best.probability.ln();
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (id, logit) in (0u32..).zip(row) {
        if top.len() < count || top.last().is_some_and(|(_, least)| logit > least) {
            let at = top.partition_point(|(_, other)| other >= logit);
            top.insert(at, (id, *logit));
            top.truncate(count);
        }
    }
    top.iter_mut().for_each(|(_, logit)| *logit -= normaliser);
    top.retain(|(_, logprob)| logprob.is_finite());
    Some(TokenScore { token, logprob: row.get(token as usize)? - normaliser, top })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_kernels::registry;

    use super::*;

    proptest! {
        #[test]
        fn equals_log_softmax_and_a_sort(row in prop::collection::vec(-20.0f32..20.0, 1..200), at: prop::sample::Index, count in 0usize..20) {
            let token = at.index(row.len());
            let sum: f64 = row.iter().map(|z| f64::from(*z).exp()).sum();
            let logprob = |z: f32| f64::from(z) - sum.ln();
            let got = score(registry::best(), &row, token as u32, count).expect("finite");
            prop_assert!((f64::from(got.logprob) - logprob(row[token])).abs() < 1e-3);
            let mut sorted: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
            let ids: Vec<u32> = got.top.iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(ids, sorted.iter().take(count).map(|(id, _)| *id as u32).collect::<Vec<u32>>());
            for ((_, got), (_, z)) in got.top.iter().zip(&sorted) {
                prop_assert!((f64::from(*got) - logprob(*z)).abs() < 1e-3);
            }
        }
    }
}
