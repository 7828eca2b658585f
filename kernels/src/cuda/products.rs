//! Products with weights on the device: dense, grouped by expert, gate and up in one, and the confidence head.

use super::device::{Argument, Device, DeviceError};
use super::experts::Slots;
use super::format::{self, LANES, WeightFormat, pack};
use super::gpu::{Gpu, Memory, int};
use crate::error::{KernelError, expect};

/// Warps of a block that multiplies.
const WARPS: usize = 8;

/// `count` matrices `[n, k]` of one format, one after the other: a dense layer has one, experts have many.
#[derive(Debug)]
pub struct Matrices<D: Device> {
    format: WeightFormat,
    count: usize,
    n: usize,
    k: usize,
    bytes: Memory<D, u8>,
    scales: Memory<D, u16>,
}

impl<D: Device> Matrices<D> {
    /// Room for them; all zero bytes, to be filled by [`Gpu::set_matrix`].
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn new(gpu: &Gpu<D>, format: WeightFormat, count: usize, n: usize, k: usize) -> Result<Self, DeviceError> {
        let too_many = KernelError { what: "weights", expected: usize::MAX, got: count };
        int("n", n.max(k))?;
        let lanes = format::blocks(n, k).checked_mul(LANES).and_then(|lanes| lanes.checked_mul(count));
        let lanes = lanes.ok_or(too_many)?;
        let bytes = gpu.zeros(lanes.checked_mul(format.lane_bytes()).ok_or(too_many)?)?;
        let scales = gpu.zeros(if format.is_scaled() { lanes } else { 0 })?;
        Ok(Matrices { format, count, n, k, bytes, scales })
    }

    /// Outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    fn panels(&self) -> usize {
        self.n.div_ceil(LANES)
    }

    fn same_shape(&self, other: &Self) -> Result<(), KernelError> {
        expect("up", Some(self.n), other.n)?;
        expect("up", Some(self.k), other.k)?;
        expect("up", Some(self.count), other.count)?;
        expect("up", Some(self.format.lane_bytes()), other.format.lane_bytes())
    }
}

/// Rows of a product and where they go.
#[derive(Debug)]
enum Rows<'a, D: Device> {
    /// Row i of x is row i of y.
    All(usize),
    /// By expert.
    Slots(&'a Slots<D>),
}

impl<D: Device> Gpu<D> {
    /// Packs `values[n, k]` and makes them matrix `index`.
    ///
    /// # Errors
    /// When there is no such matrix, or `values` has another size.
    pub fn set_matrix(&self, to: &mut Matrices<D>, index: usize, values: &[f32]) -> Result<(), DeviceError> {
        if index >= to.count {
            return Err(KernelError { what: "matrix", expected: to.count, got: index }.into());
        }
        let packed = pack(to.format, values, to.n, to.k)?;
        self.write(&mut to.bytes, index * packed.bytes.len(), &packed.bytes)?;
        self.write(&mut to.scales, index * packed.scales.len(), &packed.scales)
    }

    /// One matrix `[n, k]` on the device.
    ///
    /// # Errors
    /// As for [`Gpu::set_matrix`].
    pub fn matrix(&self, format: WeightFormat, values: &[f32], n: usize, k: usize) -> Result<Matrices<D>, DeviceError> {
        let mut matrix = Matrices::new(self, format, 1, n, k)?;
        self.set_matrix(&mut matrix, 0, values)?;
        Ok(matrix)
    }

    /// `y[rows, n] = x[rows, k] · wᵀ`.
    ///
    /// # Errors
    /// When `w` is not one matrix, or `x` or `y` are too small.
    pub fn linear(
        &self,
        w: &Matrices<D>,
        x: &Memory<D, f32>,
        rows: usize,
        y: &mut Memory<D, f32>,
    ) -> Result<(), DeviceError> {
        expect("matrices", Some(1), w.count)?;
        self.product(w, None, x, &Rows::All(rows), y)
    }

    /// `y[rows, n] = silu(x · gateᵀ) * (x · upᵀ)`.
    ///
    /// # Errors
    /// As for [`Gpu::linear`], and when the two matrices differ in shape or format.
    pub fn gated(
        &self,
        (gate, up): (&Matrices<D>, &Matrices<D>),
        x: &Memory<D, f32>,
        rows: usize,
        y: &mut Memory<D, f32>,
    ) -> Result<(), DeviceError> {
        expect("matrices", Some(1), gate.count)?;
        self.product(gate, Some(up), x, &Rows::All(rows), y)
    }

    /// [`Gpu::linear`] by expert: slot s of `y[slots, n]` is slot s of `x[slots, k]` times its expert's matrix.
    ///
    /// # Errors
    /// When there are not as many matrices as experts, or `x` or `y` are too small.
    pub fn expert_linear(
        &self,
        w: &Matrices<D>,
        x: &Memory<D, f32>,
        slots: &Slots<D>,
        y: &mut Memory<D, f32>,
    ) -> Result<(), DeviceError> {
        self.product(w, None, x, &Rows::Slots(slots), y)
    }

    /// [`Gpu::gated`] by expert: slot s of `y[slots, n]` is made of the slot's row of `x[rows, k]`.
    ///
    /// # Errors
    /// As for [`Gpu::expert_linear`], and when the two sets of matrices differ in shape or format.
    pub fn expert_gated(
        &self,
        (gate, up): (&Matrices<D>, &Matrices<D>),
        x: &Memory<D, f32>,
        slots: &Slots<D>,
        y: &mut Memory<D, f32>,
    ) -> Result<(), DeviceError> {
        self.product(gate, Some(up), x, &Rows::Slots(slots), y)
    }

