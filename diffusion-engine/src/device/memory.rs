//! Memory a forward works in, kept from step to step and grown when a step is larger than any before. Must never be read
//! before it was written in the same forward.

use weir_kernels::cuda::experts::Slots;
use weir_kernels::cuda::{Device, DeviceError, Gpu, Memory};

/// One array, as large as it has ever had to be.
pub(super) struct Room<D: Device>(Option<Memory<D, f32>>);

impl<D: Device> Default for Room<D> {
    fn default() -> Self {
        Room(None)
    }
}

impl<D: Device> Room<D> {
    /// At least `length` elements.
    pub(super) fn of(&mut self, gpu: &Gpu<D>, length: usize) -> Result<&mut Memory<D, f32>, DeviceError> {
        let memory = match self.0.take().filter(|memory| memory.len() >= length) {
            Some(memory) => memory,
            None => gpu.zeros(length)?,
        };
        Ok(self.0.insert(memory))
    }
}

/// Everything a layer works in; `[rows, …]` each.
pub(super) struct Scratch<D: Device> {
    /// The residual stream, `[rows, hidden]`.
    pub(super) x: Room<D>,
    /// What is to be added to it, `[rows, hidden]`.
    pub(super) delta: Room<D>,
    pub(super) normed: Room<D>,
    pub(super) qkv: Room<D>,
    pub(super) q: Room<D>,
    pub(super) partial: Room<D>,
    pub(super) mixed: Room<D>,
    pub(super) scores: Room<D>,
    /// `[rows or slots, width]`.
    pub(super) inner: Room<D>,
    /// `[slots, hidden]`.
    pub(super) visited: Room<D>,
    pub(super) shared: Room<D>,
    pub(super) wanted: Room<D>,
    pub(super) logits: Room<D>,
    pub(super) slots: SlotsRoom<D>,
}

impl<D: Device> Default for Scratch<D> {
    fn default() -> Self {
        Scratch {
            x: Room::default(),
            delta: Room::default(),
            normed: Room::default(),
            qkv: Room::default(),
            q: Room::default(),
            partial: Room::default(),
            mixed: Room::default(),
            scores: Room::default(),
            inner: Room::default(),
            visited: Room::default(),
            shared: Room::default(),
            wanted: Room::default(),
            logits: Room::default(),
            slots: SlotsRoom(None),
        }
    }
}

/// Slots for the tokens of a step; all expert layers of a model have as many experts.
pub(super) struct SlotsRoom<D: Device>(Option<(usize, Slots<D>)>);

impl<D: Device> SlotsRoom<D> {
    /// For at least `rows` tokens.
    pub(super) fn of(
        &mut self,
        gpu: &Gpu<D>,
        rows: usize,
        experts: usize,
        kept: usize,
    ) -> Result<&mut Slots<D>, DeviceError> {
        let own = match self.0.take().filter(|(most, _)| *most >= rows) {
            Some(own) => own,
            None => (rows, Slots::new(gpu, rows, experts, kept)?),
        };
        Ok(&mut self.0.insert(own).1)
    }
}
