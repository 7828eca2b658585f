//! Anthropic messages as an upstream.

mod compose;
mod count;
mod decode;

pub use count::Counter;

use http::{HeaderName, HeaderValue};
use weir_protocol::{ChatRequest, Dialect, EngineError};

use super::upstream::body::forwarded;
use super::upstream::demands::refuse_own_forms;
use super::upstream::{Decoder, Wire};
use crate::config::BackendSettings;
use crate::config::settings::Secret;
use crate::config::wire::WireSettings;

/// The version of the API that is spoken here.
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// How to talk to one such upstream.
pub(super) struct Anthropic {
    window: u64,
    wire: WireSettings,
}

impl Anthropic {
    pub(super) fn new(settings: &BackendSettings) -> Self {
        Anthropic { window: settings.context_tokens, wire: settings.wire.clone() }
    }
}

impl Wire for Anthropic {
    fn path(&self, _: &ChatRequest) -> &'static str {
        "/messages"
    }

    fn key(&self, key: &Secret) -> (HeaderName, String) {
        (HeaderName::from_static("x-api-key"), key.expose().to_owned())
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        vec![(HeaderName::from_static("anthropic-version"), VERSION)]
    }

    fn body(&self, request: &ChatRequest, model: &str) -> Result<Vec<u8>, EngineError> {
        if request.is_in(Dialect::AnthropicMessages) {
            refuse_own_forms(request)?;
            let mut ours = vec![("model", model.into()), ("stream", (request.stream || self.wire.stream_whole).into())];
            if !request.raw.contains_key("max_tokens") {
                ours.push(("max_tokens", self.wire.max_tokens.into()));
            }
            return forwarded(&request.raw, &ours);
        }
        compose::body(request, model, &self.wire)
    }

    fn decoder(&self, model: &str) -> Box<dyn Decoder> {
        Box::new(decode::EventDecoder::new(model, self.window))
    }

    fn speaks(&self, request: &ChatRequest) -> bool {
        request.is_in(Dialect::AnthropicMessages)
    }
}
