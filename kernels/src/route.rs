//! Which experts a token goes to: grouped top-k over sigmoid scores (LLaDA2.0 report, after DeepSeek-V3), or top-k
//! within the experts admitted for the token's block (LLaDA2.2 report §2.2). Plain code: at most a few hundred numbers
//! a token. Must never know what an expert is.

/// How a layer routes.
#[derive(Debug, Clone, Copy)]
pub struct Routing {
    /// Groups the experts are divided into; divides the number of experts.
    pub groups: usize,
    /// Groups kept for a token.
    pub groups_kept: usize,
    /// Experts kept for a token.
    pub experts_kept: usize,
    /// Whether the kept weights are divided by their sum.
    pub normalize: bool,
    /// Factor on the weights.
    pub scale: f32,
    /// Experts admitted for a whole block ([`admit`]); groups do not count then. `None` for the grouped choice.
    pub capacity: Option<usize>,
}

/// One chosen expert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Which expert.
    pub expert: usize,
    /// Factor on its output.
    pub weight: f32,
}

/// `1 / (1 + e^-x)`.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Chooses experts for one token from the router's `logits[experts]`, ascending by expert. `bias` steers the choice
/// only, never the weight. A group's score is the sum of its two largest biased scores; of equals the lower index
/// wins. The result is empty only if `logits` is.
pub fn choose(logits: &[f32], bias: Option<&[f32]>, routing: Routing) -> Vec<Choice> {
    let biased = biased(logits, bias);
    let group_size = (biased.len() / routing.groups.max(1)).max(1);
    let group_scores: Vec<f32> = biased.chunks(group_size).map(two_largest).collect();
    let groups = largest(&group_scores, routing.groups_kept.max(1));
    let candidates: Vec<usize> = (0..biased.len()).filter(|expert| groups.contains(&(expert / group_size))).collect();
    best_of(&candidates, logits, &biased, routing)
}

/// The experts admitted for one block, ascending: those `capacity` whose largest biased score over the block's tokens,
/// `logits[tokens, experts]`, is highest (LLaDA2.2 report §2.2 eq. 1); of equals the lower index wins.
pub fn admit(logits: &[f32], experts: usize, bias: Option<&[f32]>, capacity: usize) -> Vec<usize> {
    let mut best = vec![f32::NEG_INFINITY; experts];
    for token in logits.chunks_exact(experts.max(1)) {
        for (best, score) in best.iter_mut().zip(biased(token, bias)) {
            *best = best.max(score);
        }
    }
    let mut admitted = largest(&best, capacity);
    admitted.sort_unstable();
    admitted
}

/// [`choose`] among the experts `pool` that [`admit`] gave for the token's block; groups do not count.
pub fn choose_within(pool: &[usize], logits: &[f32], bias: Option<&[f32]>, routing: Routing) -> Vec<Choice> {
    best_of(pool, logits, &biased(logits, bias), routing)
}

/// What the choice goes by: score and bias.
fn biased(logits: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let scores = logits.iter().map(|logit| sigmoid(*logit));
    match bias {
        Some(bias) => scores.zip(bias).map(|(score, bias)| score + bias).collect(),
        None => scores.collect(),
    }
}

/// The `experts_kept` best candidates with their weights, ascending by expert.
fn best_of(candidates: &[usize], logits: &[f32], biased: &[f32], routing: Routing) -> Vec<Choice> {
    let candidate_scores: Vec<f32> = candidates.iter().filter_map(|expert| biased.get(*expert).copied()).collect();
    let mut chosen: Vec<Choice> = largest(&candidate_scores, routing.experts_kept)
        .into_iter()
        .filter_map(|at| candidates.get(at).copied())
        .filter_map(|expert| logits.get(expert).map(|logit| Choice { expert, weight: sigmoid(*logit) }))
        .collect();
    let sum: f32 = chosen.iter().map(|choice| choice.weight).sum();
    let divisor = if routing.normalize { sum + 1e-20 } else { 1.0 };
    for choice in &mut chosen {
        choice.weight = choice.weight / divisor * routing.scale;
    }
    chosen.sort_by_key(|choice| choice.expert);
    chosen
}

fn two_largest(scores: &[f32]) -> f32 {
    largest(scores, 2).into_iter().filter_map(|at| scores.get(at)).sum()
}

/// Indices of the `count` largest values, the largest first; of equals the lower index comes first. A few are kept of
/// some hundred, so most values are only compared with the least that is kept.
fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let mut kept: Vec<(f32, usize)> = Vec::with_capacity(count.min(values.len()) + 1);
    for (index, value) in values.iter().enumerate() {
        if kept.len() == count {
            match kept.last() {
                Some((least, _)) if value.total_cmp(least).is_gt() => kept.pop(),
                _ => continue,
            };
        }
        let at = kept.partition_point(|(other, _)| value.total_cmp(other).is_le());
        kept.insert(at, (*value, index));
    }
    kept.into_iter().map(|(_, index)| index).collect()
}
