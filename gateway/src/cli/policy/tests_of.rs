//! Runs the tests inside a policy file: requests are read as the gateway reads them, from whatever dialect they are in.

use anyhow::Result;
use weir_protocol::ChatRequest;
use weir_router_policies::BackendFacts;
use weir_router_policies::policy::{TestOutcome, TestRequest};

use crate::api;
use crate::config::policy::PolicySource;

/// Runs them against `backends`, or two plain ones.
///
/// # Errors
/// The policy is wrong.
pub(super) fn run(source: &PolicySource, backends: Option<&[BackendFacts]>) -> Result<Vec<TestOutcome>> {
    let policy = source.parse()?;
    let plain = policy.test_backends();
    Ok(policy.run_tests(backends.unwrap_or(&plain), &read))
}

fn read(request: &TestRequest) -> Result<ChatRequest, String> {
    let bytes = match request {
        TestRequest::Text(_) => return Err("a text needs no reading".to_owned()),
        TestRequest::Body(body) => body.to_string().into_bytes(),
        TestRequest::File(path) => std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?,
    };
    let decoded = api::any_dialect::decode(&bytes, None).map_err(|error| error.to_string())?;
    Ok(decoded.request)
}