    fn product(
        &self,
        w: &Matrices<D>,
        up: Option<&Matrices<D>>,
        x: &Memory<D, f32>,
        rows: &Rows<'_, D>,
        y: &mut Memory<D, f32>,
    ) -> Result<(), DeviceError> {
        // Rows of x, rows of y, most rows of one expert, rows that one expert may expect.
        let (inputs, outputs, most, usual) = match rows {
            Rows::All(rows) => (*rows, *rows, *rows, *rows),
            Rows::Slots(slots) => {
                expect("experts", Some(w.count), slots.experts())?;
                let inputs = if up.is_some() { slots.rows() } else { slots.len() };
                (inputs, slots.len(), slots.rows(), slots.len() / slots.experts().max(1))
            }
        };
        x.holds("x", inputs.checked_mul(w.k))?;
        y.holds("y", outputs.checked_mul(w.n))?;
        let tokens = if usual <= 8 { 8 } else { 32 };
        let kernel = if up.is_some() { "gated" } else { "linear" };
        let kernel = format!("{kernel}_{}_{tokens}", w.format.name());
        let mut arguments = vec![w.bytes.argument(), w.scales.argument()];
        if let Some(up) = up {
            w.same_shape(up)?;
            arguments.extend([up.bytes.argument(), up.scales.argument()]);
        }
        arguments.push(x.argument());
        match rows {
            Rows::All(_) => arguments.extend([Argument::Null, Argument::Null]),
            // The second product of an expert reads what the first one wrote: slot s is row s.
            Rows::Slots(slots) => {
                let row_of = if up.is_some() { slots.row_of.argument() } else { Argument::Null };
                arguments.extend([slots.offsets.argument(), row_of]);
            }
        }
        let numbers = [int("rows", outputs)?, int("n", w.n)?, int("k", w.k)?];
        arguments.extend(numbers.map(Argument::Int));
        arguments.push(y.argument());
        let blocks = [w.panels(), w.count, most.div_ceil(tokens)];
        // SAFETY: x, y and the weights are as large as checked; `Slots` keeps rows and slots in range.
        unsafe { self.launch(&kernel, blocks, 256, WARPS * tokens * LANES, &arguments) }
    }

    /// The likeliest token of each row of `x[rows, k]` under the head `w[vocab, k]`, without the `banned` ones, and its
    /// probability: token -1 where the logits are not numbers.
    ///
    /// # Errors
    /// When `w` is not one matrix, or some memory is too small.
    pub fn head(
        &self,
        w: &Matrices<D>,
        x: &Memory<D, f32>,
        rows: usize,
        banned: &Memory<D, i32>,
        work: &mut HeadMemory<D>,
    ) -> Result<(), DeviceError> {
        expect("matrices", Some(1), w.count)?;
        x.holds("x", rows.checked_mul(w.k))?;
        let parts = rows.checked_mul(w.panels());
        work.largest.holds("head memory", parts)?;
        work.token.holds("head memory", Some(rows))?;
        let tokens = if rows <= 8 { 8 } else { 32 };
        let numbers = [int("rows", rows)?, int("vocab", w.n)?, int("k", w.k)?].map(Argument::Int);
        let [rows_argument, vocab, k] = numbers;
        let arguments = [
            w.bytes.argument(),
            w.scales.argument(),
            x.argument(),
            rows_argument,
            vocab,
            k,
            banned.argument(),
            Argument::Int(int("banned", banned.len())?),
            work.largest.argument(),
            work.sums.argument(),
            work.index.argument(),
        ];
        let blocks = [w.panels().div_ceil(WARPS), 1, rows.div_ceil(tokens)];
        let kernel = format!("head_{}_{tokens}", w.format.name());
        // SAFETY: lengths are checked above; largest, sums and index are of one length.
        unsafe { self.launch(&kernel, blocks, 256, WARPS * tokens * LANES, &arguments)? };
        let arguments = [
            work.largest.argument(),
            work.sums.argument(),
            work.index.argument(),
            Argument::Int(int("panels", w.panels())?),
            work.token.argument(),
            work.probability.argument(),
        ];
        // SAFETY: lengths are checked above; token and probability are of one length.
        unsafe { self.launch("head_merge", [rows, 1, 1], 256, 3 * 256, &arguments) }
    }
}

/// What the confidence head writes.
#[derive(Debug)]
pub struct HeadMemory<D: Device> {
    largest: Memory<D, f32>,
    sums: Memory<D, f32>,
    index: Memory<D, i32>,
    /// `[rows]`, the likeliest token.
    pub token: Memory<D, i32>,
    /// `[rows]`, its probability.
    pub probability: Memory<D, f32>,
}

impl<D: Device> HeadMemory<D> {
    /// For `rows` rows and a vocabulary of `vocab`.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn new(gpu: &Gpu<D>, rows: usize, vocab: usize) -> Result<Self, DeviceError> {
        let parts = rows.saturating_mul(vocab.div_ceil(LANES));
        Ok(HeadMemory {
            largest: gpu.zeros(parts)?,
            sums: gpu.zeros(parts)?,
            index: gpu.zeros(parts)?,
            token: gpu.zeros(rows)?,
            probability: gpu.zeros(rows)?,
        })
    }
}
