//! Many requests, one model: [`queue`] (who waits), [`planner`] (who is next, who reads how much of its prompt in a
//! step), [`pace`] (how long the wait will be), [`lane`] (one running request: what it feeds, what it commits),
//! [`writer`] and [`scorer`] (what it does with the logits), [`watch`] (what it shows meanwhile), [`answer`] (its
//! text and how it ends), [`runner`] (the thread: join, leave, one forward, repeat). Must never run two forwards at
//! once or let one request's failure end another's.

pub(crate) mod answer;
pub(crate) mod lane;
pub(crate) mod pace;
pub(crate) mod planner;
pub(crate) mod queue;
mod rows;
pub(crate) mod runner;
pub(crate) mod scorer;
#[cfg(test)]
mod tests;
pub(crate) mod token_writer;
pub(crate) mod watch;
pub(crate) mod window;
pub(crate) mod writer;

use std::sync::Arc;

use weir_kernels::Kernels;
use weir_protocol::EngineError;

use crate::cache::Pool;
use crate::checkpoint::tokenizer::TextTokenizer;
use crate::model::forward::Lane as LaneInput;
use crate::model::head::Predictions;
use crate::processor::Processor;

/// What the scheduler needs of a model; tests script it.
pub(crate) trait Forward: Send + 'static {
    /// See [`Processor::forward`].
    fn forward(&self, lanes: &mut [LaneInput<'_>]) -> Result<Predictions, EngineError>;
    /// Takes predictions back that were read, if it has a use for their memory.
    fn take_back(&self, _predictions: Predictions) {}
    /// For picking candidates.
    fn kernels(&self) -> &'static Kernels;
    /// Elements of a row of logits.
    fn vocab(&self) -> usize;
    /// For the answers' text.
    fn tokenizer(&self) -> &TextTokenizer;
}

/// What all requests of an engine share, besides the model.
pub(crate) struct Limits {
    /// The K/V memory.
    pub(crate) pool: Arc<Pool>,
    /// Prompt tokens read in one step, so that a long prompt does not hold up the others.
    pub(crate) step_tokens: usize,
}

/// A loaded checkpoint as the scheduler runs it.
pub(crate) struct Loaded {
    pub(crate) model: Processor,
    pub(crate) tokenizer: Arc<TextTokenizer>,
}

impl Forward for Loaded {
    fn forward(&self, lanes: &mut [LaneInput<'_>]) -> Result<Predictions, EngineError> {
        let predictions = self.model.forward(lanes);
        predictions.map_err(|error| EngineError::internal(format!("the forward failed: {error}")))
    }

    fn take_back(&self, predictions: Predictions) {
        self.model.take_back(predictions);
    }

    fn kernels(&self) -> &'static Kernels {
        self.model.kernels()
    }

    fn vocab(&self) -> usize {
        self.model.config().vocab
    }

    fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }
}
