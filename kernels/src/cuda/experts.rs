//! Who goes to which expert, and what comes back, all on the device: no step waits for the host.

use super::device::{Argument, Device, DeviceError};
use super::gpu::{Gpu, Memory, int};
use crate::error::KernelError;
use crate::route::Routing;

/// Most experts of a layer: `route` keeps their scores in shared memory.
const EXPERTS_MAX: usize = 2048;

/// Tokens sorted by expert: made by [`Gpu::route`], read by the products by expert and [`Gpu::combine`].
#[derive(Debug)]
pub struct Slots<D: Device> {
    /// `[experts + 1]` into the slots.
    pub(super) offsets: Memory<D, i32>,
    /// `[rows * kept]`, the row of each slot.
    pub(super) row_of: Memory<D, i32>,
    choice: Memory<D, i32>,
    slot_of: Memory<D, i32>,
    weight: Memory<D, f32>,
    admitted: Memory<D, u8>,
    experts: usize,
    kept: usize,
    rows: usize,
}

impl<D: Device> Slots<D> {
    /// For up to `rows` tokens, each with `kept` of `experts`. Nobody goes anywhere yet.
    ///
    /// # Errors
    /// When there are too many experts, or there is not so much memory.
    pub fn new(gpu: &Gpu<D>, rows: usize, experts: usize, kept: usize) -> Result<Self, DeviceError> {
        if experts == 0 || experts > EXPERTS_MAX || kept > experts {
            return Err(KernelError { what: "experts", expected: EXPERTS_MAX, got: experts.max(kept) }.into());
        }
        let slots = rows.saturating_mul(kept);
        Ok(Slots {
            offsets: gpu.zeros(experts + 1)?,
            row_of: gpu.zeros(slots)?,
            choice: gpu.zeros(slots)?,
            slot_of: gpu.zeros(slots)?,
            weight: gpu.zeros(slots)?,
            admitted: gpu.zeros(rows.saturating_mul(experts))?,
            experts,
            kept,
            rows: 0,
        })
    }

    /// Tokens that were routed.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Slots that may be taken: `rows * kept`.
    pub(super) fn len(&self) -> usize {
        self.rows * self.kept
    }

    pub(super) fn experts(&self) -> usize {
        self.experts
    }

    /// What was chosen: `[rows * kept]` experts, ascending for each token (-1: none), and their weights. For tests.
    ///
    /// # Errors
    /// When the device breaks.
    pub fn chosen(&self, gpu: &Gpu<D>) -> Result<(Vec<i32>, Vec<f32>), DeviceError> {
        let (mut choice, mut weight) = (vec![0; self.len()], vec![0.0; self.len()]);
        gpu.read(&self.choice, 0, &mut choice)?;
        gpu.read(&self.weight, 0, &mut weight)?;
        Ok((choice, weight))
    }
}

/// Which rows are one block of one request, for routing by block.
#[derive(Debug)]
pub struct RowBlocks<D: Device> {
    begin: Memory<D, i32>,
    block_of: Memory<D, i32>,
    blocks: usize,
    rows: usize,
}

impl<D: Device> RowBlocks<D> {
    /// `ends` are the rows behind each block's last one, ascending.
    ///
    /// # Errors
    /// When they do not ascend from 0.
    pub fn new(gpu: &Gpu<D>, ends: &[usize]) -> Result<Self, DeviceError> {
        let (mut begin, mut block_of, mut row) = (vec![0], Vec::new(), 0);
        for (block, end) in ends.iter().enumerate() {
            if *end <= row {
                return Err(KernelError { what: "block end", expected: row + 1, got: *end }.into());
            }
            block_of.extend(std::iter::repeat_n(int("block", block)?, end - row));
            begin.push(int("row", *end)?);
            row = *end;
        }
        Ok(RowBlocks { begin: gpu.upload(&begin)?, block_of: gpu.upload(&block_of)?, blocks: ends.len(), rows: row })
    }
}

