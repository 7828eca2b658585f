//! The built-in LLaDA2 block-diffusion engine and its AR twin. Must never open a socket or know a wire dialect.
//!
//! Reading order: [`options`] and [`error`] (what goes in, how it fails) → `checkpoint` (files to checked values) →
//! `model` (one forward; `device`: the same on a GPU; `dense`: chat models of other families; `processor`: any of
//! them) with `cache` → `decode` (logits to tokens) and `constrain` (the form demanded of an answer) → `schedule` (many
//! requests, one model) → [`engine`], [`generation`] and [`steps`] (what callers hold) → [`inspect`] and [`logits`] (for
//! people who look at a checkpoint), [`pack`] (to make one smaller), [`speed`] (for those who measure).

mod cache;
mod checkpoint;
mod constrain;
mod decode;
mod dense;
#[cfg(any(test, feature = "cuda"))]
mod device;
pub mod engine;
pub mod error;
pub mod generation;
pub mod inspect;
pub mod logits;
mod model;
pub mod options;
pub mod pack;
mod processor;
mod schedule;
pub mod speed;
pub mod steps;

#[cfg(test)]
#[path = "../tests/suite/support.rs"]
mod test_files;

pub use decode::published::ChosenBy;
pub use decode::settings::DecodeSettings;
pub use engine::Engine;
pub use error::LoadError;
pub use generation::{Generation, GenerationEvent};
pub use logits::{LogitsError, LogitsModel, logits_file, logits_for};
pub use model::recipe::{Class, Recipe};
pub use options::{
    ComputeDevice, DecoderKind, DiffusionOptions, EngineKind, EngineLoad, EngineOptions, KvType, ModelFiles, ModelInfo,
    SharePrefixes,
};
pub use steps::{Cell, CellState, StepView};
pub use weir_kernels::cuda::WeightFormat;
