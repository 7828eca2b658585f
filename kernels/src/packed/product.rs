//! The checked products: every shape is checked here, then strips are shared out to the team's threads.

use crate::error::{KernelError, expect};
use crate::kernels::Kernels;
use crate::panel::PackedMatrix;

use super::format::{Format, GROUP, STRIP};
use super::inputs::{Inputs, View};
use super::matrix::PackedWeights;
use super::shared::Shared;
use super::team::Team;

/// One instruction set's loops. Obtained from the registry, which hands out only what the CPU has.
pub struct PackedKernels {
    pub(super) name: &'static str,
    pub(super) strip: StripLoop,
    pub(super) quantize: QuantizeLoop,
    pub(super) peak: unsafe fn(usize) -> f32,
}

/// Format, strip, groups, activations, memory to fetch meanwhile, output of 16 a row, from one row to the next.
type StripLoop = unsafe fn(Format, *const u8, usize, &View, *const u8, *mut f32, usize);

/// A block's numbers and where its quants go; gives the scale, the sum of the quants, and the offset of `Strip::begin`.
type QuantizeLoop = unsafe fn(*const f32, *mut i8) -> (f32, i32, i32);

impl std::fmt::Debug for PackedKernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedKernels").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PackedKernels {
    /// Name for logs and `weir doctor`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// One strip of `weights` times the rows of `x`, 16 outputs a row, into rows that lie `stride` elements apart at `out`;
    /// `next` is the strip that follows.
    ///
    /// # Safety
    /// `x` was filled for the weights' format and `k`; `strip < weights.strips()`; nobody else uses those outputs.
    pub(super) unsafe fn strip_of(
        &self,
        weights: &PackedWeights,
        strip: usize,
        x: &View,
        next: *const u8,
        (out, stride): (*mut f32, usize),
    ) {
        let at = weights.strip(strip);
        // SAFETY: the registry saw the instruction set; strips lie inside the bytes, whose length `PackedWeights` checked.
        unsafe {
            (self.strip)(weights.format(), at, weights.k().div_ceil(GROUP), x, next, out, stride);
        }
    }
}

/// Products on one team of threads. Borrowed for each call.
#[derive(Debug, Clone, Copy)]
pub struct Products<'a> {
    /// The loops.
    pub kernels: &'static PackedKernels,
    /// The threads.
    pub team: &'a Team,
}

/// Bytes of weights that are worth a second thread; under Miri few, or it would take minutes to see two work together.
const WORTH_SHARING: usize = if cfg!(miri) { 1 << 10 } else { 64 << 10 };

impl Products<'_> {
    /// Takes `x[rows, k]` into `inputs` for weights that want integers, f32, or both.
    ///
    /// # Errors
    /// When `x` has not `rows * k` elements.
    pub fn fill(
        &self,
        inputs: &mut Inputs,
        x: &[f32],
        rows: usize,
        k: usize,
        (integer, exact): (bool, bool),
    ) -> Result<(), KernelError> {
        expect("x", rows.checked_mul(k), x.len())?;
        inputs.shape(rows, k, integer, exact);
        if k == 0 {
            return Ok(());
        }
        let writer = inputs.writer();
        let parts = if x.len() < WORTH_SHARING / 4 { 1 } else { self.team.threads().min(rows) };
        self.team.run(parts, |part, _| {
            let own = rows * part / parts..rows * (part + 1) / parts;
            for (row, x) in x.chunks_exact(k).enumerate().take(own.end).skip(own.start) {
                // SAFETY: there is room for every row and block, and each row is written by one part.
                unsafe { writer.put(self.kernels, row, x) };
            }
        });
        Ok(())
    }

    /// [`Products::fill`] for these weights.
    ///
    /// # Errors
    /// When `x` has not `rows * w.k()` elements.
    pub fn fill_for(&self, inputs: &mut Inputs, x: &[f32], rows: usize, w: &PackedWeights) -> Result<(), KernelError> {
        let integer = w.format().is_integer();
        self.fill(inputs, x, rows, w.k(), (integer, !integer))
    }

    /// `y[m, n] = x[m, k] · wᵀ` over f32 weights, to the bit what [`Kernels::linear`] gives.
    ///
    /// # Errors
    /// When `x` or `y` do not have `m * k` and `m * n` elements.
    pub fn exact(
        &self,
        kernels: &Kernels,
        x: &[f32],
        m: usize,
        w: &PackedMatrix,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        let (n, k) = (w.n(), w.k());
        expect("x", m.checked_mul(k), x.len())?;
        self.rows(m, n.saturating_mul(k), [(y, n)], |rows, [y], _| {
            kernels.linear(x.get(rows.start * k..rows.end * k).unwrap_or_default(), rows.len(), w, y)
        })
    }

    /// `y[rows, n] = x · wᵀ`.
    ///
    /// # Errors
    /// When `x` was filled for other weights, or `y` has not `rows * n` elements.
    pub fn linear(&self, x: &Inputs, w: &PackedWeights, y: &mut [f32]) -> Result<(), KernelError> {
        check(x, w)?;
        let n = w.n();
        let (rows, strips) = (x.rows(), w.strips());
        expect("y", rows.checked_mul(n), y.len())?;
        if y.is_empty() {
            return Ok(());
        }
        let (out, view) = (Shared::new(y), x.view());
        let parts = self.parts(w.bytes().len(), strips);
        self.team.run(parts, |part, own| {
            let (begin, end) = (strips * part / parts, strips * (part + 1) / parts);
            let after = own.next_start(strips, parts);
            let own = own.floats(rows * STRIP);
            for strip in begin..end {
                let next = w.strip(if strip + 1 == end { after } else { strip + 1 });
                let width = STRIP.min(n - strip * STRIP);
                if width == STRIP {
                    // SAFETY: shapes are checked above; each strip's columns are written by one part only.
                    unsafe { self.kernels.strip_of(w, strip, &view, next, (out.at(strip * STRIP), n)) };
                    continue;
                }
                // SAFETY: shapes are checked above; `own` takes rows * 16 floats.
                unsafe { self.kernels.strip_of(w, strip, &view, next, (own.as_mut_ptr(), STRIP)) };
                for (row, sums) in own.chunks_exact(STRIP).enumerate() {
                    // SAFETY: as above.
                    unsafe { out.part(row * n + strip * STRIP, width) }.copy_from_slice(&sums[..width]);
                }
            }
        });
        Ok(())
    }

    /// How many parts to cut `bytes` of weights into: several for each thread, since threads are disturbed.
    pub(super) fn parts(&self, bytes: usize, strips: usize) -> usize {
        let threads = self.team.threads();
        let most = if threads == 1 || bytes < WORTH_SHARING { 1 } else { threads * 8 };
        most.min(bytes / (WORTH_SHARING / 4)).clamp(1, strips.max(1))
    }
}

/// Whether the activations fit the weights.
pub(super) fn check(x: &Inputs, w: &PackedWeights) -> Result<(), KernelError> {
    expect("inputs", Some(w.k()), x.k())?;
    if !x.serves(w.format().is_integer()) {
        return Err(KernelError { what: "inputs for this format", expected: 1, got: 0 });
    }
    Ok(())
}
