//! What must be there before a config answers anybody: the policy, the engines, and that the two know the same names.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use weir_protocol::ChatRequest;
use weir_router_policies::{BackendFacts, BackendRole, Diagnostic, Policy, PolicyError};

use super::in_vain;
use crate::api::openai_chat::decode;
use crate::backends::{Before, Registry};
use crate::config::settings::WarmPrefix;
use crate::config::{EngineSettings, Settings};
use crate::memory;
use crate::route::Policies;

/// Loads policy and backends, or takes over those of `before` whose settings are the same; blocks while files are read.
///
/// # Errors
/// The policy or an engine's file is wrong, or the policy names a backend that is not configured.
pub(crate) fn prepare(settings: &Settings, before: Option<Before<'_>>) -> Result<(Policies, Registry)> {
    // First, because it takes no time: a typo should not wait for weights.
    let policies = Policies::of(settings)?;
    policies.all().try_for_each(|policy| check_names(policy, settings))?;
    let backends = Registry::start(settings, before)?;
    policies.all().try_for_each(|policy| decodable(policy, policy.origin(), &backends))?;
    let tenants: Vec<&str> = settings.tenants.tenants.iter().map(|tenant| tenant.name.as_ref()).collect();
    let facts = backends.facts();
    for complaint in policies.all().flat_map(|policy| in_doubt(policy, &facts, &tenants)) {
        tracing::warn!("{complaint}");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let beyond = memory::total().and_then(|total| in_vain::beyond_memory(&settings.engines, total));
    for complaint in in_vain::complaints(&settings.tenants, &backends, now).into_iter().chain(beyond) {
        tracing::warn!("{complaint}");
    }
    for engine in &settings.engines {
        let running = before.as_ref().and_then(|before| before.engine(engine));
        warm(engine, running.map_or(&[], |running| running.warm.as_slice()), &backends)?;
    }
    Ok((policies, backends))
}

/// What a policy says in vain, with these backends and tenants.
pub(crate) fn in_doubt(policy: &Policy, facts: &[BackendFacts], tenants: &[&str]) -> Vec<Diagnostic> {
    [policy.check_reach(facts), policy.check_attempts(facts), policy.check_tenants(tenants)].concat()
}

/// Every backend the policy names is configured, and so are the roles; a rule that reaches nobody is only told.
///
/// # Errors
/// The first name that nobody has.
pub(crate) fn check_names(policy: &Policy, settings: &Settings) -> Result<()> {
    // A built-in engine that is switched off keeps its name; plans pass it over.
    let mut known: Vec<&str> = BackendRole::ALL.into_iter().map(BackendRole::as_str).collect();
    known.extend(settings.backends.iter().map(|backend| backend.name.as_str()));
    known.extend(settings.backends.iter().filter_map(|backend| backend.asking.group.as_deref()));
    let complaints = policy.check_backends(&known);
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(PolicyError { diagnostics: complaints }.into()),
    }
}

/// A caller must not be told that the policy asks for a decoder which the model does not have.
fn decodable(policy: &Policy, origin: &str, backends: &Registry) -> Result<()> {
    for backend in backends.iter() {
        let Some(engine) = &backend.engine else { continue };
        for (line, decoding) in policy.decodings(&backend.name, backend.facts.role) {
            let request = ChatRequest { diffusion: decoding.clone(), ..ChatRequest::default() };
            engine.decoding_of(&request).with_context(|| format!("{origin}:{line}: engine `{}`", backend.name))?;
        }
    }
    Ok(())
}

/// Lets an engine read the prompt beginnings its config names, but for those it knows.
fn warm(settings: &EngineSettings, known: &[WarmPrefix], backends: &Registry) -> Result<()> {
    let name = settings.role.as_str();
    let Some(engine) = backends.by_name(name).and_then(|backend| backend.engine.as_ref()) else { return Ok(()) };
    for prefix in settings.warm.iter().filter(|prefix| known.iter().all(|known| known.body != prefix.body)) {
        let place = || format!("engine.{name}.warm `{}`", prefix.name);
        let request = decode::decode(&prefix.body).with_context(place)?;
        let tokens = engine.warm(&request).with_context(place)?;
        tracing::info!(engine = name, prefix = %prefix.name, tokens, "prefix warmed");
    }
    Ok(())
}
