//! The confidence head: the likeliest token of each row and its probability, without keeping the logits. Strips of the
//! vocabulary are shared out; each part keeps a running maximum and sum per row (as attention does), and the parts are
//! merged in their order. Must never be used where a rule changes logits first.

use crate::error::{KernelError, expect};
use crate::kernels::{Kernels, Top1, first};

use super::format::STRIP;
use super::inputs::Inputs;
use super::matrix::PackedWeights;
use super::product::{Products, check};
use super::shared::Shared;

/// What one part has seen of one row.
#[derive(Debug, Clone, Copy)]
struct Seen {
    max: f32,
    index: u32,
    /// Σ e^(logit - max).
    sum: f32,
}

const NOTHING: Seen = Seen { max: f32::NEG_INFINITY, index: 0, sum: 0.0 };

impl Seen {
    /// Takes in what comes later in the vocabulary; of equals the earlier index stays.
    fn join(self, later: Seen) -> Seen {
        let (best, other) = if later.max > self.max { (later, self) } else { (self, later) };
        let shrink = if other.sum == 0.0 { 0.0 } else { (other.max - best.max).exp() };
        Seen { sum: best.sum + other.sum * shrink, ..best }
    }
}

/// Memory that is kept from step to step.
#[derive(Debug, Default)]
pub struct HeadScratch {
    seen: Vec<Seen>,
}

/// Parts the vocabulary is cut in: fixed, so that a result does not depend on the number of threads.
const PARTS: usize = 64;

/// Strips whose logits are made before they are looked at: 16 KB for 16 rows.
const TOGETHER: usize = 16;

impl Products<'_> {
    /// The likeliest output of each row of `x` and its softmax probability over all outputs of `w`, but for those in
    /// `never` (ascending), whose logits count as -inf. `None` for a row whose logits are not numbers.
    ///
    /// # Errors
    /// When `x` was filled for other weights, or `best` has not one place for each row.
    pub fn top1(
        &self,
        kernels: &Kernels,
        x: &Inputs,
        w: &PackedWeights,
        never: &[u32],
        scratch: &mut HeadScratch,
        best: &mut [Option<Top1>],
    ) -> Result<(), KernelError> {
        check(x, w)?;
        let (rows, n, strips) = (x.rows(), w.n(), w.strips());
        expect("best", Some(rows), best.len())?;
        let parts = PARTS.min(strips.div_ceil(TOGETHER)).max(1);
        scratch.seen.clear();
        scratch.seen.resize(parts * rows, NOTHING);
        let seen = Shared::new(&mut scratch.seen);
        let view = x.view();
        self.team.run(parts, |part, own| {
            // SAFETY: each part writes its own rows.
            let seen = unsafe { seen.part(part * rows, rows) };
            let (begin, end) = (strips * part / parts, strips * (part + 1) / parts);
            let after = own.next_start(strips, parts);
            let logits = own.floats(rows * STRIP * TOGETHER);
            for first in (begin..end).step_by(TOGETHER) {
                let count = TOGETHER.min(end - first);
                let width = (count * STRIP).min(n - first * STRIP);
                for at in 0..count {
                    let strip = first + at;
                    let out = logits.as_mut_ptr().wrapping_add(at * STRIP);
                    // SAFETY: the inputs are checked above; a row takes 16 strips.
                    unsafe {
                        let next = w.strip(if strip + 1 == end { after } else { strip + 1 });
                        self.kernels.strip_of(w, strip, &view, next, (out, STRIP * TOGETHER));
                    }
                }
                let base = first * STRIP;
                for (seen, logits) in seen.iter_mut().zip(logits.chunks_exact_mut(STRIP * TOGETHER)) {
                    let logits = logits.get_mut(..width).unwrap_or_default();
                    let from = never.partition_point(|token| (*token as usize) < base);
                    for token in never.iter().skip(from).map(|token| *token as usize - base) {
                        match logits.get_mut(token) {
                            Some(logit) => *logit = f32::NEG_INFINITY,
                            None => break,
                        }
                    }
                    *seen = seen.join(look(kernels, logits, base));
                }
            }
        });
        for (row, best) in best.iter_mut().enumerate() {
            let all = scratch.seen.iter().skip(row).step_by(rows.max(1)).fold(NOTHING, |all, part| all.join(*part));
            let valid = all.max.is_finite() && all.sum.is_finite();
            *best = valid.then(|| Top1 { index: all.index as usize, probability: 1.0 / all.sum });
        }
        Ok(())
    }
}

/// One row's piece of logits, the first being about output `base`. Where one is NaN, or infinite, so is the sum.
fn look(kernels: &Kernels, logits: &[f32], base: usize) -> Seen {
    match kernels.max_and_sum(logits) {
        // Every logit is -inf: nothing that could be chosen.
        Some((max, _)) if max == f32::NEG_INFINITY && logits.iter().all(|logit| *logit == max) => NOTHING,
        Some((max, sum)) => {
            let index = first(logits, max).unwrap_or(0);
            Seen { max, index: (base + index) as u32, sum: if max.is_finite() { sum } else { f32::NAN } }
        }
        None => NOTHING,
    }
}
