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

/// What a forward predicts: of each lane a row for each token that it wanted to know about.
#[derive(Debug, Default)]
pub(crate) struct Predictions {
    vocab: usize,
    /// `[rows, vocab]`, of those lanes that wanted logits. Longer than that where an earlier forward had more.
    logits: Vec<f32>,
    /// Token and probability; `None` where logits are not numbers.
    likeliest: Vec<Option<Top1>>,
    /// Which rows of either are a lane's.
    lanes: Vec<LaneRows>,
}

#[derive(Debug, Clone)]
struct LaneRows {
    logits: Range<usize>,
    likeliest: Range<usize>,
}

impl Predictions {
    /// Room for what these lanes want.
    pub(crate) fn make_room(&mut self, lanes: &[Lane<'_>], vocab: usize) {
        let (mut logits, mut likeliest) = (0, 0);
        self.lanes.clear();
        for lane in lanes {
            let rows = lane.rows().count();
            let (logits_from, likeliest_from) = (logits, likeliest);
            match lane.wanted {
                Wanted::All | Wanted::Logits(_) => logits += rows,
                Wanted::Likeliest { .. } => likeliest += rows,
            }
            self.lanes.push(LaneRows { logits: logits_from..logits, likeliest: likeliest_from..likeliest });
        }
        self.vocab = vocab;
        room(&mut self.logits, logits * vocab);
        self.likeliest.clear();
        self.likeliest.resize(likeliest, None);
    }

    /// How many lanes' they are.
    pub(crate) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// A lane's logits, `[rows, vocab]`, or the likeliest token of each row, whichever it wanted.
    pub(crate) fn of_lane(&mut self, lane: usize) -> (&mut [f32], &mut [Option<Top1>]) {
        self.of_lanes(lane..lane + 1)
    }

    /// Those of lanes side by side that wanted the same.
    fn of_lanes(&mut self, lanes: Range<usize>) -> (&mut [f32], &mut [Option<Top1>]) {
        let Some([first, .., last] | [first @ last]) = self.lanes.get(lanes) else { return Default::default() };
        let logits = first.logits.start * self.vocab..last.logits.end * self.vocab;
        let likeliest = first.likeliest.start..last.likeliest.end;
        (self.logits.get_mut(logits).unwrap_or_default(), self.likeliest.get_mut(likeliest).unwrap_or_default())
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
    pub(crate) fn predict(&self, lanes: &[Lane<'_>], scratch: &mut Scratch) -> Result<Predictions, KernelError> {
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
        let mut all = std::mem::take(&mut scratch.spare);
        all.make_room(lanes, self.matrix.n());
        let (mut first_lane, mut first) = (0, 0);
        for lanes in lanes.chunk_by(|one, next| one.wanted.is_like(next.wanted)) {
            let rows = first..first + lanes.iter().map(|lane| lane.rows().count()).sum::<usize>();
            let (logits, likeliest) = all.of_lanes(first_lane..first_lane + lanes.len());
            (first_lane, first) = (first_lane + lanes.len(), rows.end);
            match lanes.first().map(|lane| lane.wanted) {
                Some(Wanted::All | Wanted::Logits(_)) => self.logits(rows, scratch, logits)?,
                Some(Wanted::Likeliest { never, .. }) => self.likeliest(rows, never, scratch, likeliest)?,
                None => {}
            }
        }
        Ok(all)
    }

    /// The logits of these rows of `scratch.normed`.
    fn logits(&self, rows: Range<usize>, scratch: &mut Scratch, logits: &mut [f32]) -> Result<(), KernelError> {
        let (hidden, vocab, products) = (self.norm.len(), self.matrix.n(), self.compute.products);
        let Scratch { normed, inputs, .. } = scratch;
        let (normed, count) = (part(normed, rows.clone(), hidden), rows.len());
        match self.matrix {
            Matrix::Packed(head) if !self.matrix.is_small() => {
                products.fill_for(inputs, normed, count, head)?;
                products.linear(inputs, head, logits)
            }
            head => products.rows(count, hidden * vocab, [(logits, vocab)], |rows, [logits], memory| {
                let count = rows.len();
                self.compute.alone(part(normed, rows, hidden), count, &mut memory.alone, [(head, logits)])
            }),
        }
    }

    /// The likeliest token of each of these rows of `scratch.normed`.
    fn likeliest(
        &self,
        rows: Range<usize>,
        never: &[u32],
        scratch: &mut Scratch,
        likeliest: &mut [Option<Top1>],
    ) -> Result<(), KernelError> {
        let (hidden, vocab, products) = (self.norm.len(), self.matrix.n(), self.compute.products);
        let Scratch { normed, inputs, logits, best, seen, .. } = scratch;
        let (normed, count) = (part(normed, rows.clone(), hidden), rows.len());
        match self.matrix {
            Matrix::Packed(head) if !self.matrix.is_small() => {
                products.fill_for(inputs, normed, count, head)?;
                products.top1(self.compute.kernels, inputs, head, never, seen, likeliest)
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
                        let top = self::likeliest(self.compute.kernels, row, never);
                        *best = top.map_or([0.0, f32::NAN], |top| [top.index as f32, top.probability]);
                    }
                    Ok(())
                })?;
                for (place, [index, probability]) in likeliest.iter_mut().zip(best.as_chunks::<2>().0) {
                    let top = Top1 { index: *index as usize, probability: *probability };
                    *place = Some(top).filter(|top| !top.probability.is_nan());
                }
                Ok(())
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
