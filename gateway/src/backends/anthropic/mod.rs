//! Anthropic messages as an upstream.

mod compose;
mod decode;

use http::{HeaderName, HeaderValue};
use weir_protocol::{ChatRequest, Dialect, EngineError};

use super::upstream::body::forwarded;
use super::upstream::demands::refuse_own_forms;
use super::upstream::{Decoder, Wire};
use crate::config::BackendSettings;
use crate::config::settings::Secret;

/// The version of the API that is spoken here.
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// How to talk to one such upstream.
pub(super) struct Anthropic {
    window: u64,
    /// Asked for where the caller gives no limit: the API demands one.
    max_tokens: u32,
}

impl Anthropic {
    pub(super) fn new(settings: &BackendSettings) -> Self {
        Anthropic { window: settings.context_tokens, max_tokens: settings.wire.max_tokens }
    }
}

impl Wire for Anthropic {
    fn path(&self) -> &'static str {
        "/messages"
    }

    fn key(&self, key: &Secret) -> (HeaderName, String) {
        (HeaderName::from_static("x-api-key"), key.expose().to_owned())
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        vec![(HeaderName::from_static("anthropic-version"), VERSION)]
    }

    fn body(&self, request: &ChatRequest, model: &str) -> Result<Vec<u8>, EngineError> {
        if request.dialect == Dialect::AnthropicMessages {
            refuse_own_forms(request)?;
            let mut ours = vec![("model", model.into()), ("stream", true.into())];
            if !request.raw.contains_key("max_tokens") {
                ours.push(("max_tokens", self.max_tokens.into()));
            }
            return forwarded(&request.raw, &ours);
        }
        compose::body(request, model, self.max_tokens)
    }

    fn decoder(&self, model: &str) -> Box<dyn Decoder> {
        Box::new(decode::EventDecoder::new(model, self.window))
    }

    fn dialect(&self) -> Option<Dialect> {
        Some(Dialect::AnthropicMessages)
    }
}
