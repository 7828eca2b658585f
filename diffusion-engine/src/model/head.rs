//! The last step of a forward: final norm and vocabulary, for the rows somebody wants and no others. Where only the
//! likeliest token counts, logits are not kept. Must never know what a token is chosen for.

use weir_kernels::packed::PackedWeights;
use weir_kernels::{KernelError, Top1};

use super::clock::Work;
use super::forward::Lane;
use super::matrix::{Matrix, room};
use super::scratch::Scratch;
use super::weights::Model;

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

impl Model {
    /// Final norm and head for the rows each lane wants.
    pub(super) fn head(&self, lanes: &[Lane<'_>], scratch: &mut Scratch) -> Result<Vec<Predictions>, KernelError> {
        let hidden = self.config.hidden;
        let mut first = 0;
        let mut all = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let Scratch { x, normed, gathered, .. } = &mut *scratch;
            let count = lane.rows().count();
            let gathered = room(gathered, count * hidden);
            for (row, place) in lane.rows().zip(gathered.chunks_exact_mut(hidden)) {
                let at = (first + row) * hidden;
                let wrong = KernelError { what: "wanted row", expected: lane.tokens.len(), got: row };
                let from = x.get(at..at + hidden).filter(|_| row < lane.tokens.len()).ok_or(wrong)?;
                place.copy_from_slice(from);
            }
            first += lane.tokens.len();
            let normed = room(normed, count * hidden);
            self.compute.kernels.rms_norm(gathered, &self.norm, self.config.norm_eps, normed)?;
            if count > 0 {
                scratch.clock.count(Work::Head, &self.head, count);
            }
            all.push(match lane.wanted {
                Wanted::All | Wanted::Logits(_) => {
                    let mut logits = vec![0.0; count * self.config.vocab];
                    let Scratch { normed, inputs, .. } = &mut *scratch;
                    let normed = room(normed, count * hidden);
                    self.compute.linear(normed, count, &self.head, inputs, &mut logits)?;
                    Predictions::Logits(logits)
                }
                Wanted::Likeliest { never, .. } => Predictions::Likeliest(self.likeliest(count, never, scratch)?),
            });
        }
        Ok(all)
    }

    /// The likeliest token of each of `count` rows of `scratch.normed`.
    fn likeliest(&self, count: usize, never: &[u32], scratch: &mut Scratch) -> Result<Vec<Option<Top1>>, KernelError> {
        match &self.head {
            Matrix::Packed(head) => self.packed_likeliest(head, count, never, scratch),
            Matrix::Exact(_) => {
                let Scratch { normed, inputs, logits, .. } = scratch;
                let vocab = self.config.vocab;
                let logits = room(logits, count * vocab);
                self.compute.linear(room(normed, count * self.config.hidden), count, &self.head, inputs, logits)?;
                Ok(logits.chunks_exact_mut(vocab).map(|row| likeliest(self.compute.kernels, row, never)).collect())
            }
        }
    }

    fn packed_likeliest(
        &self,
        head: &PackedWeights,
        count: usize,
        never: &[u32],
        scratch: &mut Scratch,
    ) -> Result<Vec<Option<Top1>>, KernelError> {
        let Scratch { normed, inputs, seen, .. } = scratch;
        let products = self.compute.products;
        products.fill_for(inputs, room(normed, count * self.config.hidden), count, head)?;
        let mut best = vec![None; count];
        products.top1(self.compute.kernels, inputs, head, never, seen, &mut best)?;
        Ok(best)
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
