//! Everything that touches a socket. A request flows down this list:
//!
//! - [`config`]: what the operator wrote → what runs.
//! - [`live`]: which config is in force, and how the next one takes its place.
//! - [`listener`]: sockets, TLS, HTTP/1.1 and HTTP/2, and who is cut.
//! - [`threads`]: who serves a connection.
//! - [`admin`]: the operator's API.
//! - [`stack`]: the tower layers and routes, put together in one function.
//! - [`layers`]: one layer, one file.
//! - [`caller`]: who asks.
//! - [`tenants`]: who may ask, and how much.
//! - [`api`]: the only place that knows dialects: decode a body, encode an answer.
//! - [`route`]: runs a plan: attempt → fallback, before the first content only.
//! - [`backends`]: who can answer; the built-in engines are two of them, with no special path.
//! - `hub`: fetches models for `weir model pull`; never part of a request.
//! - [`embedded`]: what is compiled in: default config, default policy, nano models.
//! - [`record`]: what is kept of each request, and the request log.
//! - [`traces`]: a caller's trace, handed on, and spans of our own.
//! - `ids`: fresh ids.
//! - `memory`: how much there is.
//! - `open_files`: how many this process may have.
//! - `places`: how many of something there are at once.
//! - `plain_json`: JSON that others wrote.
//! - `said`: what the process says of itself, and that nobody waits for its reader.
//! - [`metrics`]: what is counted, through guards.
//! - `fuzzing`: the doors of `fuzz/`; in no other build.
//! - [`cli`]: the commands of the `weir` binary.

pub mod admin;
pub mod api;
pub mod backends;
pub mod caller;
pub mod cli;
pub mod config;
pub mod embedded;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod hub;
mod ids;
pub mod layers;
pub mod listener;
pub mod live;
mod memory;
pub mod metrics;
mod open_files;
mod places;
mod plain_json;
pub mod record;
pub mod route;
mod said;
pub mod stack;
pub mod tenants;
pub mod threads;
pub mod traces;
