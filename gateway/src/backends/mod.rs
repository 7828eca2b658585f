//! Who can answer. Every backend, the built-in engines included, is a `tower::Service<Attempt>` that gives a stream
//! of protocol events; nothing here may know which dialect the caller speaks or what other backends exist.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use weir_protocol::{ChatRequest, EngineError, Event};

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
}

/// How `route` calls a backend.
pub type BackendService = tower::util::BoxCloneSyncService<Attempt, EventStream, EngineError>;
