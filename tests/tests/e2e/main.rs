//! The real `weir` over real sockets on loopback, as a client, an upstream and an operator meet it. Slow compared with
//! unit tests, so only what needs the whole belongs here: no test of a single function, and none that knows the inside.
//!
//! One program for all of them: linking is most of the cost.

mod admin;
mod attempts;
mod bad_input;
mod balanced;
mod connections;
mod continued;
mod conversations;
mod dialects;
mod explain;
mod fault_table;
mod faults;
mod foresight;
mod generate;
mod hostile_models;
mod leaving;
mod main_path;
mod models;
mod openclaw;
mod operator;
mod passing;
mod reload;
mod request_log;
mod secrets;
mod shared_limits;
mod streaming;
mod structured;
mod tenants;
mod tls;
mod tool_calls;
mod traces;
mod translated;
mod trials;

use anyhow::Result;
use weir_tests::binary::Weir;

/// A backend at this base URL, patient enough for a busy machine and impatient enough for a test.
fn backend(name: &str, base_url: &str) -> String {
    format!(
        "[[backend]]\nname = \"{name}\"\nbase_url = \"{base_url}\"\nmodel = \"{name}-model\"\n\
         first_content_timeout_ms = 2000\nidle_timeout_ms = 2000\n\n"
    )
}

/// A gateway with the embedded models only.
fn embedded() -> Result<Weir> {
    Weir::start("")
}
