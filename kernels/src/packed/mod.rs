//! Weights in few bits, in a layout made for the product that reads it, and that product: [`format`](Format) (how they
//! lie), `encode` and `decode` (numbers to bytes and back), [`Inputs`] (activations, quantised once per use),
//! [`PackedKernels`] (the loops of one instruction set), [`Team`] (the threads), [`experts`] (a whole expert layer).
//! Must never know a model, a file or a request.
//!
//! A product is a chain per output: for each block of 32 inputs an exact integer dot product, scaled and added in f32,
//! blocks ascending. So a row's result depends neither on the rows beside it nor on the thread that computes it.

mod alone;
mod attention;
pub mod cores;
mod decode;
mod encode;
pub mod experts;
mod format;
pub mod head;
mod inputs;
mod matrix;
mod product;
mod registry;
mod roofline;
mod rows;
mod shared;
mod team;

pub use alone::Alone;
pub use encode::{Block, EncodeError};
pub use format::{BLOCK, Format, STRIP};
pub use inputs::Inputs;
pub use matrix::{Bytes, PackedWeights};
pub use product::{PackedKernels, Products};
pub use registry::{PackedEntry, all, best};
pub use roofline::Roofline;
pub use team::{Team, ThreadScratch};

pub(crate) use format::GROUP;
pub(crate) use inputs::View;
