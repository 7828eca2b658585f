//! Distributed traces: takes a caller's `traceparent` and hands it on, and, where the operator named a collector, sends one
//! span for each request and one below it for each attempt. Spans are made from a request's record when it is over, so a
//! request that is not sampled costs nothing. Must never hold prompt text.
//!
//! - [`context`]: the headers, and the ids between them.
//! - [`spans`]: a record as spans, in the words of OpenTelemetry's conventions for generative AI.
//! - [`export`]: batches, and their way to the collector.

pub(crate) mod context;
mod export;
mod spans;

pub(crate) use context::TraceContext;
pub use export::ExportError;
pub(crate) use export::Exporter;
