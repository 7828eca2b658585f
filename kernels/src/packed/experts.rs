//! A whole expert layer over packed weights: tokens grouped by expert, each needed expert's weights read once for all of
//! its tokens, gate and up in one walk. Threads share the work by bytes of weights. Must never choose an expert: `route`
//! does.

use std::ops::Range;

use crate::Kernels;
use crate::error::{KernelError, expect};

use super::format::STRIP;
use super::inputs::Inputs;
use super::matrix::PackedWeights;
use super::product::{Products, check};
use super::shared::Shared;

/// Strips of the down product that are added to a token together.
const TOGETHER: usize = 4;

/// How many strips of the down product, which are short, memory is asked for ahead.
const AHEAD: usize = 2;

/// One expert, `down(silu(gate x) * up x)`: `[width, hidden]`, `[width, hidden]`, `[hidden, width]`.
#[derive(Debug, Clone, Copy)]
pub struct PackedExpert<'a> {
    /// `[width, hidden]`.
    pub gate: &'a PackedWeights,
    /// `[width, hidden]`.
    pub up: &'a PackedWeights,
    /// `[hidden, width]`.
    pub down: &'a PackedWeights,
}

/// Who visits whom: the tokens of one expert lie side by side.
#[derive(Debug, Default)]
pub struct Visits {
    /// Of each expert that is visited: which, and where its tokens end.
    groups: Vec<(u32, u32)>,
    tokens: Vec<u32>,
    weights: Vec<f32>,
    /// Where an expert's next visit goes.
    next: Vec<u32>,
}

impl Visits {
    /// Forgets all visits.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.tokens.clear();
        self.weights.clear();
    }

    /// Adds an expert and its `(token, weight)`; one without tokens is left out. A token's results are added in the
    /// order of these calls.
    pub fn add(&mut self, expert: usize, visits: impl IntoIterator<Item = (usize, f32)>) {
        let before = self.tokens.len();
        for (token, weight) in visits {
            self.tokens.push(token as u32);
            self.weights.push(weight);
        }
        if self.tokens.len() > before {
            self.groups.push((expert as u32, self.tokens.len() as u32));
        }
    }

    /// Forgets all visits and takes these, `(token, expert, weight)` with tokens ascending, sorted by expert. What names
    /// an expert of `experts` or above is left out.
    pub fn sort(&mut self, experts: usize, visits: impl Iterator<Item = (usize, usize, f32)> + Clone) {
        self.clear();
        self.next.clear();
        self.next.resize(experts, 0);
        for (_, expert, _) in visits.clone() {
            if let Some(count) = self.next.get_mut(expert) {
                *count += 1;
            }
        }
        let mut end = 0;
        for (expert, next) in self.next.iter_mut().enumerate() {
            let count = std::mem::replace(next, end);
            end += count;
            if count > 0 {
                self.groups.push((expert as u32, end));
            }
        }
        self.tokens.resize(end as usize, 0);
        self.weights.resize(end as usize, 0.0);
        for (token, expert, weight) in visits {
            let Some(next) = self.next.get_mut(expert) else { continue };
            let at = *next as usize;
            *next += 1;
            if let (Some(place), Some(own)) = (self.tokens.get_mut(at), self.weights.get_mut(at)) {
                (*place, *own) = (token as u32, weight);
            }
        }
    }

    /// How many visits there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens of these visits.
    pub fn tokens(&self, visits: Range<usize>) -> &[u32] {
        self.tokens.get(visits).unwrap_or_default()
    }

    /// The factor on a visit's result.
    pub fn weight(&self, visit: usize) -> f32 {
        self.weights.get(visit).copied().unwrap_or_default()
    }

    /// Experts that are visited.
    pub fn experts(&self) -> usize {
        self.groups.len()
    }

    /// Each visited expert and the range of its visits.
    pub fn groups(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let starts = std::iter::once(0).chain(self.groups.iter().map(|(_, end)| *end as usize));
        self.groups.iter().zip(starts).map(|((expert, end), start)| (*expert as usize, start..*end as usize))
    }
}

/// Memory that is kept from layer to layer.
#[derive(Debug, Default)]
pub struct ExpertScratch {
    /// `silu(gate x) * up x` of each visit, `[visits, width]`.
    middle: Vec<f32>,
    inputs: Inputs,
    /// Of each visited expert: which, first visit, visits.
    order: Vec<(usize, usize, usize)>,
}

