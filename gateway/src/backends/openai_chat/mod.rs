//! OpenAI chat completions as an upstream, and the many servers that speak them; some have OpenAI's older completions too.

mod calls;
pub(super) mod chunk;
pub(super) mod compose;
mod ending;
pub(super) mod logprobs;
mod mends;
mod parts;
mod text_piece;
mod turns;

use weir_protocol::{ChatRequest, Dialect, EngineError};

use super::upstream::{Decoder, Wire};
use crate::config::BackendSettings;
use crate::config::wire::WireSettings;
use chunk::ChunkDecoder;
pub(crate) use text_piece::Alike;

/// How to talk to one such upstream.
pub(super) struct OpenAiChat {
    window: u64,
    wire: WireSettings,
}

impl OpenAiChat {
    pub(super) fn new(settings: &BackendSettings) -> Self {
        OpenAiChat { window: settings.context_tokens, wire: settings.wire.clone() }
    }

    /// Whether its own completions answer.
    fn completes(&self, request: &ChatRequest) -> bool {
        self.wire.completions && request.is_in(Dialect::OpenAiCompletions)
    }
}

impl Wire for OpenAiChat {
    fn path(&self, request: &ChatRequest) -> &'static str {
        if self.completes(request) { "/completions" } else { "/chat/completions" }
    }

    fn body(&self, request: &ChatRequest, model: &str) -> Result<Vec<u8>, EngineError> {
        match self.completes(request) {
            true => compose::forwarded(request, model, &self.wire),
            false => compose::body(request, model, &self.wire),
        }
    }

    fn decoder(&self, model: &str, alike: bool) -> Box<dyn Decoder> {
        Box::new(ChunkDecoder::new(model, self.window, alike))
    }

    fn speaks(&self, request: &ChatRequest) -> bool {
        self.completes(request) || request.is_in(Dialect::OpenAiChat)
    }
}
