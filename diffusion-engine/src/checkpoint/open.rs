//! A checkpoint in one of its two forms, a folder in the Hugging Face layout (or the same files in the program) and a
//! single GGUF file, behind one face. Must never interpret a value itself.

use crate::error::LoadError;
use crate::options::ModelFiles;

use super::config::ModelConfig;
use super::gguf::Gguf;
use super::source::{self, Named};
use super::template::ChatTemplate;
use super::tensors::Weights;
use super::tokenizer::TextTokenizer;
use super::{gguf_config, gguf_dense, gguf_tokenizer};

/// An opened checkpoint; parts are read when they are asked for.
pub(crate) enum Checkpoint {
    Files(ModelFiles),
    Gguf(Box<Gguf>),
}

impl Checkpoint {
    /// Opens a checkpoint; of a GGUF file, reads the header.
    pub(crate) fn open(files: ModelFiles) -> Result<Self, LoadError> {
        match files {
            // Whatever its name: other programs keep such files without an ending.
            ModelFiles::Dir(path) if !path.is_dir() => {
                Ok(Checkpoint::Gguf(Box::new(Gguf::parse(source::map(&path)?)?)))
            }
            files => Ok(Checkpoint::Files(files)),
        }
    }

    /// The model's shape.
    pub(crate) fn config(&self) -> Result<ModelConfig, LoadError> {
        match self {
            Checkpoint::Files(files) => ModelConfig::parse(&source::config(files)?),
            Checkpoint::Gguf(gguf) if gguf_dense::is_dense(gguf) => gguf_dense::config(gguf),
            Checkpoint::Gguf(gguf) => gguf_config::config(gguf),
        }
    }

    /// The tokenizer.
    pub(crate) fn tokenizer(&self, config: &ModelConfig) -> Result<TextTokenizer, LoadError> {
        match self {
            Checkpoint::Files(files) => TextTokenizer::parse(&source::tokenizer(files)?, config),
            Checkpoint::Gguf(gguf) => TextTokenizer::parse(&gguf_tokenizer::tokenizer(gguf)?, config),
        }
    }

    /// The chat template.
    pub(crate) fn template(&self, tokenizer: &TextTokenizer) -> Result<ChatTemplate, LoadError> {
        match self {
            Checkpoint::Files(files) => ChatTemplate::parse(&source::tokenizer_config(files)?, tokenizer),
            Checkpoint::Gguf(gguf) => ChatTemplate::parse(&gguf_tokenizer::tokenizer_config(gguf)?, tokenizer),
        }
    }

    /// Everything but the weights, as the files of the Hugging Face layout.
    pub(crate) fn papers(&self) -> Result<[(&'static str, Named); 3], LoadError> {
        let [config, tokenizer, tokenizer_config] = source::PAPERS;
        Ok(match self {
            Checkpoint::Files(files) => [
                (config, source::config(files)?),
                (tokenizer, source::tokenizer(files)?),
                (tokenizer_config, source::tokenizer_config(files)?),
            ],
            Checkpoint::Gguf(gguf) => [
                (config, gguf_config::file(gguf)?),
                (tokenizer, gguf_tokenizer::tokenizer(gguf)?),
                (tokenizer_config, gguf_tokenizer::tokenizer_config(gguf)?),
            ],
        })
    }

    /// The tensors, by their published names.
    pub(crate) fn weights(self) -> Result<Weights, LoadError> {
        match self {
            Checkpoint::Files(files) => Weights::open(source::weights(&files)?),
            Checkpoint::Gguf(gguf) => Weights::of_gguf(*gguf),
        }
    }
}
