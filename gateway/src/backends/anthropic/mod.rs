//! Anthropic messages as an upstream.

mod compose;
mod decode;
mod unsealed;

#[cfg(test)]
mod tests;

use http::{HeaderName, HeaderValue};
use serde_json::Value;
use weir_protocol::{ChatRequest, Dialect, EngineError};

use super::upstream::body::forwarded;
use super::upstream::demands::refuse_own_forms;
use super::upstream::{Decoder, Wire};
use crate::config::BackendSettings;
use crate::config::settings::Secret;
use crate::config::wire::WireSettings;

/// The version of the API that is spoken here.
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// The header that names what of the API's newest is wanted.
const BETAS: HeaderName = HeaderName::from_static("anthropic-beta");

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

fn own_headers(request: &ChatRequest) -> Option<(HeaderName, HeaderValue)> {
    let betas = request.hints.betas.as_deref().filter(|_| request.is_in(Dialect::AnthropicMessages))?;
    Some((BETAS, HeaderValue::try_from(betas).ok()?))
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

    /// What a caller of this dialect wants of the API's newest.
    fn own_headers(&self, request: &ChatRequest) -> Option<(HeaderName, HeaderValue)> {
        own_headers(request)
    }

    fn body(&self, request: &ChatRequest, model: &str) -> Result<Vec<u8>, EngineError> {
        if request.is_in(Dialect::AnthropicMessages) {
            refuse_own_forms(request)?;
            let mut ours = vec![("model", model.into()), ("stream", (request.stream || self.wire.stream_whole).into())];
            if request.max_tokens.is_none() {
                ours.push(("max_tokens", self.wire.max_tokens.into()));
            }
            ours.extend(self.unsealed(request));
            return forwarded(request, &ours);
        }
        compose::body(request, model, &self.wire)
    }

    fn decoder(&self, model: &str, alike: bool) -> Box<dyn Decoder> {
        Box::new(decode::EventDecoder::new(model, self.window, alike))
    }

    fn speaks(&self, request: &ChatRequest) -> bool {
        request.is_in(Dialect::AnthropicMessages)
    }

    fn counts_at(&self) -> Option<&'static str> {
        Some("/messages/count_tokens")
    }

    fn unsealed(&self, request: &ChatRequest) -> Option<(&'static str, Value)> {
        unsealed::without(&request.raw).map(|messages| ("messages", messages))
    }
}
