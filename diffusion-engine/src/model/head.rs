//! The last step of a forward: final norm and vocabulary, for the rows somebody wants and no others. Where only the
//! likeliest token counts, logits are not kept. Must never know what a token is chosen for.

use std::ops::Range;

use weir_kernels::{KernelError, Top1};

use super::clock::Work;
use super::forward::{Lane, part};
use super::matrix::{Compute, Matrix, room};
use super::scratch::Scratch;

/// What a lane wants to know about its tokens from `logits_from` on. Rows count from there, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    /// Logits of all of them.
    All,
    /// Logits of these.
    Logits(&'a [usize]),
    /// The likeliest token of these, but for those in `never` (ascending).
    Likeliest { rows: &'a [usize], never: &'a [u32] },
}

impl Wanted<'_> {
    /// Whether one product serves both.
    fn is_like(self, other: Wanted<'_>) -> bool {
        match (self, other) {
            (Wanted::Likeliest { never, .. }, Wanted::Likeliest { never: others, .. }) => never == others,
            (Wanted::Likeliest { .. }, _) | (_, Wanted::Likeliest { .. }) => false,
            _ => true,
        }
    }
}

/// What a lane gets, a row for each it wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Predictions {
    /// `[rows, vocab]`.
    Logits(Vec<f32>),
    /// Token and probability; `None` where logits are not numbers.
    Likeliest(Vec<Option<Top1>>),
}

impl Predictions {
    /// The logits; none where none were wanted.
    pub(crate) fn logits(self) -> Vec<f32> {
        match self {
            Predictions::Logits(logits) => logits,
            Predictions::Likeliest(_) => Vec::new(),
        }
    }
}

impl Lane<'_> {
    /// The tokens whose predictions are wanted, by index among the lane's.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> {
        let from = self.logits_from.min(self.tokens.len());
        let (all, some): (_, &[usize]) = match self.wanted {
            Wanted::All => (from..self.tokens.len(), &[]),
            Wanted::Logits(rows) | Wanted::Likeliest { rows, .. } => (0..0, rows),
        };
        all.chain(some.iter().map(move |row| from + row))
    }
}

/// A model's final norm and vocabulary.
pub(crate) struct Head<'a> {
    pub(crate) compute: &'a Compute,
    pub(crate) norm: &'a [f32],
    pub(crate) eps: f32,
    /// `[vocab, hidden]`.
    pub(crate) matrix: &'a Matrix,
}

