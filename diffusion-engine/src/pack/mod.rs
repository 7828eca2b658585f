//! `weir model pack`: a checkpoint of any readable form as one file of packed weights, made to be mapped to memory.
//! [`plan`] says which tensors go where, [`write`] puts them there, piece by piece, and can go on where it was cut off.
//! Must never change the source, and never leave a file under its final name that is not whole.

mod plan;
mod write;

use std::path::{Path, PathBuf};

use crate::checkpoint::open::Checkpoint;
use crate::checkpoint::source;
use crate::error::LoadError;
use crate::model::recipe::Recipe;
use crate::options::ModelFiles;

/// Why packing failed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The source is wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A number cannot be stored so.
    #[error("tensor `{tensor}`: {source}")]
    Number {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        source: weir_kernels::packed::EncodeError,
    },
    /// The output cannot be written.
    #[error("cannot write {}: {source}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How far [`pack`] is.
#[derive(Debug, Clone, Copy)]
pub struct PackProgress<'a> {
    /// The tensor that was written.
    pub tensor: &'a str,
    /// Bytes of the output that are there.
    pub done: u64,
    /// Bytes of the output.
    pub total: u64,
    /// Whether it was there already, from a call that was cut off.
    pub kept: bool,
}

/// What [`pack`] made.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The file of weights; config and tokenizer lie beside it.
    pub file: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Tensors in it.
    pub tensors: usize,
}

/// Packs the checkpoint `from`, a folder or a GGUF file, into the folder `to`. What an earlier call with the same source
/// and recipe has written there is checked and kept.
///
/// # Errors
/// Names the file and the tensor that is wrong.
pub fn pack(
    from: &Path,
    to: &Path,
    recipe: &Recipe,
    mut progress: impl FnMut(PackProgress<'_>),
) -> Result<Packed, PackError> {
    let checkpoint = Checkpoint::open(ModelFiles::Dir(from.to_path_buf()))?;
    let config = checkpoint.config()?;
    let papers = checkpoint.papers()?;
    let mut weights = checkpoint.weights()?;
    let plan = plan::Plan::new(&config, &mut weights, recipe, source::fingerprint(from))?;
    let failed = |file: &Path| {
        let file = file.to_path_buf();
        move |source| PackError::Write { file, source }
    };
    std::fs::create_dir_all(to).map_err(failed(to))?;
    for (name, bytes) in papers {
        let file = to.join(name);
        std::fs::write(&file, &*bytes.bytes).map_err(failed(&file))?;
    }
    let file = to.join(source::PACKED);
    let bytes = write::write(&plan, &mut weights, &file, &mut progress)?;
    Ok(Packed { file, bytes, tensors: plan.items.len() })
}
