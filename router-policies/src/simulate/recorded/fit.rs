//! A server's figures from recorded answers: what an answer takes undisturbed is a straight line over one, thousands of
//! prompt tokens and forwards; what a line cannot say is kept as factors. Must never make up a figure for a family that
//! was not seen.

use std::collections::BTreeMap;

use crate::classify::Family;
use crate::facts::BackendRole;
use crate::simulate::fleet::first_steps;
use crate::simulate::servers::ANY;

/// Answers of a family without which it has no factors of its own.
const OWN: usize = 20;
/// Points of a distribution of factors.
const POINTS: usize = 41;
/// Of what fits worst, the share that the second look leaves out: what something else on the machine held up.
const WILD: f64 = 0.05;
/// Misses beyond this logarithm of a factor say no more than one of it.
const FAR: f64 = 1.5;

/// An answer, undisturbed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) family: Family,
    pub(super) ttft_ms: f64,
    pub(super) total_ms: f64,
    /// Thousands of prompt tokens that were read.
    pub(super) read: f64,
    pub(super) output_tokens: f64,
    /// Denoise steps, or tokens of an AR answer.
    pub(super) forwards: f64,
    /// Others that came at about the same time.
    pub(super) beside: f64,
}

/// Milliseconds: at once, for a thousand prompt tokens, for a forward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line(pub(super) [f64; 3]);

impl Line {
    fn at(&self, inputs: [f64; 3]) -> f64 {
        self.0.iter().zip(inputs).map(|(figure, input)| figure * input).sum::<f64>().max(1e-3)
    }

    /// The line through answers of a backend, in relative distance.
    pub(super) fn through(rows: &[Row], role: BackendRole) -> Line {
        let mut points: Vec<([f64; 3], f64)> = rows.iter().flat_map(|row| points(row, role)).collect();
        let line = lightest(&points);
        points.sort_by(|a, b| line.miss(a).abs().total_cmp(&line.miss(b).abs()));
        points.truncate((points.len() as f64 * (1.0 - WILD)).ceil() as usize);
        lightest(&points)
    }

    /// The logarithm of what it took over what the line says.
    fn miss(&self, (inputs, took): &([f64; 3], f64)) -> f64 {
        (took.max(1e-3) / self.at(*inputs)).ln()
    }

    /// How the logarithms of what ends took over what the line says go with how much came beside, and in how many answers.
    pub(super) fn leans(&self, rows: &[Row]) -> Leaning {
        let mut leaning = Leaning::default();
        for row in rows {
            let miss = self.factor(row).ln().clamp(-FAR, FAR);
            leaning.saw(row.beside, miss);
        }
        leaning
    }

    /// What an answer took over what the line says of its end.
    pub(super) fn factor(&self, row: &Row) -> f64 {
        row.total_ms.max(1e-3) / self.at([1.0, row.read, row.forwards])
    }

    /// The same of all, ascending, by family.
    pub(super) fn factors(&self, rows: &[Row]) -> BTreeMap<String, Vec<f64>> {
        let mut by: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for row in rows {
            let factor = self.factor(row);
            for word in [ANY, row.family.as_str()] {
                by.entry(word.to_owned()).or_default().push(factor);
            }
        }
        by.retain(|word, factors| word == ANY || factors.len() >= OWN);
        by.values_mut().for_each(thinned);
        by
    }
}

