//! Looks at a checkpoint without running it: [`report`] from headers alone, [`verify`] by reading every number once.
//! Must never load weights into a model.

mod report;
mod verify;

pub use crate::checkpoint::source::{fingerprint, gguf_inside};
pub use report::{ModelReport, Precision, TypeShare, inspect};
pub use verify::{Progress, verify};
