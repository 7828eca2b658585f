//! Who can answer. Every backend, the built-in engines included, is a `tower::Service<Attempt>` that gives a stream
//! of protocol events; nothing here may know which dialect the caller speaks or what other backends exist.

mod anthropic;
pub mod builtin;
pub mod checking;
mod counter;
pub mod expected;
mod ollama;
mod openai_chat;
mod openai_responses;
mod registry;
mod sglang_dllm;
pub mod sse;
pub mod tool_text;
mod upstream;

pub use counter::Counter;
pub(crate) use openai_chat::Alike;
pub use registry::{Backend, Before, Registry, StartError};
pub(crate) use upstream::answer::CALLS_MAX;
pub(crate) use upstream::{NO_CLIENT, http_client};

#[cfg(any(test, fuzzing))]
pub(crate) use upstream::fuzzing;

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use http::{HeaderName, HeaderValue};
use weir_protocol::{ChatRequest, EngineError, Event};

use crate::config::BackendSettings;
use crate::config::wire::BackendKind;

/// The events of one attempt. Ends with `Event::Finished` or with one `Err`, and with nothing after either.
/// Dropping it cancels the attempt.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, EngineError>> + Send>>;

/// One try of one request at one backend.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What is asked; diffusion settings of the plan are already merged in.
    pub request: Arc<ChatRequest>,
    /// The model to ask the backend for; `None`: the backend's own default.
    pub model: Option<String>,
    /// Headers that tell an upstream to which trace it belongs.
    pub trace: Vec<(HeaderName, HeaderValue)>,
}

/// How `route` calls a backend.
pub type BackendService = tower::util::BoxCloneSyncService<Attempt, EventStream, EngineError>;

/// An upstream as a backend. Opens no connection yet.
///
/// # Errors
/// The client cannot be set up, for example because the system's root certificates cannot be read.
pub fn open(settings: BackendSettings) -> Result<BackendService, reqwest::Error> {
    let wire = wire(&settings);
    upstream::service(settings, wire)
}

fn wire(settings: &BackendSettings) -> Box<dyn upstream::Wire> {
    match settings.wire.kind {
        BackendKind::OpenAiChat => Box::new(openai_chat::OpenAiChat::new(settings)),
        BackendKind::OpenAiResponses => Box::new(openai_responses::OpenAiResponses::new(settings)),
        BackendKind::Anthropic => Box::new(anthropic::Anthropic::new(settings)),
        BackendKind::Ollama => Box::new(ollama::Ollama::new(settings)),
        BackendKind::SglangDllm => Box::new(sglang_dllm::SglangDllm::new(settings)),
    }
}

/// What every request to this upstream carries: its key as its protocol wants it, and the operator's own headers.
fn headers(settings: &BackendSettings) -> http::HeaderMap {
    upstream::headers(settings, wire(settings).as_ref())
}

/// One id a caller may put into `model`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// The id: `auto`, `diffusion`, `ar`, a backend's name or one of its models.
    pub id: String,
    /// The backend that answers, `None` where the policy decides.
    pub backend: Option<String>,
    /// Window to plan with, where known. `auto` shows the largest one behind it: a small one would make agents cut
    /// their answers to nothing.
    pub context_tokens: Option<u64>,
}
