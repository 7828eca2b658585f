//! Reads every number of a checkpoint once and collects all that is wrong, a bounded piece in memory at a time.

use std::path::Path;

use sha2::{Digest, Sha256};
use weir_kernels::PackedMatrix;

use crate::checkpoint::open::Checkpoint;
use crate::checkpoint::source::{self, hex};
use crate::checkpoint::tensors::{Listed, Weights, tensor_error};
use crate::dense::weights::DenseModel;
use crate::error::LoadError;
use crate::model::matrix::Matrix;
use crate::model::weights::{TensorSource, walk};
use crate::options::ModelFiles;

/// Most faults listed: a config may name millions of tensors that a small file does not have.
const MOST_FAULTS: usize = 1000;

/// How far [`verify`] is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The tensor that was read, by its published name.
    pub tensor: &'a str,
    /// Bytes of tensors read so far.
    pub done: u64,
    /// Bytes of all tensors.
    pub total: u64,
}

/// Everything that is wrong with the checkpoint at `path`, a folder or a GGUF file: a part that cannot be read, a
/// tensor that is missing, has another shape, holds a number that is not finite, or belongs to nothing. Empty when an
/// engine can load it. At most 1000 faults are listed.
pub fn verify(path: &Path, mut progress: impl FnMut(Progress<'_>)) -> Vec<LoadError> {
    let mut faults = Vec::new();
    let checkpoint = match Checkpoint::open(ModelFiles::Dir(path.to_path_buf())) {
        Ok(checkpoint) => checkpoint,
        Err(fault) => return vec![fault],
    };
    let config = match checkpoint.config() {
        Ok(config) => Some(config),
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    if let Some(config) = &config {
        match checkpoint.tokenizer(config) {
            Ok(tokenizer) => faults.extend(checkpoint.template(&tokenizer).err()),
            Err(fault) => faults.push(fault),
        }
    }
    let weights = match checkpoint.weights() {
        Ok(weights) => weights,
        Err(fault) => {
            faults.push(fault);
            return faults;
        }
    };
    let Some(config) = config else { return faults };
    if config.dense.is_some() {
        // A load looks at every tensor; the blocks' own numbers are not judged.
        faults.extend(DenseModel::load(config, weights).err());
        return faults;
    }
    let total = weights.list().map(|tensor| tensor.bytes).sum();
    let mut reading = Reading { weights, faults, progress: &mut progress, done: 0, total };
    // It stops early only when the list of faults is full.
    let _ = walk(&config, &mut reading);
    let Reading { weights, mut faults, .. } = reading;
    faults.extend(wrong_sums(path, &weights));
    faults.extend(weights.unread());
    faults.truncate(MOST_FAULTS);
    faults
}

/// Tensors of a packed file that are not what was written.
fn wrong_sums(path: &Path, weights: &Weights) -> Vec<LoadError> {
    let sums = match source::sums(path) {
        Ok(Some(sums)) => sums,
        Ok(None) => return Vec::new(),
        Err(fault) => return vec![fault],
    };
    let judge = |tensor: Listed<'_>| {
        let message = match (sums.get(tensor.name), weights.stored(tensor.name)) {
            (Some(sum), Some(bytes)) if *sum == hex(&Sha256::digest(bytes)) => return None,
            (Some(_), _) => "its bytes are not those that were written: the checksum differs",
            (None, _) => "has no line in the list of checksums",
        };
        Some(tensor_error(tensor.file, tensor.name, message))
    };
    weights.list().filter_map(judge).take(MOST_FAULTS).collect()
}

/// Takes part in the walk over the architecture as a model's load does, but keeps faults instead of numbers.
struct Reading<'a> {
    weights: Weights,
    faults: Vec<LoadError>,
    progress: &'a mut dyn FnMut(Progress<'_>),
    done: u64,
    total: u64,
}

impl TensorSource for Reading<'_> {
    fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }

    fn values(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Vec<f32>, LoadError> {
        match self.weights.check(name, shape, part) {
            Ok(bytes) => self.done += bytes,
            // A merged tensor of the wrong shape would say the same for every expert.
            Err(_) if part.is_some_and(|part| part > 0) && self.weights.has_shape(name, shape) == Some(false) => {}
            Err(fault) if self.faults.len() < MOST_FAULTS => self.faults.push(fault),
            Err(fault) => return Err(fault),
        }
        (self.progress)(Progress { tensor: name, done: self.done, total: self.total });
        Ok(Vec::new())
    }

    fn matrix(&mut self, name: &str, shape: &[usize], part: Option<usize>) -> Result<Matrix, LoadError> {
        self.values(name, shape, part)?;
        let nothing = PackedMatrix::pack(&[], 0, 0).map(Matrix::Exact);
        nothing.map_err(|error| tensor_error("weights", name, &error.to_string()))
    }
}
