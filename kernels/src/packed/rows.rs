//! Work on rows that stand alone, shared out to the team: runs of rows, each with its own piece of every output. Must
//! never give the same row to two threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::error::{KernelError, expect};

use super::product::Products;
use super::shared::Shared;
use super::team::ThreadScratch;

/// Rows that go together: a tile of the widest f32 loop.
const TILE: usize = 8;

/// Multiplications that are worth a second thread: some 5 µs.
const WORTH: usize = 1 << 18;

/// Runs of a thread at most, and rows of a run at least where there are many.
const RUNS: usize = 4;
const LONG: usize = 64;

impl Products<'_> {
    /// `body(rows, outputs, scratch)` for runs of rows that together are `0..m`; `outputs` are those rows of each of
    /// `out`, which comes with its elements per row. A row costs about `cost` multiplications. Sections of equally many
    /// rows give a row to the same thread, as far as that is free.
    ///
    /// # Errors
    /// When an output has not `m` rows, or `body` fails.
    pub fn rows<const N: usize>(
        &self,
        m: usize,
        cost: usize,
        out: [(&mut [f32], usize); N],
        body: impl Fn(Range<usize>, [&mut [f32]; N], &mut ThreadScratch) -> Result<(), KernelError> + Sync,
    ) -> Result<(), KernelError> {
        for (elements, width) in &out {
            expect("rows of an output", m.checked_mul(*width), elements.len())?;
        }
        let shared = m > TILE && m.saturating_mul(cost) >= WORTH && self.team.threads() > 1;
        let each = if shared { run_length(m, self.team.threads()) } else { m.max(1) };
        let out = out.map(|(elements, width)| (Shared::new(elements), width));
        let failed = Mutex::new(None);
        self.team.run(m.div_ceil(each), |part, scratch| {
            let rows = part * each..((part + 1) * each).min(m);
            // SAFETY: runs do not overlap, so each row is in one part.
            let own = out.each_ref().map(|(out, width)| unsafe { out.part(rows.start * width, rows.len() * width) });
            if let Err(error) = body(rows, own, scratch) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Rows of a run: whole tiles. One run for each thread where there are few rows, since whoever takes a run reads all
/// weights for it; several where there are many, since threads are disturbed.
fn run_length(m: usize, threads: usize) -> usize {
    let fair = m.div_ceil(threads).next_multiple_of(TILE);
    let short = m.div_ceil(threads * RUNS).next_multiple_of(TILE);
    short.max(LONG).min(fair)
}
