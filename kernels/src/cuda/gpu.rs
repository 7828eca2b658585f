//! A device with typed memory: lengths are counted in elements and checked here. Must never hand out bytes of another
//! type than were put in.

use std::marker::PhantomData;

use super::device::{Argument, Device, DeviceError, Grid};
use crate::error::KernelError;

/// Element types the kernels know.
pub trait Element: Copy + Default + sealed::Plain {}
impl Element for f32 {}
impl Element for i32 {}
impl Element for u16 {}
impl Element for u8 {}

mod sealed {
    /// # Safety
    /// Only for types without padding, for which every bit pattern is a value.
    pub unsafe trait Plain {}
    // SAFETY: numbers.
    unsafe impl Plain for f32 {}
    // SAFETY: numbers.
    unsafe impl Plain for i32 {}
    // SAFETY: numbers.
    unsafe impl Plain for u16 {}
    // SAFETY: numbers.
    unsafe impl Plain for u8 {}
}

/// `length` elements on a device.
pub struct Memory<D: Device, T> {
    pub(super) buffer: D::Buffer,
    length: usize,
    element: PhantomData<T>,
}

impl<D: Device, T> std::fmt::Debug for Memory<D, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("length", &self.length).finish_non_exhaustive()
    }
}

impl<D: Device, T> Memory<D, T> {
    /// Elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// As an argument of a kernel.
    pub(super) fn argument(&self) -> Argument<'_, D::Buffer> {
        Argument::Memory(&self.buffer)
    }

    /// `Ok` when there are at least `needed` elements (`None`: more than can be counted).
    pub(super) fn holds(&self, what: &'static str, needed: Option<usize>) -> Result<(), KernelError> {
        match needed {
            Some(needed) if needed <= self.length => Ok(()),
            _ => Err(KernelError { what, expected: needed.unwrap_or(usize::MAX), got: self.length }),
        }
    }
}

/// A device and the launchers of its kernels.
#[derive(Debug)]
pub struct Gpu<D> {
    pub(super) device: D,
}

impl<D: Device> Gpu<D> {
    /// Wraps a device.
    pub fn new(device: D) -> Self {
        Gpu { device }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// `length` zeros.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn zeros<T: Element>(&self, length: usize) -> Result<Memory<D, T>, DeviceError> {
        let bytes = length.checked_mul(size_of::<T>());
        let bytes = bytes.ok_or(KernelError { what: "memory", expected: usize::MAX, got: length })?;
        let buffer = self.device.alloc(bytes.max(16))?;
        Ok(Memory { buffer, length, element: PhantomData })
    }

    /// `values` on the device.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn upload<T: Element>(&self, values: &[T]) -> Result<Memory<D, T>, DeviceError> {
        let mut memory = self.zeros(values.len())?;
        self.write(&mut memory, 0, values)?;
        Ok(memory)
    }

    /// Writes `values` from element `at` on.
    ///
    /// # Errors
    /// When they do not fit in.
    pub fn write<T: Element>(&self, to: &mut Memory<D, T>, at: usize, values: &[T]) -> Result<(), DeviceError> {
        to.holds("memory", at.checked_add(values.len()))?;
        if values.is_empty() {
            return Ok(());
        }
        // SAFETY: numbers without padding (`Plain`), so their bytes can be read.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
        self.device.upload(&mut to.buffer, at * size_of::<T>(), bytes)
    }

    /// Reads `values` from element `at` on.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn read<T: Element>(&self, from: &Memory<D, T>, at: usize, values: &mut [T]) -> Result<(), DeviceError> {
        from.holds("memory", at.checked_add(values.len()))?;
        if values.is_empty() {
            return Ok(());
        }
        let length = size_of_val(values);
        // SAFETY: numbers for which every bit pattern is a value (`Plain`), so their bytes can be written.
        let bytes = unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), length) };
        self.device.download(&from.buffer, at * size_of::<T>(), bytes)
    }

    /// All of `from`.
    ///
    /// # Errors
    /// When the device breaks.
    pub fn read_all<T: Element>(&self, from: &Memory<D, T>) -> Result<Vec<T>, DeviceError> {
        let mut values = vec![T::default(); from.length];
        self.read(from, 0, &mut values)?;
        Ok(values)
    }

    /// # Safety
    /// As for [`Device::launch`]; checked by the launcher that calls this.
    pub(super) unsafe fn launch(
        &self,
        kernel: &str,
        blocks: [usize; 3],
        threads: u32,
        shared_words: usize,
        arguments: &[Argument<'_, D::Buffer>],
    ) -> Result<(), DeviceError> {
        if blocks.contains(&0) {
            return Ok(());
        }
        // A GPU takes 2^31 - 1 blocks in x, 65,535 in y and z.
        for (count, most) in blocks.into_iter().zip([i32::MAX as usize, 65_535, 65_535]) {
            if count > most {
                return Err(KernelError { what: "blocks", expected: most, got: count }.into());
            }
        }
        let shared_bytes = int("shared memory", shared_words.saturating_mul(4))? as u32;
        let grid = Grid { blocks: blocks.map(|count| count as u32), threads, shared_bytes };
        // SAFETY: passed on to the caller.
        unsafe { self.device.launch(kernel, grid, arguments) }
    }
}

/// A count as the kernels take it.
pub(super) fn int(what: &'static str, value: usize) -> Result<i32, KernelError> {
    i32::try_from(value).map_err(|_| KernelError { what, expected: i32::MAX as usize, got: value })
}
