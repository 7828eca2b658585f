//! What a request leads to, seen from outside the crate: text and requests in, plans and complaints out.
#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

mod classify;
mod condensing;
mod language;
mod latency;
mod made_pages;
mod must_not_diffuse;
mod openclaw;
mod policy_errors;
mod policy_files;
mod policy_habits;
mod policy_shape;
mod properties;
mod recorded;
mod routing;
mod simulate;
mod staying;
mod tool_need;
mod unwrapping;
