//! How good a classifier is: confusion, macro-F1, expected calibration error, and the temperature that makes its
//! probabilities mean what they say.

use std::collections::BTreeMap;

use weir_router_policies::classify::{Classifier, Family};

use super::generate::Sample;
use super::train;

/// Bins of the calibration error.
const BINS: usize = 15;

/// One judged sample.
pub(crate) struct Judgement {
    pub(crate) truth: Family,
    pub(crate) found: Family,
    pub(crate) probability: f32,
    pub(crate) language: String,
    pub(crate) source: String,
    pub(crate) chars: usize,
}

/// Judges each sample with the model, whatever the floor: `unsure` is counted by probability.
pub(crate) fn judge(classifier: &Classifier, samples: &[Sample]) -> Vec<Judgement> {
    samples
        .iter()
        .map(|sample| {
            let probabilities = classifier.probabilities(&train::grams(sample));
            let mut best = (0, -1.0);
            for (at, probability) in probabilities.iter().enumerate() {
                if *probability > best.1 {
                    best = (at, *probability);
                }
            }
            Judgement {
                truth: sample.family,
                found: classifier.weights().families[best.0],
                probability: best.1,
                language: sample.language.clone(),
                source: sample.source.clone(),
                chars: sample.text.chars().count(),
            }
        })
        .collect()
}

/// Precision, recall and F1 of a family, and how many there were.
pub(crate) fn of_family(judged: &[Judgement], family: Family) -> (f64, f64, f64, usize) {
    let truth = judged.iter().filter(|one| one.truth == family).count();
    let found = judged.iter().filter(|one| one.found == family).count();
    let both = judged.iter().filter(|one| one.truth == family && one.found == family).count();
    let (precision, recall) = (share(both, found), share(both, truth));
    let f1 = if both == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
    (precision, recall, f1, truth)
}

/// Mean F1 of the families that occur.
pub(crate) fn macro_f1(judged: &[Judgement]) -> f64 {
    let scores: Vec<f64> = train::classes()
        .into_iter()
        .map(|family| of_family(judged, family))
        .filter(|(.., truth)| *truth > 0)
        .map(|(_, _, f1, _)| f1)
        .collect();
    scores.iter().sum::<f64>() / scores.len().max(1) as f64
}

/// Share that is right.
pub(crate) fn accuracy<'a>(judged: impl IntoIterator<Item = &'a Judgement>) -> (f64, usize) {
    let (mut right, mut all) = (0, 0);
    for one in judged {
        all += 1;
        right += usize::from(one.truth == one.found);
    }
    (share(right, all), all)
}

/// Mean distance between what was promised and what came true, over bins of the promise.
pub(crate) fn calibration_error(judged: &[Judgement]) -> f64 {
    let mut bins = [(0_usize, 0_usize, 0.0_f64); BINS];
    for one in judged {
        let bin = &mut bins[((f64::from(one.probability) * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += 1;
        bin.1 += usize::from(one.truth == one.found);
        bin.2 += f64::from(one.probability);
    }
    bins.iter().map(|(_, right, promised)| (*right as f64 - promised).abs()).sum::<f64>() / judged.len().max(1) as f64
}

/// Share of judgements below the floor, and accuracy of the rest.
pub(crate) fn with_floor(judged: &[Judgement], floor: f32) -> (f64, f64) {
    let sure = || judged.iter().filter(|one| one.probability >= floor);
    (1.0 - share(sure().count(), judged.len()), accuracy(sure()).0)
}

/// Groups in the order of their names.
pub(crate) fn by(judged: &[Judgement], key: impl Fn(&Judgement) -> String) -> BTreeMap<String, Vec<&Judgement>> {
    let mut groups: BTreeMap<String, Vec<&Judgement>> = BTreeMap::new();
    judged.iter().for_each(|one| groups.entry(key(one)).or_default().push(one));
    groups
}

/// The temperature with the smallest loss on samples that training has not seen.
pub(crate) fn temperature(classifier: &Classifier, samples: &[Sample]) -> f32 {
    let classes = classifier.weights().families.clone();
    let logits: Vec<(Vec<f64>, usize)> = samples
        .iter()
        .filter_map(|sample| {
            let class = classes.iter().position(|family| *family == sample.family)?;
            let own = f64::from(classifier.weights().temperature);
            let probabilities = classifier.probabilities(&train::grams(sample));
            Some((probabilities.iter().map(|p| f64::from(p.max(1e-30)).ln() * own).collect(), class))
        })
        .collect();
    let loss = |temperature: f64| -> f64 {
        let each = logits.iter().map(|(logits, class)| {
            let sum: f64 = logits.iter().map(|logit| (logit / temperature).exp()).sum();
            sum.ln() - logits[*class] / temperature
        });
        each.sum()
    };
    let (mut low, mut high) = (0.2_f64, 8.0_f64);
    for _ in 0..60 {
        let (first, second) = (low + (high - low) * 0.382, low + (high - low) * 0.618);
        if loss(first) < loss(second) { high = second } else { low = first }
    }
    ((low + high) / 2.0) as f32
}

fn share(part: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}
