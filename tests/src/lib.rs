//! What the end-to-end tests stand on: the real binary, an upstream that misbehaves on command, a client that looks
//! closely. Nothing here may know the inside of the gateway: it sees sockets, exit codes and standard error only.
//!
//! - [`binary`]: starts `weir`, waits until it listens, kills it when dropped.
//! - [`fault_upstream`]: an upstream with scripted faults, in every protocol the gateway speaks to upstreams.
//! - [`fake_hub`]: a Hugging Face hub on loopback, with scripted faults.
//! - [`redis_server`]: a real Redis, where one is installed; [`balancer`]: a real balancer, likewise.
//! - [`asking`]: sends chat requests and reads whole and streamed answers.
//! - [`frames`], [`named_frames`]: server-sent events as a strict client reads them; [`dialects`]: answers in each dialect.
//! - [`certificate`]: a certificate for loopback.
//! - [`metrics_page`]: reads `/metrics`; [`request_log`]: reads the request log.
//! - [`trace_collector`]: takes spans.
//! - [`openclaw_request`]: requests of OpenClaw's shape and size.
//! - [`schemas`], [`random_weights`]: demands on an answer's form, and a model that knows nothing.
//! - [`wait`]: until something is true, or too long.

pub mod asking;
pub mod balancer;
pub mod binary;
pub mod certificate;
pub mod dialects;
pub mod fake_hub;
pub mod fault_upstream;
pub mod frames;
pub mod metrics_page;
pub mod named_frames;
pub mod openclaw_request;
pub mod random_weights;
pub mod redis_server;
pub mod request_log;
pub mod schemas;
pub mod trace_collector;
pub mod wait;
