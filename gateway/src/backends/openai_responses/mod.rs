//! OpenAI responses as an upstream.

mod compose;
mod decode;
mod unsealed;

#[cfg(test)]
mod tests;

use serde_json::Value;
use weir_protocol::{ChatRequest, Dialect, EngineError};

use super::upstream::body::forwarded;
use super::upstream::demands::refuse_own_forms;
use super::upstream::{Decoder, Wire};
use crate::config::BackendSettings;
use crate::config::wire::WireSettings;

/// How to talk to one such upstream.
pub(super) struct OpenAiResponses {
    window: u64,
    wire: WireSettings,
}

impl OpenAiResponses {
    pub(super) fn new(settings: &BackendSettings) -> Self {
        OpenAiResponses { window: settings.context_tokens, wire: settings.wire.clone() }
    }
}

impl Wire for OpenAiResponses {
    fn path(&self, _: &ChatRequest) -> &'static str {
        "/responses"
    }

    fn body(&self, request: &ChatRequest, model: &str) -> Result<Vec<u8>, EngineError> {
        if request.is_in(Dialect::OpenAiResponses) {
            refuse_own_forms(request)?;
            // What callers get has an id of ours, so nothing kept there could be found again.
            let mut ours = vec![
                ("model", model.into()),
                ("stream", (request.stream || self.wire.stream_whole).into()),
                ("store", Value::Bool(false)),
            ];
            ours.extend(self.unsealed(request));
            return forwarded(request, &ours);
        }
        compose::body(request, model, &self.wire)
    }

    fn decoder(&self, model: &str, alike: bool) -> Box<dyn Decoder> {
        Box::new(decode::EventDecoder::new(model, self.window, alike))
    }

    fn speaks(&self, request: &ChatRequest) -> bool {
        request.is_in(Dialect::OpenAiResponses)
    }

    fn counts_at(&self) -> Option<&'static str> {
        Some("/responses/input_tokens")
    }

    fn unsealed(&self, request: &ChatRequest) -> Option<(&'static str, Value)> {
        unsealed::without(&request.raw).map(|input| ("input", input))
    }
}
