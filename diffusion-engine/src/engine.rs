//! The handle callers hold.

use std::path::Path;
use std::sync::Arc;

use weir_protocol::{ChatRequest, EngineError};

use crate::error::LoadError;
use crate::generation::Generation;
use crate::options::{EngineLoad, EngineOptions, ModelFiles, ModelInfo};

/// A loaded model with its own thread. Cheap to clone; the thread ends when the last clone is gone and the last
/// answer has ended.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<ModelInfo>,
}

impl Engine {
    /// Reads and checks every file, then starts the engine's thread.
    ///
    /// # Errors
    /// Names the file and the tensor or field that is wrong.
    pub fn load(_files: ModelFiles, _options: EngineOptions) -> Result<Engine, LoadError> {
        Err(LoadError::Weights { file: "model.safetensors".into(), message: "the engine is not built yet".into() })
    }

    /// The model this engine holds.
    pub fn info(&self) -> &ModelInfo {
        &self.inner
    }

    /// Tokens the rendered prompt of `request` has.
    pub fn count_prompt_tokens(&self, _request: &ChatRequest) -> Result<u32, EngineError> {
        Err(EngineError::internal("not built yet"))
    }

    /// Starts an answer.
    pub fn generate(&self, _request: &ChatRequest) -> Result<Generation, EngineError> {
        Err(EngineError::internal("not built yet"))
    }

    /// What the engine is busy with now.
    pub fn load_now(&self) -> EngineLoad {
        EngineLoad::default()
    }
}

/// Why [`logits_for`] or [`logits_file`] failed.
#[derive(Debug, thiserror::Error)]
pub enum LogitsError {
    /// The checkpoint is wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The ids are wrong.
    #[error("input_ids: {0}")]
    Input(String),
}

/// The logits of `input_ids`, `[len, vocab]` f32.
pub fn logits_for(_dir: &Path, _input_ids: &[u32], _block_length: usize, _use_cache: bool) -> Result<Vec<f32>, LogitsError> {
    Err(LogitsError::Input("not built yet".into()))
}

/// Reads tensor `input_ids` (i32, i64 or u32, one dimension) from `input`, writes tensor `logits` (`[len, vocab]`,
/// f32) to `output`.
pub fn logits_file(_dir: &Path, _input: &Path, _output: &Path, _block_length: usize, _use_cache: bool) -> Result<(), LogitsError> {
    Err(LogitsError::Input("not built yet".into()))
}