impl<D: Device> Gpu<D> {
    /// Chooses experts for each row of the router's `logits[rows, experts]` and sorts the rows by expert. `bias` steers
    /// the choice only. Same choices as [`crate::route`]; `blocks` is read where `routing` has a capacity.
    ///
    /// # Errors
    /// When `routing` does not fit `slots`, or some memory is too small.
    pub fn route(
        &self,
        logits: &Memory<D, f32>,
        bias: Option<&Memory<D, f32>>,
        routing: Routing,
        rows: usize,
        blocks: &RowBlocks<D>,
        slots: &mut Slots<D>,
    ) -> Result<(), DeviceError> {
        let experts = slots.experts;
        logits.holds("logits", rows.checked_mul(experts))?;
        slots.choice.holds("slots", rows.checked_mul(slots.kept))?;
        bias.map_or(Ok(()), |bias| bias.holds("bias", Some(experts)))?;
        if routing.groups == 0 || !experts.is_multiple_of(routing.groups) {
            return Err(KernelError { what: "groups", expected: experts, got: routing.groups }.into());
        }
        if routing.experts_kept != slots.kept {
            return Err(KernelError { what: "experts kept", expected: slots.kept, got: routing.experts_kept }.into());
        }
        slots.rows = rows;
        let bias_argument = || bias.map_or(Argument::Null, Memory::argument);
        let experts_argument = || int("experts", experts).map(Argument::Int);
        let mut pool = [Argument::Null, Argument::Null];
        if let Some(capacity) = routing.capacity {
            if blocks.rows != rows {
                return Err(KernelError { what: "rows of the blocks", expected: rows, got: blocks.rows }.into());
            }
            let arguments = [
                logits.argument(),
                bias_argument(),
                blocks.begin.argument(),
                experts_argument()?,
                Argument::Int(int("capacity", capacity)?),
                slots.admitted.argument(),
            ];
            // SAFETY: blocks tile the rows, so there are at most as many; `admitted` has rows * experts.
            unsafe { self.launch("admit", [blocks.blocks, 1, 1], 256, experts, &arguments)? };
            pool = [slots.admitted.argument(), blocks.block_of.argument()];
        }
        let [admitted, block_of] = pool;
        let arguments = [
            logits.argument(),
            bias_argument(),
            admitted,
            block_of,
            experts_argument()?,
            Argument::Int(int("groups", routing.groups)?),
            Argument::Int(int("groups kept", routing.groups_kept.max(1))?),
            Argument::Int(int("kept", slots.kept)?),
            Argument::Int(i32::from(routing.normalize)),
            Argument::Float(routing.scale),
            slots.choice.argument(),
            slots.weight.argument(),
        ];
        let shared = 3 * experts + 2 * routing.groups + 2 * slots.kept;
        // SAFETY: lengths are checked above.
        unsafe { self.launch("route", [rows, 1, 1], 256, shared, &arguments)? };
        let arguments = [
            slots.choice.argument(),
            Argument::Int(int("rows", rows)?),
            Argument::Int(int("kept", slots.kept)?),
            experts_argument()?,
            slots.offsets.argument(),
            slots.row_of.argument(),
            slots.slot_of.argument(),
        ];
        // SAFETY: all of `slots` was made for as many; choices are experts or -1.
        unsafe { self.launch("group_by_expert", [1, 1, 1], 256, experts + 1 + 1024, &arguments) }
    }

    /// `out[rows, d]`: each token's weighted sum of its slots of `y[slots, d]`, plus `shared[rows, d]`.
    ///
    /// # Errors
    /// When some memory is too small.
    pub fn combine(
        &self,
        y: &Memory<D, f32>,
        slots: &Slots<D>,
        shared: Option<&Memory<D, f32>>,
        d: usize,
        out: &mut Memory<D, f32>,
    ) -> Result<(), DeviceError> {
        y.holds("y", slots.len().checked_mul(d))?;
        let elements = slots.rows.checked_mul(d);
        shared.map_or(Ok(()), |shared| shared.holds("shared", elements))?;
        out.holds("out", elements)?;
        let arguments = [
            y.argument(),
            slots.slot_of.argument(),
            slots.weight.argument(),
            shared.map_or(Argument::Null, Memory::argument),
            Argument::Int(int("kept", slots.kept)?),
            Argument::Int(int("d", d)?),
            out.argument(),
        ];
        // SAFETY: lengths are checked above; slots are below rows * kept.
        unsafe { self.launch("combine", [slots.rows, 1, 1], 256, 0, &arguments) }
    }
}
