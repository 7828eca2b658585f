//! The built-in LLaDA2 block-diffusion engine and its AR twin.

mod engine;
mod error;
mod generation;
mod options;

pub use engine::{Engine, LogitsError, logits_file, logits_for};
pub use error::LoadError;
pub use generation::{Generation, GenerationEvent};
pub use options::{DecodeDefaults, DecoderKind, EngineKind, EngineLoad, EngineOptions, ModelFiles, ModelInfo};
