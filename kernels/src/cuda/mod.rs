//! The GPU's side: `kernels/cuda/*.cu` and what launches them. Reading order: [`device`] (memory and launches, whoever
//! runs them) → [`format`] (how weights lie there) → [`gpu`] (typed memory) → [`products`], [`blocks`], [`experts`] (the
//! checked functions callers use) → [`driver`] (a real GPU, with the feature `cuda`).
//!
//! Everything above the driver is generic over [`Device`], so that tests run the whole path with the kernels compiled for
//! the host. None of it has run on a GPU yet (docs/cuda.md). Must never know a model or a request.

pub mod blocks;
pub mod device;
#[cfg(feature = "cuda")]
pub mod driver;
pub mod experts;
pub mod format;
pub mod gpu;
pub mod products;

pub use device::{Argument, Device, DeviceError, Grid};
pub use format::WeightFormat;
pub use gpu::{Gpu, Memory};
