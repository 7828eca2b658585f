//! Multinomial logistic regression over the router's own grams: AdaGrad, a share of the grams left out of each look so
//! that no single word carries a family, every family and source weighing alike. One thread; the same seed gives the same
//! weights on the same machine.

use weir_router_policies::Features;
use weir_router_policies::classify::Family;
use weir_router_policies::classify::grams::{Grams, ROWS, ROWS_ALL};
use weir_router_policies::classify::share_of;
use weir_router_policies::classify::weights::{WIDTH, Weights};
use weir_router_policies::unwrap;

use super::generate::{Dice, Sample};

/// What a run is made with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) epochs: usize,
    pub(crate) rate: f32,
    /// Share of grams left out of a look.
    pub(crate) dropout: f64,
    /// Pulls each weight towards 0, per look that touches it.
    pub(crate) decay: f32,
    pub(crate) seed: u64,
}

/// A sample as the model sees it.
pub(crate) struct Seen {
    pub(crate) grams: Grams,
    pub(crate) class: usize,
    pub(crate) weight: f32,
}

/// The families the model tells apart: all but those a rule finds.
pub(crate) fn classes() -> Vec<Family> {
    Family::ALL.into_iter().filter(|family| ![Family::Unsure, Family::Infill].contains(family)).collect()
}

/// Reads a sample as the router would.
pub(crate) fn grams(sample: &Sample) -> Grams {
    let request = sample.request();
    let features = Features::of(&request);
    Grams::of(&unwrap::asked(&request).text, &features)
}

/// Samples with weights that make families even, and within a family made and public ones.
pub(crate) fn seen(samples: &[Sample]) -> Vec<Seen> {
    let classes = classes();
    let place = |sample: &Sample| {
        let class = classes.iter().position(|family| *family == sample.family)?;
        Some((class, usize::from(sample.source != "made")))
    };
    let mut counts = vec![[0.0_f32; 2]; classes.len()];
    samples.iter().filter_map(place).for_each(|(class, kind)| counts[class][kind] += 1.0);
    let mean = counts.iter().flatten().sum::<f32>() / counts.len() as f32;
    samples
        .iter()
        .filter_map(|sample| {
            let (class, kind) = place(sample)?;
            let halves = counts[class].iter().filter(|count| **count > 0.0).count() as f32;
            Some(Seen { grams: grams(sample), class, weight: mean / halves / counts[class][kind] })
        })
        .collect()
}

/// Trains on `seen`.
pub(crate) fn train(seen: &[Seen], settings: &Settings) -> Weights {
    let count = classes().len();
    let mut table = vec![[0.0_f32; WIDTH]; ROWS_ALL];
    let mut squares = vec![[1e-3_f32; WIDTH]; ROWS_ALL];
    let mut bias = [0.0_f32; WIDTH];
    let mut dice = Dice(settings.seed);
    let mut order: Vec<usize> = (0..seen.len()).collect();
    for epoch in 0..settings.epochs {
        for at in (1..order.len()).rev() {
            let other = dice.below(at + 1);
            order.swap(at, other);
        }
        let rate = settings.rate * (1.0 - epoch as f32 / settings.epochs as f32).max(0.1);
        let mut loss = 0.0_f64;
        for at in &order {
            let one = &seen[*at];
            let kept = kept(&one.grams, settings.dropout, &mut dice);
            let mut scores = bias;
            for (part, rows) in kept.iter().enumerate() {
                let mut sums = [0.0_f32; WIDTH];
                for row in rows {
                    sums.iter_mut().zip(table[*row as usize]).for_each(|(sum, weight)| *sum += weight);
                }
                let share = share_of(part, rows.len());
                scores.iter_mut().zip(sums).for_each(|(score, sum)| *score += sum * share);
            }
            let gradient = gradient(&scores[..count], one, &mut loss);
            for (part, rows) in kept.iter().enumerate() {
                let share = share_of(part, rows.len());
                for row in rows {
                    let (weights, squares) = (&mut table[*row as usize], &mut squares[*row as usize]);
                    for class in 0..count {
                        let slope = gradient[class] * share + settings.decay * weights[class];
                        squares[class] += slope * slope;
                        weights[class] -= rate * slope / squares[class].sqrt();
                    }
                }
            }
            for class in 0..count {
                bias[class] -= 0.01 * rate * gradient[class];
            }
        }
        println!("epoch {}: loss {:.4}", epoch + 1, loss / seen.len() as f64);
    }
    packed(&table, bias)
}

fn kept(grams: &Grams, dropout: f64, dice: &mut Dice) -> [Vec<u32>; 3] {
    let limit = (dropout * u64::MAX as f64) as u64;
    let mut part = 0;
    grams.parts.clone().map(|rows| {
        part += 1;
        // Measures are few; leaving one out now and then is enough.
        let limit = if part == 3 { limit / 3 } else { limit };
        rows.into_iter().filter(|_| dice.next() >= limit).collect()
    })
}

/// Slope of the loss by each score.
fn gradient(scores: &[f32], one: &Seen, loss: &mut f64) -> [f32; WIDTH] {
    let most = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut powers = [0.0_f32; WIDTH];
    powers.iter_mut().zip(scores).for_each(|(power, score)| *power = (score - most).exp());
    let sum: f32 = powers.iter().sum();
    *loss -= f64::from((powers[one.class] / sum).max(1e-9).ln());
    let mut slopes = [0.0; WIDTH];
    for (class, slope) in slopes.iter_mut().enumerate().take(scores.len()) {
        *slope = one.weight * (powers[class] / sum - f32::from(u8::from(class == one.class)));
    }
    slopes
}

/// Eight bits a weight, with a unit for each part and family.
fn packed(table: &[[f32; WIDTH]], bias: [f32; WIDTH]) -> Weights {
    let families = classes();
    let mut scale = [[0.0_f32; WIDTH]; 3];
    let part_of = |row: usize| usize::from(row >= ROWS[0]) + usize::from(row >= ROWS[0] + ROWS[1]);
    for (row, weights) in table.iter().enumerate() {
        let most = &mut scale[part_of(row)];
        most.iter_mut().zip(weights).for_each(|(most, weight)| *most = most.max(weight.abs() / 127.0));
    }
    let round = |(row, weights): (usize, &[f32; WIDTH])| {
        let mut out = [0_i8; WIDTH];
        for (class, weight) in weights.iter().enumerate() {
            let unit = scale[part_of(row)][class];
            out[class] = if unit > 0.0 { (weight / unit).round() as i8 } else { 0 };
        }
        out
    };
    Weights { families, bias, scale, temperature: 1.0, floor: 0.0, rows: table.iter().enumerate().map(round).collect() }
}