/// Sums from which it is told whether one thing goes with another, each within its backend.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leaning {
    count: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Leaning {
    fn saw(&mut self, x: f64, y: f64) {
        self.count += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    /// Standard errors by which the second rises with the first, over several backends.
    pub(super) fn together(all: &[Leaning]) -> f64 {
        let sum = |of: fn(&Leaning) -> f64| all.iter().filter(|one| one.count > 0.0).map(of).sum::<f64>();
        let within = sum(|one| one.xy - one.x * one.y / one.count);
        let (xx, yy) = (sum(|one| one.xx - one.x * one.x / one.count), sum(|one| one.yy - one.y * one.y / one.count));
        let scale = (xx * yy).sqrt();
        if scale > 1e-12 { within / scale * sum(|one| one.count).sqrt() } else { 0.0 }
    }
}

fn points(row: &Row, role: BackendRole) -> [([f64; 3], f64); 2] {
    let first = first_steps(role, row.output_tokens, row.forwards);
    [([1.0, row.read, first], row.ttft_ms), ([1.0, row.read, row.forwards], row.total_ms)]
}

/// The points at equal steps of a distribution.
fn thinned(values: &mut Vec<f64>) {
    values.sort_by(f64::total_cmp);
    if values.len() > POINTS {
        let last = (values.len() - 1) as f64;
        let at = |point: usize| values[(last * point as f64 / (POINTS - 1) as f64).round() as usize];
        *values = (0..POINTS).map(at).collect();
    }
    // Four digits are more than was measured.
    values.iter_mut().for_each(|value| *value = (*value * 1e4).round().max(1.0) / 1e4);
}

/// Least squares of relative distances, no figure below nothing.
fn lightest(points: &[([f64; 3], f64)]) -> Line {
    let mut used = [true; 3];
    loop {
        let line = solved(points, used);
        match (0..3).find(|input| used[*input] && line[*input] < 0.0) {
            Some(input) => used[input] = false,
            // A server without a forward is none.
            None => return Line([line[0].max(0.0), line[1].max(0.0), line[2].max(1e-3)]),
        }
    }
}

fn solved(points: &[([f64; 3], f64)], used: [bool; 3]) -> [f64; 3] {
    let mut rows = [[0.0; 4]; 3];
    for (inputs, took) in points {
        let weight = 1.0 / took.max(1e-3).powi(2);
        for (row, left) in rows.iter_mut().zip(inputs) {
            row.iter_mut().zip(inputs).for_each(|(sum, right)| *sum += weight * left * right);
            row[3] += weight * left * took;
        }
    }
    for (input, used) in used.into_iter().enumerate() {
        // A little keeps inputs that never vary from being anything; one that is not used is nothing.
        rows[input][input] += if used { 1e-9 * (1.0 + rows[input][input]) } else { 1e12 * (1.0 + rows[input][input]) };
    }
    for pivot in 0..3 {
        for other in 0..3 {
            if other != pivot {
                let share = rows[other][pivot] / rows[pivot][pivot];
                let taken = rows[pivot];
                rows[other].iter_mut().zip(taken).for_each(|(value, taken)| *value -= share * taken);
            }
        }
    }
    [0, 1, 2].map(|input| rows[input][3] / rows[input][input])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again_through_wild_answers() {
        let row = |at: usize| {
            let (read, tokens) = ((at % 7) as f64 * 0.3, 4.0 + (at % 11) as f64);
            let late = if at.is_multiple_of(31) { 9.0 } else { 1.0 };
            let begin = 5.0 + 20.0 * read;
            let (ttft_ms, total_ms) = ((begin + 2.0) * late, (begin + 2.0 * tokens) * late);
            Row { family: Family::Chat, ttft_ms, total_ms, read, output_tokens: tokens, forwards: tokens, beside: 0.0 }
        };
        let rows: Vec<Row> = (0..310).map(row).collect();
        let Line([overhead, prefill, forward]) = Line::through(&rows, BackendRole::Ar);
        assert!((overhead - 5.0).abs() < 0.2 && (prefill - 20.0).abs() < 0.5, "{overhead} {prefill}");
        assert!((forward - 2.0).abs() < 0.05, "{forward}");
        let factors = Line::through(&rows, BackendRole::Ar).factors(&rows);
        let (chat, any) = (&factors["chat"], &factors[ANY]);
        assert_eq!((chat, chat.len()), (any, POINTS));
        assert!((chat[20] - 1.0).abs() < 0.05 && (chat[40] - 9.0).abs() < 0.5, "{chat:?}");
    }
}
