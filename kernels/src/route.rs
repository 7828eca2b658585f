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

/// Memory that choices are made in, kept from token to token.
#[derive(Debug, Clone, Default)]
pub struct RouteScratch {
    /// Score and bias of each expert.
    biased: Vec<f32>,
    /// Of each group: its score, and whether it is kept.
    groups: Vec<f32>,
    best: Vec<(f32, usize)>,
    /// Experts admitted for a block, ascending, and their scores.
    admitted: Vec<usize>,
    highest: Vec<f32>,
    chosen: Vec<Choice>,
}

impl RouteScratch {
    /// Chooses experts for one token from the router's `logits[experts]`, ascending by expert. `bias` steers the choice
    /// only, never the weight. A group's score is the sum of its two largest biased scores; of equals the lower index
    /// wins. The result is empty only if `logits` is.
    pub fn choose(&mut self, logits: &[f32], bias: Option<&[f32]>, routing: Routing) -> &[Choice] {
        let RouteScratch { biased, groups, best, chosen, .. } = self;
        score(logits, bias, biased);
        let size = (biased.len() / routing.groups.max(1)).max(1);
        groups.clear();
        for group in biased.chunks(size) {
            largest(group.iter().copied().enumerate(), 2, best);
            groups.push(best.iter().map(|(score, _)| score).sum());
        }
        largest(groups.iter().copied().enumerate(), routing.groups_kept.max(1), best);
        groups.fill(0.0);
        for (_, group) in &*best {
            groups[*group] = 1.0;
        }
        let kept = biased.iter().copied().enumerate().filter(|(expert, _)| groups[expert / size] > 0.0);
        largest(kept, routing.experts_kept, best);
        weigh(logits, best, routing, chosen);
        chosen
    }

    /// Remembers the experts admitted for one block: those `capacity` whose largest biased score over the block's
    /// tokens, `logits[tokens, experts]`, is highest (LLaDA2.2 report §2.2 eq. 1); of equals the lower index wins.
    pub fn admit(&mut self, logits: &[f32], experts: usize, bias: Option<&[f32]>, capacity: usize) -> &[usize] {
        let RouteScratch { biased, best, admitted, highest, .. } = self;
        highest.clear();
        highest.resize(experts, f32::NEG_INFINITY);
        for token in logits.chunks_exact(experts.max(1)) {
            score(token, bias, biased);
            for (highest, score) in highest.iter_mut().zip(&*biased) {
                *highest = highest.max(*score);
            }
        }
        largest(highest.iter().copied().enumerate(), capacity, best);
        admitted.clear();
        admitted.extend(best.iter().map(|(_, expert)| *expert));
        admitted.sort_unstable();
        admitted
    }

    /// [`RouteScratch::choose`] among the experts that [`RouteScratch::admit`] gave for the token's block; groups do
    /// not count.
    pub fn choose_admitted(&mut self, logits: &[f32], bias: Option<&[f32]>, routing: Routing) -> &[Choice] {
        let RouteScratch { biased, best, admitted, chosen, .. } = self;
        score(logits, bias, biased);
        let scores = admitted.iter().filter_map(|expert| Some((*expert, *biased.get(*expert)?)));
        largest(scores, routing.experts_kept, best);
        weigh(logits, best, routing, chosen);
        chosen
    }
}

/// What the choice goes by: score and bias.
fn score(logits: &[f32], bias: Option<&[f32]>, biased: &mut Vec<f32>) {
    biased.clear();
    match bias {
        Some(bias) => biased.extend(logits.iter().zip(bias).map(|(logit, bias)| sigmoid(*logit) + bias)),
        None => biased.extend(logits.iter().map(|logit| sigmoid(*logit))),
    }
}

/// The best candidates with their weights, ascending by expert.
fn weigh(logits: &[f32], best: &[(f32, usize)], routing: Routing, chosen: &mut Vec<Choice>) {
    chosen.clear();
    for (_, expert) in best {
        if let Some(logit) = logits.get(*expert) {
            chosen.push(Choice { expert: *expert, weight: sigmoid(*logit) });
        }
    }
    let sum: f32 = chosen.iter().map(|choice| choice.weight).sum();
    let divisor = if routing.normalize { sum + 1e-20 } else { 1.0 };
    for choice in &mut *chosen {
        choice.weight = choice.weight / divisor * routing.scale;
    }
    chosen.sort_unstable_by_key(|choice| choice.expert);
}

/// Values and indices of the `count` largest of `values` (ascending by index), the largest first; of equals the lower
/// index comes first. A few are kept of some hundred, so most are only compared with the least that is kept.
fn largest(values: impl Iterator<Item = (usize, f32)>, count: usize, kept: &mut Vec<(f32, usize)>) {
    kept.clear();
    for (index, value) in values {
        if kept.len() == count {
            match kept.last() {
                Some((least, _)) if value.total_cmp(least).is_gt() => kept.pop(),
                _ => continue,
            };
        }
        let at = kept.partition_point(|(other, _)| value.total_cmp(other).is_le());
        kept.insert(at, (value, index));
    }
}
