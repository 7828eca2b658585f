//! OpenAI chat completions as an upstream, and the many servers that speak them.

mod calls;
pub(super) mod chunk;
pub(super) mod compose;

use weir_protocol::{ChatRequest, Dialect, EngineError};

use super::upstream::{Decoder, Wire};
use crate::config::BackendSettings;
use chunk::ChunkDecoder;

/// How to talk to one such upstream.
pub(super) struct OpenAiChat {
    window: u64,
    limit_field: &'static str,
}

impl OpenAiChat {
    pub(super) fn new(settings: &BackendSettings) -> Self {
        OpenAiChat { window: settings.context_tokens, limit_field: settings.wire.limit_field.as_str() }
    }
}

impl Wire for OpenAiChat {
    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn body(&self, request: &ChatRequest, model: &str) -> Result<Vec<u8>, EngineError> {
        compose::body(request, model, self.limit_field)
    }

    fn decoder(&self, model: &str) -> Box<dyn Decoder> {
        Box::new(ChunkDecoder::new(model, self.window))
    }

    fn dialect(&self) -> Option<Dialect> {
        Some(Dialect::OpenAiChat)
    }
}
