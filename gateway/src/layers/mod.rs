//! One layer, one file. Nothing here may know a dialect beyond asking `api` to render an error.

pub mod auth;
pub mod body;
pub mod body_memory;
pub mod in_flight;
mod keeping;
pub mod panics;
pub mod record;
pub mod request_id;
pub mod trace;