impl Products<'_> {
    /// `out[token] = Σ weight · expert(x[token])` over a token's visits, in the order they were added. All experts have
    /// the same shape; `expert(i)` gives the one that [`Visits::add`] called `i`.
    ///
    /// # Errors
    /// When a shape does not fit, or a visit names a token that is not there.
    pub fn experts<'w>(
        &self,
        kernels: &Kernels,
        x: &Inputs,
        expert: &(impl Fn(usize) -> Option<PackedExpert<'w>> + Sync),
        visits: &Visits,
        scratch: &mut ExpertScratch,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        expect("out", x.rows().checked_mul(x.k()), out.len())?;
        out.fill(0.0);
        let Some(first) = visits.groups().next() else { return Ok(()) };
        let lost = |index: usize| KernelError { what: "expert", expected: 0, got: index };
        let width = expert(first.0).ok_or_else(|| lost(first.0))?.gate.n();
        for (index, _) in visits.groups() {
            let PackedExpert { gate, up, down } = expert(index).ok_or_else(|| lost(index))?;
            check(x, gate)?;
            check(x, up)?;
            expect("width of an expert", Some(width), gate.n())?;
            expect("width of an expert", Some(width), up.n())?;
            expect("width of an expert", Some(width), down.k())?;
            expect("outputs of an expert", Some(x.k()), down.n())?;
        }
        if let Some(token) = visits.tokens.iter().find(|token| **token as usize >= x.rows()) {
            return Err(KernelError { what: "token", expected: x.rows(), got: *token as usize });
        }
        if width == 0 || x.k() == 0 {
            return Ok(());
        }
        scratch.order.clear();
        scratch.order.extend(visits.groups().map(|(index, range)| (index, range.start, range.len())));
        let length = visits.tokens.len() * width;
        if scratch.middle.len() < length {
            scratch.middle.resize(length, 0.0);
        }
        // SAFETY of the following sections: shapes and indices are checked above.
        self.gate_and_up(kernels, x, expert, visits, scratch, width);
        self.requantise(expert, visits.tokens.len(), scratch, width);
        self.down(kernels, expert, visits, scratch, out);
        Ok(())
    }

    /// `middle[visit] = silu(gate x) * up x`.
    fn gate_and_up<'w>(
        &self,
        kernels: &Kernels,
        x: &Inputs,
        expert: &(impl Fn(usize) -> Option<PackedExpert<'w>> + Sync),
        visits: &Visits,
        scratch: &mut ExpertScratch,
        width: usize,
    ) {
        let order = &scratch.order;
        let strips = width.div_ceil(STRIP);
        // Few experts are cut in pieces, so that every thread has something to do to the end.
        let pieces = (self.team.threads() * 8).div_ceil(order.len()).clamp(1, strips.div_ceil(4));
        let middle = Shared::new(&mut scratch.middle);
        self.team.run(order.len() * pieces, |part, own| {
            let (index, piece) = (part / pieces, part % pieces);
            let Some((which, first, rows)) = order.get(index).copied() else { return };
            let Some(PackedExpert { gate, up, .. }) = expert(which) else { return };
            let (after_index, after_piece) = (own.next / pieces, own.next % pieces);
            let after = order.get(after_index).and_then(|(which, ..)| expert(*which));
            let (gates, ups, gathered) = own.all(rows * STRIP);
            gathered.gather(x, visits.tokens.get(first..first + rows).unwrap_or_default());
            let view = gathered.view();
            let end = strips * (piece + 1) / pieces;
            for strip in strips * piece / pieces..end {
                let next = |own: &PackedWeights, after: Option<&PackedWeights>| match after {
                    Some(after) if strip + 1 == end => after.strip(strips * after_piece / pieces),
                    _ => own.strip(strip + 1),
                };
                let (next_gate, next_up) =
                    (next(gate, after.map(|after| after.gate)), next(up, after.map(|after| after.up)));
                // SAFETY: checked by `experts`; the buffers take rows * 16 floats.
                unsafe {
                    self.kernels.strip_of(gate, strip, &view, next_gate, (gates.as_mut_ptr(), STRIP));
                    self.kernels.strip_of(up, strip, &view, next_up, (ups.as_mut_ptr(), STRIP));
                }
                // Equal lengths by construction.
                let _ = kernels.silu_mul(gates, ups);
                let columns = STRIP.min(width - strip * STRIP);
                for (row, sums) in gates.chunks_exact(STRIP).enumerate() {
                    // SAFETY: this visit's columns are written by this part only.
                    let place = unsafe { middle.part((first + row) * width + strip * STRIP, columns) };
                    place.copy_from_slice(sums.get(..columns).unwrap_or_default());
                }
            }
        });
    }

    /// `middle` as the inputs of the down products, expert by expert.
    fn requantise<'w>(
        &self,
        expert: &(impl Fn(usize) -> Option<PackedExpert<'w>> + Sync),
        visits: usize,
        scratch: &mut ExpertScratch,
        width: usize,
    ) {
        let ExpertScratch { middle, inputs, order } = scratch;
        let formats = || order.iter().filter_map(|(which, ..)| expert(*which)).map(|one| one.down.format());
        let (integer, exact) = (formats().any(|f| f.is_integer()), formats().any(|f| !f.is_integer()));
        inputs.shape(visits, width, integer, exact);
        let writer = inputs.writer();
        let (order, middle) = (&*order, &*middle);
        let parts = order.len().min(self.team.threads() * 2);
        self.team.run(parts, |part, _| {
            let own = order.len() * part / parts..order.len() * (part + 1) / parts;
            for (_, first, rows) in order.get(own).unwrap_or_default() {
                let writer = writer.part(*first, *rows);
                for (row, numbers) in middle.chunks_exact(width).skip(*first).take(*rows).enumerate() {
                    // SAFETY: an expert's rows are written by this part only.
                    unsafe { writer.put(self.kernels, row, numbers) };
                }
            }
        });
    }

    /// `out[token] += weight · down(middle[visit])`. A part is some columns of every expert, so that a token's sum is
    /// made by one thread in the order of the visits.
    fn down<'w>(
        &self,
        kernels: &Kernels,
        expert: &(impl Fn(usize) -> Option<PackedExpert<'w>> + Sync),
        visits: &Visits,
        scratch: &mut ExpertScratch,
        out: &mut [f32],
    ) {
        let ExpertScratch { inputs, order, .. } = scratch;
        let (inputs, order) = (&*inputs, &*order);
        let Some(hidden) = order.first().and_then(|(which, ..)| expert(*which)).map(|one| one.down.n()) else { return };
        let strips = hidden.div_ceil(STRIP);
        let parts = (self.team.threads() * 4).clamp(1, strips.div_ceil(2));
        let out = Shared::new(out);
        self.team.run(parts, |part, own| {
            let (begin, end) = (strips * part / parts, strips * (part + 1) / parts);
            for (index, (which, first, rows)) in order.iter().copied().enumerate() {
                let Some(PackedExpert { down, .. }) = expert(which) else { return };
                let after = order.get(index + 1).and_then(|(which, ..)| expert(*which));
                let view = inputs.part(first, rows);
                let sums = own.floats(rows * STRIP * TOGETHER);
                for first_strip in (begin..end).step_by(TOGETHER) {
                    let together = first_strip..end.min(first_strip + TOGETHER);
                    for strip in together.clone() {
                        let out = sums.as_mut_ptr().wrapping_add((strip - first_strip) * STRIP);
                        let next = match after {
                            Some(after) if strip + AHEAD >= end => after.down.strip(begin + strip + AHEAD - end),
                            _ => down.strip(strip + AHEAD),
                        };
                        // SAFETY: checked by `experts`; a row of the buffer takes four strips.
                        unsafe { self.kernels.strip_of(down, strip, &view, next, (out, STRIP * TOGETHER)) };
                    }
                    let column = first_strip * STRIP;
                    let columns = (together.len() * STRIP).min(hidden - column);
                    let own = visits.tokens.iter().zip(&visits.weights).skip(first);
                    for (sums, (token, weight)) in sums.chunks_exact(STRIP * TOGETHER).zip(own) {
                        // SAFETY: these columns of every token are written by this part only.
                        let place = unsafe { out.part(*token as usize * hidden + column, columns) };
                        // Equal lengths by construction.
                        let _ = kernels.add_scaled(place, sums.get(..columns).unwrap_or_default(), *weight);
                    }
                }
            }
        });
    }
}
