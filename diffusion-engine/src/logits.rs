//! A checkpoint's raw logits for given token ids, for people who check a conversion. Must never round or reorder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use weir_kernels::KernelError;

use crate::cache::KvCache;
use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::open::Checkpoint;
use crate::checkpoint::source::{self, WeightFiles};
use crate::checkpoint::tensors::Weights;
use crate::dense::weights::DenseModel;
use crate::error::LoadError;
use crate::model::forward::{Lane, Visibility};
use crate::model::head::{Predictions, Wanted};
use crate::model::recipe::Recipe;
use crate::model::weights::Model;
use crate::options::{EngineKind, KvType, ModelFiles};

/// Why [`logits_for`] or [`logits_file`] failed.
#[derive(Debug, thiserror::Error)]
pub enum LogitsError {
    /// The checkpoint or the input file is wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The ids or the block length are wrong.
    #[error("{field}: {message}")]
    Input {
        /// `input_ids` or `block_length`.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The forward refused.
    #[error("the forward failed: {0}")]
    Forward(#[from] KernelError),
    /// The output cannot be written.
    #[error("cannot write {}: {message}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        message: String,
    },
}

/// A model that gives raw logits, without tokenizer and scheduler.
pub struct LogitsModel(Kind, KvType);

enum Kind {
    Mixed(Box<Model>),
    Dense(Box<DenseModel>),
}

impl Kind {
    fn config(&self) -> &ModelConfig {
        match self {
            Kind::Mixed(model) => &model.config,
            Kind::Dense(model) => &model.config,
        }
    }
}

impl std::fmt::Debug for LogitsModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogitsModel").field(self.0.config()).finish()
    }
}

impl LogitsModel {
    /// Loads config and weights of the folder or GGUF file at `path`.
    ///
    /// # Errors
    /// Names the file and the tensor or field that is wrong.
    pub fn open(path: &Path) -> Result<LogitsModel, LoadError> {
        let checkpoint = Checkpoint::open(ModelFiles::Dir(path.to_path_buf()))?;
        let (config, weights) = (checkpoint.config()?, checkpoint.weights()?);
        Ok(LogitsModel(
            match config.dense {
                Some(_) => Kind::Dense(Box::new(DenseModel::load(config, weights)?)),
                None => Kind::Mixed(Box::new(Model::load(config, weights, Recipe::EXACT)?)),
            },
            KvType::default(),
        ))
    }

    /// The same model with its keys and values stored so.
    pub fn with_kv(self, kind: KvType) -> LogitsModel {
        LogitsModel(self.0, kind)
    }

    /// The same model, a block visiting `pool` experts of a layer only, chosen as LLaDA2.2 does.
    pub fn with_pool(self, pool: Option<usize>) -> LogitsModel {
        LogitsModel(
            match self.0 {
                Kind::Mixed(model) => Kind::Mixed(Box::new(model.with_pool(pool))),
                dense @ Kind::Dense(_) => dense,
            },
            self.1,
        )
    }

    /// The logits of `input_ids`, `[len, vocab]` f32, row i at position i (a diffusion model's row i is about token i
    /// itself, an autoregressive one's about token i + 1). With `use_cache`, `block_length` tokens are fed at a time
    /// against the cache of those before; without, all at once. Both give the same up to rounding.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, or there are more ids than positions.
    pub fn logits(&self, input_ids: &[u32], block_length: usize, use_cache: bool) -> Result<Vec<f32>, LogitsError> {
        let (mut cache, visibility) = self.begin(input_ids, block_length)?;
        let step = if use_cache { block_length } else { input_ids.len().max(1) };
        let mut logits = Vec::new();
        for tokens in input_ids.chunks(step) {
            let (wanted, cached) = (Wanted::All, &mut cache);
            let lane = Lane { tokens, computed: None, logits_from: 0, wanted, cache: cached, visibility };
            logits.extend_from_slice(self.forward(lane)?.of_lane(0).0);
            cache.commit(tokens);
        }
        Ok(logits)
    }

