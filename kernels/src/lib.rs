//! The maths the engine runs on: pure functions over slices. Must never know a model, a file or a request.
//!
//! Reading order: [`panel`] (how weights lie in memory) and [`kv`] (how keys and values do) → [`registry`] (which kernels
//! this CPU has) → [`kernels`] (the checked functions callers use) → `ops` (the loops) → `simd` (the vectors they run on) →
//! [`packed`] (weights in 4, 8 and 16 bits, and the threads) → [`route`] (choice of experts, plain code). [`cuda`] is the
//! GPU's side.

pub mod cuda;
mod error;
pub mod kernels;
pub mod kv;
mod ops;
pub mod packed;
pub mod panel;
pub mod registry;
pub mod route;
mod simd;

pub use error::KernelError;
pub use kernels::{AttentionShape, Kernels, Strided, Top1, Visible};
pub use kv::KvPanel;
pub use panel::{PANEL, PackedMatrix};
