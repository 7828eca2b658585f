//! A server's figures from measured answers: a straight line through the times of single answers, then what other
//! requests add. Must never use an answer of the runs it is compared with.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::figures::median;
use super::answers_of;
use super::asking::Answered;

/// As a scenario says it.
pub(super) struct Server {
    pub(super) name: String,
    pub(super) overhead_ms: f64,
    pub(super) prefill_ms_per_1k: f64,
    pub(super) forward_ms: f64,
    /// Of the logarithm of what an answer takes, beside what the line says.
    pub(super) spread: f64,
    /// What each other request adds to a forward.
    pub(super) slowdown: f64,
    /// What each request at the neighbour adds.
    pub(super) neighbour: f64,
}

impl Server {
    /// What an answer takes without others, forwards apart.
    fn parts(&self, one: &Answered) -> (f64, f64) {
        (self.overhead_ms + self.prefill_ms_per_1k * one.prompt_tokens / 1000.0, self.forward_ms * one.forwards)
    }

    /// How much longer than alone forwards must have taken, in the middle.
    fn slowed(&self, answers: &[&Answered]) -> f64 {
        let slowed = answers.iter().map(|one| {
            let (wait, forwards) = self.parts(one);
            (one.total_ms - wait) / forwards.max(f64::MIN_POSITIVE) - 1.0
        });
        median(slowed.collect())
    }

    pub(super) fn print(&self) {
        println!(
            "{:<10} overhead {:.2} ms, prefill {:.1} ms per 1000 tokens, forward {:.3} ms, spread {:.2}; each other \
             request adds {:.0} %, each of the neighbour's {:.0} %",
            self.name,
            self.overhead_ms,
            self.prefill_ms_per_1k,
            self.forward_ms,
            self.spread,
            self.slowdown * 100.0,
            self.neighbour * 100.0
        );
    }

    pub(super) fn json(&self) -> Value {
        json!({"name": self.name, "overhead_ms": self.overhead_ms, "prefill_ms_per_1k": self.prefill_ms_per_1k,
            "forward_ms": self.forward_ms, "spread": self.spread, "slowdown": self.slowdown,
            "neighbour": self.neighbour})
    }
}

/// `alone`: one caller; `crowd`: so many callers, all of this backend; `neighbours`: one caller of each backend.
pub(super) fn fitted(
    name: &str,
    alone: &[Answered],
    crowd: &[Answered],
    callers: usize,
    neighbours: &[Answered],
) -> Result<Server> {
    let alone = answers_of(name, alone)?;
    let mut kept = alone.clone();
    let mut line = [0.0; 3];
    // What another process of the machine held up says nothing about the engine: the second look is without it.
    for share in [0.95, 1.0] {
        line = plane(&kept);
        let miss = |one: &&Answered| (one.total_ms - at(&line, one)).abs();
        kept.sort_by(|a, b| miss(a).total_cmp(&miss(b)));
        kept.truncate(((kept.len() as f64 * share).ceil() as usize).max(1));
    }
    let missed: Vec<f64> = alone.iter().map(|one| (one.total_ms / at(&line, one).max(0.01)).ln()).collect();
    let mean = missed.iter().sum::<f64>() / missed.len().max(1) as f64;
    let variance = missed.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / missed.len().max(1) as f64;
    let mut server = Server {
        name: name.to_owned(),
        overhead_ms: line[0],
        prefill_ms_per_1k: line[1],
        forward_ms: line[2],
        spread: variance.sqrt().min(1.0),
        slowdown: 0.0,
        neighbour: 0.0,
    };
    let others = callers.saturating_sub(1).max(1) as f64;
    server.slowdown = (server.slowed(&answers_of(name, crowd)?) / others).max(0.0);
    server.neighbour = server.slowed(&answers_of(name, neighbours)?).max(0.0);
    Ok(server)
}

fn at(line: &[f64; 3], one: &Answered) -> f64 {
    line[0] + line[1] * one.prompt_tokens / 1000.0 + line[2] * one.forwards
}

/// Least squares over one, thousands of prompt tokens, forwards. None of them below nothing.
fn plane(answers: &[&Answered]) -> [f64; 3] {
    // Where each token is shown as it comes, the time between tokens is the forward's: nothing has to be guessed, and
    // answers of equal length could not tell it from the overhead.
    let shown: Vec<f64> = answers
        .iter()
        .filter(|one| one.forwards == one.output_tokens && one.forwards > 2.0)
        .map(|one| (one.total_ms - one.ttft_ms) / (one.forwards - 1.0))
        .collect();
    let forward = (shown.len() * 2 > answers.len()).then(|| median(shown).max(1e-3));
    let mut used = [true, true, forward.is_none()];
    loop {
        let line = solved(answers, used, forward.unwrap_or(0.0));
        match (0..3).find(|input| used[*input] && line[*input] < -1e-9) {
            Some(input) => used[input] = false,
            // A server without a forward is none.
            None => return [line[0].max(0.0), line[1].max(0.0), forward.unwrap_or(line[2].max(1e-3))],
        }
    }
}

fn solved(answers: &[&Answered], used: [bool; 3], known: f64) -> [f64; 3] {
    let mut rows = [[0.0; 4]; 3];
    for one in answers {
        let x = [1.0, one.prompt_tokens / 1000.0, one.forwards];
        for (row, left) in rows.iter_mut().zip(x) {
            row.iter_mut().zip(x).for_each(|(sum, right)| *sum += left * right);
            row[3] += left * (one.total_ms - known * one.forwards);
        }
    }
    for (input, used) in used.into_iter().enumerate() {
        // A little keeps inputs that never vary from being anything; one that is not used is nothing.
        rows[input][input] += if used { 1e-6 } else { 1e12 };
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