    /// The logits of the last of `canvases`, for its `open` places (ascending), `[open, vocab]`, block by block as partial
    /// forwards make them: all of the first canvas, then of each later one what is open and what is new in it.
    ///
    /// # Errors
    /// As for [`LogitsModel::logits`], and when canvases differ in length.
    pub fn partial_logits(
        &self,
        canvases: &[&[u32]],
        open: &[usize],
        block_length: usize,
    ) -> Result<Vec<f32>, LogitsError> {
        let first = canvases.first().copied().unwrap_or_default();
        let last = canvases.last().copied().unwrap_or_default();
        if canvases.iter().any(|canvas| canvas.len() != first.len()) {
            return Err(LogitsError::Input { field: "canvases", message: "must be of one length".into() });
        }
        let (mut cache, visibility) = self.begin(first, block_length)?;
        canvases.iter().skip(1).try_for_each(|canvas| self.check(canvas))?;
        let mut logits = Vec::new();
        for start in (0..first.len()).step_by(block_length) {
            let block = start..(start + block_length).min(first.len());
            let part = |canvas: &[u32]| canvas.get(block.clone()).unwrap_or_default().to_vec();
            let asked: Vec<usize> = open.iter().filter(|at| block.contains(at)).map(|at| at - start).collect();
            let (mut before, mut rows) = (None::<Vec<u32>>, Vec::new());
            for tokens in canvases.iter().map(|canvas| part(canvas)) {
                let is_new = |at: &usize| before.as_ref().is_some_and(|before| before.get(*at) != tokens.get(*at));
                let computed: Vec<usize> = (0..tokens.len()).filter(|at| asked.contains(at) || is_new(at)).collect();
                let computed = before.is_some().then_some(&*computed);
                let (wanted, cache) = (Wanted::Logits(&asked), &mut cache);
                let lane = Lane { tokens: &tokens, computed, logits_from: 0, wanted, cache, visibility };
                rows = self.forward(lane)?.of_lane(0).0.to_vec();
                before = Some(tokens);
            }
            logits.extend(rows);
            let (tokens, wanted) = (part(last), Wanted::Logits(&[]));
            let lane = Lane { tokens: &tokens, computed: None, logits_from: 0, wanted, cache: &mut cache, visibility };
            self.forward(lane)?;
            cache.commit(&tokens);
        }
        Ok(logits)
    }

    fn forward(&self, lane: Lane<'_>) -> Result<Predictions, KernelError> {
        match &self.0 {
            Kind::Mixed(model) => model.forward(&mut [lane]),
            Kind::Dense(model) => model.forward(&mut [lane]),
        }
    }

    /// A cache for `input_ids`, and what they see of each other.
    fn begin(&self, input_ids: &[u32], block_length: usize) -> Result<(KvCache, Visibility), LogitsError> {
        if block_length == 0 {
            return Err(LogitsError::Input { field: "block_length", message: "must be at least 1".into() });
        }
        self.check(input_ids)?;
        let visibility = match self.0.config().kind {
            EngineKind::Diffusion => Visibility::Blocks(block_length),
            EngineKind::Autoregressive => Visibility::Causal,
        };
        let shape = match &self.0 {
            Kind::Mixed(model) => model.kv_shape(),
            Kind::Dense(model) => model.kv_shape(),
        };
        Ok((KvCache::alone(shape, self.1, input_ids.len()), visibility))
    }

    fn check(&self, input_ids: &[u32]) -> Result<(), LogitsError> {
        let config = self.0.config();
        let wrong = |message| Err(LogitsError::Input { field: "input_ids", message });
        if input_ids.len() > config.context {
            return wrong(format!("{} ids, the model takes {}", input_ids.len(), config.context));
        }
        match input_ids.iter().position(|id| *id as usize >= config.vocab) {
            Some(at) => wrong(format!("element {at} is outside the vocabulary of {}", config.vocab)),
            None => Ok(()),
        }
    }
}

/// [`LogitsModel::logits`] of the checkpoint at `path`, a folder or a GGUF file.
///
/// # Errors
/// As for [`LogitsModel`].
pub fn logits_for(
    path: &Path,
    input_ids: &[u32],
    block_length: usize,
    use_cache: bool,
) -> Result<Vec<f32>, LogitsError> {
    LogitsModel::open(path)?.logits(input_ids, block_length, use_cache)
}

/// Reads tensor `input_ids` (one dimension; I32, I64 or U32) from `input` and writes tensor `logits` (`[len, vocab]`,
/// F32) to `output`, both safetensors files. See [`logits_for`].
///
/// # Errors
/// As for [`logits_for`], and when a file cannot be read or written.
pub fn logits_file(
    path: &Path,
    input: &Path,
    output: &Path,
    block_length: usize,
    use_cache: bool,
) -> Result<(), LogitsError> {
    let input = WeightFiles { files: vec![source::map(input)?], index: None };
    let ids = Weights::open(input)?.take_ids("input_ids")?;
    let ids: Result<Vec<u32>, _> = ids.into_iter().map(u32::try_from).collect();
    let ids = ids.map_err(|_| LogitsError::Input { field: "input_ids", message: "ids must not be negative".into() })?;
    let logits = logits_for(path, &ids, block_length, use_cache)?;
    let failed = |message: String| LogitsError::Write { file: output.to_path_buf(), message };
    let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
    let shape = vec![ids.len(), logits.len() / ids.len().max(1)];
    let view = TensorView::new(Dtype::F32, shape, &bytes).map_err(|error| failed(error.to_string()))?;
    let tensors = HashMap::from([("logits", view)]);
    safetensors::serialize_to_file(&tensors, None, output).map_err(|error| failed(error.to_string()))
}
