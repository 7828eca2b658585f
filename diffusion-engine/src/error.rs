//! How loading a checkpoint fails. Each error names the file and the tensor or field, because the person who reads it
//! has only the file. Must never quote file content beyond a name.

use std::path::PathBuf;

/// Why a checkpoint could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is missing or cannot be read.
    #[error("cannot read {}: {cause}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// `config.json`, or an engine option, is wrong.
    #[error("{file}: field `{field}`: {message}")]
    Config {
        /// The file, or `options`.
        file: String,
        /// The field, dotted.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// A weights file is wrong as a whole.
    #[error("{file}: {message}")]
    Weights {
        /// The file.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// A tensor is missing, wrong, or not known to the model.
    #[error("{file}: tensor `{tensor}`: {message}")]
    Tensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is wrong: expected and got.
        message: String,
    },
    /// `tokenizer.json` or `tokenizer_config.json` is wrong.
    #[error("{file}: field `{field}`: {message}")]
    Tokenizer {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// The engine's thread could not be started.
    #[error("cannot start the engine thread: {cause}")]
    Thread {
        /// What the system said.
        cause: std::io::Error,
    },
}
