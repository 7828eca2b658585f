//! A LLaDA2 served by sglang as an upstream: Weir's way past one machine. It speaks chat completions and sends each
//! block once it is final. How it decodes is set at its start, so a request that wants it otherwise goes elsewhere, as
//! does one that demands what its diffusion path is known to ignore.

mod demands;
mod load;

use http::HeaderMap;
use reqwest::Client;
use weir_protocol::{ChatRequest, Dialect, EngineError};

use super::openai_chat::chunk::ChunkDecoder;
use super::openai_chat::compose;
use super::upstream::{Decoder, Wire};
use crate::config::BackendSettings;
use crate::config::wire::WireSettings;

/// How to talk to one such upstream.
pub(super) struct SglangDllm {
    window: u64,
    wire: WireSettings,
    load: load::Load,
}

impl SglangDllm {
    pub(super) fn new(settings: &BackendSettings) -> Self {
        SglangDllm {
            window: settings.context_tokens,
            wire: settings.wire.clone(),
            load: load::Load::new(&settings.base_url, settings.wire.dllm.max_waiting),
        }
    }
}

impl Wire for SglangDllm {
    fn path(&self, _: &ChatRequest) -> &'static str {
        "/chat/completions"
    }

    fn admit(&self, client: &Client, headers: &HeaderMap) -> Result<(), EngineError> {
        self.load.admit(client, headers)
    }

    fn body(&self, request: &ChatRequest, model: &str) -> Result<Vec<u8>, EngineError> {
        demands::refuse_ignored(request)?;
        demands::refuse_other_decoding(request, &self.wire.dllm)?;
        compose::body(request, model, &self.wire)
    }

    fn decoder(&self, model: &str, alike: bool) -> Box<dyn Decoder> {
        Box::new(ChunkDecoder::new(model, self.window, alike))
    }

    fn speaks(&self, request: &ChatRequest) -> bool {
        request.is_in(Dialect::OpenAiChat)
    }
}
