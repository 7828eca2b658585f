//! The rows of one forward: whose they are, where they stand, what they see, and which of them somebody asked about.
//! Must never hold a number of the model.

use std::ops::Range;

use weir_kernels::KernelError;

use super::forward::{Lane, Visibility};
use super::rope::{Angles, Rope};

/// Rows of all lanes, one after the other. Its memory is kept from forward to forward.
#[derive(Default)]
pub(crate) struct Batch {
    /// Of each row.
    tokens: Vec<u32>,
    positions: Vec<usize>,
    /// Of each row, how many positions it sees.
    visible: Vec<usize>,
    /// Of each lane.
    lanes: Vec<Range<usize>>,
    /// Rows that are one request's tokens of one block, in order.
    blocks: Vec<Range<usize>>,
    /// The rows predictions are wanted of, and of each lane which of these are its.
    wanted: Vec<usize>,
    wanted_lanes: Vec<Range<usize>>,
    is_narrow: bool,
    /// For each way of turning that the model has, those of each position seen so far.
    angles: Vec<Vec<Angles>>,
}

impl Batch {
    /// Takes in the lanes' tokens, for a model that turns heads by `ropes`.
    pub(crate) fn begin(&mut self, lanes: &[Lane<'_>], ropes: &[Rope]) -> Result<(), KernelError> {
        let Batch { tokens, positions, visible, lanes: ranges, blocks, wanted, wanted_lanes, is_narrow, angles } = self;
        *is_narrow = false;
        tokens.clear();
        positions.clear();
        blocks.clear();
        visible.clear();
        ranges.clear();
        wanted.clear();
        wanted_lanes.clear();
        angles.resize_with(ropes.len(), Vec::new);
        for lane in lanes {
            let (first, first_wanted) = (positions.len(), wanted.len());
            let (start, end) = (lane.cache.committed(), lane.end());
            match lane.computed {
                None => {
                    tokens.extend_from_slice(lane.tokens);
                    positions.extend(start..end);
                }
                Some(computed) => {
                    tokens.extend(computed.iter().filter_map(|at| lane.tokens.get(*at)));
                    positions.extend(computed.iter().filter(|at| **at < lane.tokens.len()).map(|at| start + at));
                }
            }
            let own = positions.get(first..).unwrap_or_default();
            blocks_of(lane.visibility, own, first, blocks);
            visible.extend(own.iter().map(|position| lane.visibility.visible(*position, end)));
            ranges.push(first..first + own.len());
            for at in lane.rows() {
                let row = match lane.computed {
                    None => at,
                    Some(computed) => computed.binary_search(&at).unwrap_or(own.len()),
                };
                if row >= own.len() {
                    return Err(KernelError { what: "wanted row", expected: own.len(), got: at });
                }
                wanted.push(first + row);
            }
            wanted_lanes.push(first_wanted..wanted.len());
            for (angles, rope) in angles.iter_mut().zip(ropes) {
                angles.extend((angles.len()..end).map(|position| rope.angles(position)));
            }
        }
        Ok(())
    }

    /// Rows that are computed.
    pub(crate) fn rows(&self) -> usize {
        self.visible.len()
    }

    /// The token of each row, before anything was narrowed.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The position of each row, before anything was narrowed.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// The rows predictions are wanted of, one lane's after the other's.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn wanted(&self) -> &[usize] {
        &self.wanted
    }

    /// Rows that are one request's tokens of one block, in order, before anything was narrowed.
    pub(crate) fn blocks(&self) -> &[Range<usize>] {
        &self.blocks
    }

    /// How many positions each row sees.
    pub(crate) fn visible(&self) -> &[usize] {
        &self.visible
    }

    /// The rows of each lane.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = Range<usize>> {
        self.lanes.iter().cloned()
    }

    /// These rows by runs of positions side by side, before anything was narrowed: a run's first row, and its positions.
    pub(crate) fn runs(&self, rows: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let mut row = rows.start;
        let own = self.positions.get(rows).unwrap_or_default();
        own.chunk_by(|one, next| one + 1 == *next).filter_map(move |run| {
            row += run.len();
            Some((row - run.len(), *run.first()?..run.last()? + 1))
        })
    }

    /// Cosines and sines of a row's position by rope number `rope`, before anything was narrowed.
    pub(crate) fn angles(&self, rope: usize, row: usize) -> (&[f32], &[f32]) {
        let angles = self.positions.get(row).and_then(|position| self.angles.get(rope)?.get(*position));
        angles.map_or((&[], &[]), |angles| (&angles.cos, &angles.sin))
    }

    /// Goes on with the wanted rows only, which move up in each of `buffers`, given with its elements per row.
    pub(super) fn narrow<const N: usize>(&mut self, buffers: [(&mut [f32], usize); N]) {
        if std::mem::replace(&mut self.is_narrow, true) || self.wanted.len() == self.visible.len() {
            return;
        }
        for (elements, width) in buffers {
            for (to, from) in self.wanted.iter().enumerate() {
                elements.copy_within(from * width..(from + 1) * width, to * width);
            }
        }
        for (to, from) in self.wanted.iter().enumerate() {
            self.visible[to] = self.visible[*from];
        }
        self.visible.truncate(self.wanted.len());
        self.lanes.clone_from(&self.wanted_lanes);
    }
}

/// Adds to `blocks` the rows from `first` on, at these ascending positions, that are tokens of one block each.
fn blocks_of(visibility: Visibility, positions: &[usize], first: usize, blocks: &mut Vec<Range<usize>>) {
    let mut row = first;
    for block in positions.chunk_by(|one, next| *next < visibility.block_end(*one)) {
        blocks.push(row..row + block.len());
        row += block.len();
    }
}
