//! Where a forward's time goes, and what it read and multiplied, for those who measure. Reading a clock costs some
//! 30 ns, 200 times a forward. Must never influence a result.

use std::time::{Duration, Instant};

use super::matrix::Matrix;

/// Parts of a forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Query, key, value and output matrices.
    Projections,
    /// Scores and sums over K/V.
    Attention,
    /// Router and choice of experts.
    Router,
    /// Routed experts and the shared one.
    Experts,
    /// Dense feed-forward.
    Dense,
    /// Final norm and vocabulary.
    Head,
    /// Embeddings, norms, rope, K/V.
    Rest,
    /// Whole layers, where a thread makes them for its own rows.
    Rows,
}

impl Work {
    pub(crate) const ALL: [(Work, &'static str); 8] = [
        (Work::Projections, "attention matrices"),
        (Work::Attention, "attention"),
        (Work::Router, "router"),
        (Work::Experts, "experts"),
        (Work::Dense, "dense layers"),
        (Work::Head, "head"),
        (Work::Rest, "norms, rope, K/V"),
        (Work::Rows, "layers, row by row"),
    ];
}

/// What one part took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) time: Duration,
    /// Bytes of weights read.
    pub(crate) bytes: u64,
    /// Multiplications and additions with weights.
    pub(crate) operations: u64,
}

/// The times of the last forward.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: Option<Instant>,
    spent: [Spent; Work::ALL.len()],
    /// Routed experts visited, over all layers.
    visited: u64,
}

impl Clock {
    pub(super) fn begin(&mut self) {
        *self = Clock { last: Some(Instant::now()), ..Clock::default() };
    }

    /// The time since the last call went to `work`.
    pub(super) fn did(&mut self, work: Work) {
        let now = Instant::now();
        let took = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.of_mut(work).time += took;
    }

    /// [`Clock::did`], with the product of `m` rows and one matrix.
    pub(super) fn did_with(&mut self, work: Work, matrix: &Matrix, m: usize) {
        self.count(work, matrix, m);
        self.did(work);
    }

    /// Counts the product of `m` rows and one matrix.
    pub(super) fn count(&mut self, work: Work, matrix: &Matrix, m: usize) {
        let spent = self.of_mut(work);
        spent.bytes += matrix.bytes() as u64;
        spent.operations += 2 * (m as u64) * (matrix.n() as u64) * (matrix.k() as u64);
    }

    /// Counts visited experts of a layer.
    pub(super) fn visited(&mut self, experts: usize) {
        self.visited += experts as u64;
    }

    fn of_mut(&mut self, work: Work) -> &mut Spent {
        // The list has every variant.
        let at = Work::ALL.iter().position(|(own, _)| *own == work).unwrap_or(0);
        &mut self.spent[at]
    }

    /// Name and share of every part.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (&'static str, Spent)> {
        Work::ALL.iter().zip(self.spent).map(|((_, name), spent)| (*name, spent))
    }

    /// Routed experts visited, over all layers.
    pub(crate) fn experts_visited(&self) -> u64 {
        self.visited
    }
}
