//! A straight line through what was seen lately: least squares over a few inputs, old sightings fading, drawn towards
//! a prior until enough was seen. Pure arithmetic; must never give a negative or infinite number, whatever it was
//! fed.

use serde::{Deserialize, Serialize};

/// Sightings the prior of each coefficient is worth.
const PRIOR_WORTH: f64 = 2.0;
/// Most inputs.
const INPUTS: usize = 3;

/// Sums over what was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    squares: Vec<Vec<f64>>,
    products: Vec<f64>,
    weight: f64,
}

impl Line {
    /// Of so many inputs, [`INPUTS`] at most.
    pub(super) fn new(inputs: usize) -> Self {
        Line { squares: vec![vec![0.0; inputs]; inputs], products: vec![0.0; inputs], weight: 0.0 }
    }

    /// Whether its sums belong together: what was read from a file may be anything.
    pub(super) fn is_sound(&self, inputs: usize) -> bool {
        let all = self.squares.iter().flatten().chain(&self.products).chain([&self.weight]);
        self.squares.len() == inputs
            && self.squares.iter().all(|row| row.len() == inputs)
            && self.products.len() == inputs
            && all.into_iter().all(|number| number.is_finite())
            && self.weight >= 0.0
    }

    /// What was seen counts only so much from now on.
    pub(super) fn fade(&mut self, share: f64) {
        self.squares.iter_mut().flatten().chain(&mut self.products).for_each(|sum| *sum *= share);
        self.weight *= share;
    }

    /// `y` was seen at `x`.
    pub(super) fn seen(&mut self, x: &[f64], y: f64) {
        if !y.is_finite() || !x.iter().all(|input| input.is_finite()) {
            return;
        }
        for (row, one) in self.squares.iter_mut().zip(x) {
            row.iter_mut().zip(x).for_each(|(sum, other)| *sum += one * other);
        }
        self.products.iter_mut().zip(x).for_each(|(sum, one)| *sum += one * y);
        self.weight += 1.0;
    }

    /// Sightings that still count.
    pub(super) fn weight(&self) -> f64 {
        self.weight
    }

    /// The line's value at `x`, at least 0.
    pub(super) fn at(&self, x: &[f64], prior: &[f64]) -> f64 {
        let value: f64 = self.slopes(prior).iter().zip(x).map(|(slope, input)| slope * input).sum();
        if value.is_finite() { value.max(0.0) } else { 0.0 }
    }

    /// Its coefficients, none below 0: more work never takes less time. One that comes out negative is taken to be 0
    /// and the others are fitted without it.
    pub(super) fn slopes(&self, prior: &[f64]) -> [f64; INPUTS] {
        let mut out = [0.0; INPUTS];
        let all: [usize; INPUTS] = std::array::from_fn(|at| at);
        let (mut kept, mut count) = (all, prior.len().min(INPUTS));
        while count > 0 {
            let solved = self.solve(&kept[..count], prior);
            let lowest = (0..count).filter(|at| solved[*at] < 0.0).min_by(|a, b| solved[*a].total_cmp(&solved[*b]));
            match lowest {
                Some(at) => {
                    kept.copy_within(at + 1..count, at);
                    count -= 1;
                }
                None => {
                    kept.iter().take(count).zip(solved).for_each(|(at, slope)| out[*at] = slope);
                    break;
                }
            }
        }
        out
    }

    fn solve(&self, kept: &[usize], prior: &[f64]) -> [f64; INPUTS] {
        // Worth so many of the sightings there are; of an input that was never seen, the prior is all there is.
        let pull = |at: usize| {
            let own = self.squares[at][at];
            if own > 0.0 { PRIOR_WORTH * own / self.weight.max(1.0) } else { 1.0 }
        };
        let mut rows = [Row::default(); INPUTS];
        for (place, (row, at)) in rows.iter_mut().zip(kept).enumerate() {
            row.left.iter_mut().zip(kept).for_each(|(factor, other)| *factor = self.squares[*at][*other]);
            row.left[place] += pull(*at);
            row.right = self.products[*at] + pull(*at) * prior[*at];
        }
        eliminate(&mut rows[..kept.len()])
    }
}

/// An equation.
#[derive(Clone, Copy, Default)]
struct Row {
    left: [f64; INPUTS],
    right: f64,
}

/// Gauss with the largest pivot; the pull of the priors keeps every pivot above 0.
fn eliminate(rows: &mut [Row]) -> [f64; INPUTS] {
    let count = rows.len();
    for at in 0..count {
        let size = |row: usize| rows[row].left[at].abs();
        let best = (at..count).max_by(|a, b| size(*a).total_cmp(&size(*b))).unwrap_or(at);
        rows.swap(at, best);
        let pivot = rows[at];
        for row in &mut rows[at + 1..] {
            let share = row.left[at] / pivot.left[at];
            row.left.iter_mut().zip(pivot.left).for_each(|(number, above)| *number -= share * above);
            row.right -= share * pivot.right;
        }
    }
    let mut solved = [0.0; INPUTS];
    for at in (0..count).rev() {
        let known: f64 = (at + 1..count).map(|other| rows[at].left[other] * solved[other]).sum();
        let value = (rows[at].right - known) / rows[at].left[at];
        solved[at] = if value.is_finite() { value } else { 0.0 };
    }
    solved
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIOR: [f64; 3] = [0.05, 0.2, 0.01];

    #[test]
    fn it_begins_at_the_prior_and_ends_at_the_truth() {
        let mut line = Line::new(3);
        assert!((line.at(&[1.0, 2.0, 0.0], &PRIOR) - 0.45).abs() < 1e-9);
        for at in 0..200_u32 {
            let x = [1.0, f64::from(at % 7), f64::from(at % 3)];
            line.seen(&x, 0.5 * x[0] + 0.03 * x[1] + 0.2 * x[2]);
        }
        for x in [[1.0, 1.0, 0.0], [1.0, 6.0, 2.0], [1.0, 3.0, 1.0]] {
            let truth = 0.5 + 0.03 * x[1] + 0.2 * x[2];
            assert!((line.at(&x, &PRIOR) / truth - 1.0).abs() < 0.05, "{x:?}: {} for {truth}", line.at(&x, &PRIOR));
        }
    }

    #[test]
    fn what_changed_is_learnt_again() {
        let mut line = Line::new(1);
        for _ in 0..100 {
            line.seen(&[1.0], 0.1);
        }
        for _ in 0..50 {
            line.fade(0.9);
            line.seen(&[1.0], 1.0);
        }
        let now = line.at(&[1.0], &[0.1]);
        assert!((0.5..=1.0).contains(&now), "{now}");
    }

    #[test]
    fn no_slope_is_negative_and_nothing_is_infinite() {
        let mut line = Line::new(3);
        for at in 0..50_u32 {
            line.seen(&[1.0, f64::from(at), 0.0], 10.0 - 0.1 * f64::from(at));
        }
        assert!(line.slopes(&PRIOR).iter().all(|slope| *slope >= 0.0));
        line.seen(&[f64::NAN, 1.0, 1.0], 1.0);
        line.seen(&[1.0, 1e300, 1.0], 0.0);
        assert!(line.at(&[1.0, 1e300, 1e300], &PRIOR).is_finite());
    }
}
