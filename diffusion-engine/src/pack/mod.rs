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

use write::write_error;

/// Why packing failed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The source is wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The output would go among another checkpoint's files.
    #[error("{} holds {weights}, whose config and tokenizer would be overwritten: name a folder of its own", .folder.display())]
    Occupied {
        /// The folder to write into.
        folder: PathBuf,
        /// A file of weights in it.
        weights: String,
    },
    /// A number cannot be stored so.
    #[error("tensor `{tensor}`: {cause}")]
    Number {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        cause: weir_kernels::packed::EncodeError,
    },
    /// The output cannot be written.
    #[error("cannot write {}: {cause}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
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
    if config.dense.is_some() {
        let message = format!("`{}` is packed at each start: give [engine.ar] this file as it is", config.architecture);
        let field = "general.architecture".to_owned();
        return Err(LoadError::Config { file: from.display().to_string(), field, message }.into());
    }
    is_free(to)?;
    let papers = checkpoint.papers()?;
    let mut weights = checkpoint.weights()?;
    let plan = plan::Plan::new(&config, &mut weights, recipe, source::fingerprint(from))?;
    std::fs::create_dir_all(to).map_err(write_error(to))?;
    let file = to.join(source::PACKED);
    let mut output = write::write(&plan, &mut weights, &file, &mut progress)?;
    for (name, paper) in papers {
        output.put_beside(name, &paper.bytes)?;
    }
    output.finish()?;
    Ok(Packed { file, bytes: plan.total(), tensors: plan.items.len() })
}

/// Refuses a folder with another checkpoint's weights.
fn is_free(folder: &Path) -> Result<(), PackError> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    match names.find(|name| name.ends_with(".safetensors")) {
        Some(weights) => Err(PackError::Occupied { folder: folder.to_path_buf(), weights }),
        None => Ok(()),
    }
}
