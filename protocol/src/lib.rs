//! The conversation protocol: what every dialect is decoded into, what every backend answers with, and how
//! things fail. Data only: nothing here may do IO, read a clock, or know a dialect's wire shape.
//!
//! Reading order: [`request`] → [`decoding`] → [`event`] → [`usage`] → [`error`].

pub mod decoding;
pub mod effort;
pub mod error;
pub mod event;
pub mod request;
pub mod usage;

pub use decoding::{DecodeMode, DecoderKind, DiffusionOptions, OutOfRange};
pub use effort::Effort;
pub use error::{Denial, EngineError, TimeoutPhase};
pub use event::{Event, FinishReason, TokenChance, TokenLogprob, Verbatim};
pub use request::{
    ChatRequest, Dialect, Hints, Message, Origin, Part, ResponseFormat, Role, Sampling, SchemaTerms, Tool, ToolCall,
    ToolChoice,
};
pub use usage::{DiffusionStats, Usage};
