//! What the launchers need of a device: memory, copies, launches, in order. Must never know a kernel's meaning.

use crate::error::KernelError;

/// Why something on the device failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A shape does not fit; nothing was launched.
    #[error(transparent)]
    Shape(#[from] KernelError),
    /// The device refused or broke.
    #[error("{what}: {message}")]
    Device {
        /// What was tried.
        what: String,
        /// What the driver said, and the fix where one is known.
        message: String,
    },
}

/// How many blocks and threads, and how much shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in x, y, z.
    pub blocks: [u32; 3],
    /// Threads of a block: whole warps, at most 256.
    pub threads: u32,
    /// Bytes of shared memory of a block.
    pub shared_bytes: u32,
}

/// One parameter of a kernel.
#[derive(Debug)]
pub enum Argument<'a, B> {
    /// Memory of the device.
    Memory(&'a B),
    /// The null pointer.
    Null,
    /// An `int`.
    Int(i32),
    /// A `float`.
    Float(f32),
}

/// A GPU, or what stands in for one in tests. Work is done in the order it was asked for.
pub trait Device {
    /// Memory of the device; freed when dropped.
    type Buffer;

    /// Its name, for people.
    fn name(&self) -> String;

    /// Memory filled with zeros, aligned to 256 bytes.
    ///
    /// # Errors
    /// When there is not so much.
    fn alloc(&self, bytes: usize) -> Result<Self::Buffer, DeviceError>;

    /// Copies `bytes` to the device, `at` bytes behind the buffer's start.
    ///
    /// # Errors
    /// When the range is not inside the buffer, or the device breaks.
    fn upload(&self, to: &mut Self::Buffer, at: usize, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Copies from `at` bytes behind the buffer's start, after all work before has ended.
    ///
    /// # Errors
    /// When the range is not inside the buffer, or the device breaks.
    fn download(&self, from: &Self::Buffer, at: usize, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Starts a kernel of `kernels/cuda`.
    ///
    /// # Safety
    /// The arguments are the kernel's, in its order, each buffer as large as the kernel reads and writes, and the indices
    /// in them inside what they index.
    ///
    /// # Errors
    /// When the device refuses.
    unsafe fn launch(
        &self,
        kernel: &str,
        grid: Grid,
        arguments: &[Argument<'_, Self::Buffer>],
    ) -> Result<(), DeviceError>;
}