impl Head<'_> {
    /// Final norm and head for the wanted rows, `scratch.x[rows, hidden]`. Requests side by side that want the same share
    /// one product.
    pub(crate) fn predict(&self, lanes: &[Lane<'_>], scratch: &mut Scratch) -> Result<Vec<Predictions>, KernelError> {
        let (hidden, products) = (self.norm.len(), self.compute.products);
        let Scratch { x, normed, batch, clock, .. } = &mut *scratch;
        let count = batch.rows();
        let (x, normed) = (&*room(x, count * hidden), room(normed, count * hidden));
        products.rows(count, 4 * hidden, [(normed, hidden)], |rows, [normed], _| {
            self.compute.kernels.rms_norm(part(x, rows, hidden), self.norm, self.eps, normed)
        })?;
        if count > 0 {
            clock.count(Work::Head, self.matrix, count);
        }
        let mut all = Vec::with_capacity(lanes.len());
        let mut first = 0;
        for lanes in lanes.chunk_by(|one, next| one.wanted.is_like(next.wanted)) {
            let counts = lanes.iter().map(|lane| lane.rows().count());
            let rows = first..first + counts.clone().sum::<usize>();
            first = rows.end;
            match lanes.first().map(|lane| lane.wanted) {
                Some(Wanted::All | Wanted::Logits(_)) => self.logits(rows, counts, scratch, &mut all)?,
                Some(Wanted::Likeliest { never, .. }) => {
                    let mut best = self.likeliest(rows, never, scratch)?.into_iter();
                    all.extend(counts.map(|count| Predictions::Likeliest(best.by_ref().take(count).collect())));
                }
                None => {}
            }
        }
        Ok(all)
    }

    /// The logits of these rows of `scratch.normed`, `counts` of them for each lane.
    fn logits(
        &self,
        rows: Range<usize>,
        counts: impl Iterator<Item = usize>,
        scratch: &mut Scratch,
        all: &mut Vec<Predictions>,
    ) -> Result<(), KernelError> {
        let (hidden, vocab, products) = (self.norm.len(), self.matrix.n(), self.compute.products);
        let Scratch { normed, inputs, spare, .. } = scratch;
        let normed = part(normed, rows.clone(), hidden);
        let mut logits: Vec<Vec<f32>> = counts
            .map(|count| {
                let mut logits = spare.pop().unwrap_or_default();
                logits.resize(count * vocab, 0.0);
                logits
            })
            .collect();
        match self.matrix {
            Matrix::Packed(head) if !self.matrix.is_small() => {
                products.fill_for(inputs, normed, rows.len(), head)?;
                let places = logits.iter_mut().flat_map(|logits| logits.chunks_exact_mut(vocab.max(1)));
                products.linear_rows(inputs, head, &mut places.collect::<Vec<_>>())?;
            }
            head => {
                let mut first = 0;
                for logits in &mut logits {
                    let count = logits.len() / vocab.max(1);
                    let normed = part(normed, first..first + count, hidden);
                    products.rows(count, hidden * vocab, [(logits, vocab)], |rows, [logits], memory| {
                        let count = rows.len();
                        self.compute.alone(part(normed, rows, hidden), count, &mut memory.alone, [(head, logits)])
                    })?;
                    first += count;
                }
            }
        }
        all.extend(logits.into_iter().map(Predictions::Logits));
        Ok(())
    }

    /// The likeliest token of each of these rows of `scratch.normed`.
    fn likeliest(
        &self,
        rows: Range<usize>,
        never: &[u32],
        scratch: &mut Scratch,
    ) -> Result<Vec<Option<Top1>>, KernelError> {
        let (hidden, vocab, products) = (self.norm.len(), self.matrix.n(), self.compute.products);
        let Scratch { normed, inputs, logits, best, seen, .. } = scratch;
        let (normed, count) = (part(normed, rows.clone(), hidden), rows.len());
        match self.matrix {
            Matrix::Packed(head) if !self.matrix.is_small() => {
                products.fill_for(inputs, normed, count, head)?;
                let mut best = vec![None; count];
                products.top1(self.compute.kernels, inputs, head, never, seen, &mut best)?;
                Ok(best)
            }
            head => {
                let (logits, best) = (room(logits, count * vocab), room(best, count * 2));
                let outputs = [(logits, vocab), (&mut *best, 2)];
                products.rows(count, hidden * vocab, outputs, |rows, [logits, best], memory| {
                    let count = rows.len();
                    let normed = part(normed, rows, hidden);
                    self.compute.alone(normed, count, &mut memory.alone, [(head, &mut *logits)])?;
                    let rows = logits.chunks_exact_mut(vocab.max(1));
                    for (row, best) in rows.zip(best.as_chunks_mut().0) {
                        // An index into a vocabulary is small enough to be exact.
                        let top = likeliest(self.compute.kernels, row, never);
                        *best = top.map_or([0.0, f32::NAN], |top| [top.index as f32, top.probability]);
                    }
                    Ok(())
                })?;
                let best = best.as_chunks::<2>().0.iter();
                let top = |[index, probability]: &[f32; 2]| Top1 { index: *index as usize, probability: *probability };
                Ok(best.map(|best| Some(top(best)).filter(|top| !top.probability.is_nan())).collect())
            }
        }
    }
}

/// The likeliest token of a row, in which those in `never` are set to -inf.
pub(crate) fn likeliest(kernels: &weir_kernels::Kernels, row: &mut [f32], never: &[u32]) -> Option<Top1> {
    for token in never {
        if let Some(logit) = row.get_mut(*token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
    kernels.top1(row)
}
