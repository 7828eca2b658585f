//! The only place that knows dialects: decodes a body into a `ChatRequest`, encodes events as the caller expects them.
//! Must never choose a backend nor call one except through `route`.

pub mod models;
pub mod openai_chat;
