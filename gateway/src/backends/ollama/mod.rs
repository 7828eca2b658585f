//! Ollama's own API as an upstream. Nobody speaks it to us, so its body is always built anew.

mod compose;
mod decode;

use weir_protocol::{ChatRequest, EngineError};

use super::upstream::frames::Framing;
use super::upstream::{Decoder, Wire};
use crate::config::BackendSettings;
use crate::config::wire::WireSettings;

/// How to talk to one such upstream.
pub(super) struct Ollama {
    window: u64,
    wire: WireSettings,
}

impl Ollama {
    pub(super) fn new(settings: &BackendSettings) -> Self {
        Ollama { window: settings.context_tokens, wire: settings.wire.clone() }
    }
}

impl Wire for Ollama {
    fn path(&self, _: &ChatRequest) -> &'static str {
        "/api/chat"
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn body(&self, request: &ChatRequest, model: &str) -> Result<Vec<u8>, EngineError> {
        compose::body(request, model, &self.wire)
    }

    fn decoder(&self, model: &str, _: bool) -> Box<dyn Decoder> {
        Box::new(decode::LineDecoder::new(model, self.window))
    }
}
