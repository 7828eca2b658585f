//! What must be there before a socket opens: the policy, the engines, and that the two know the same names.

use anyhow::{Result, bail};
use weir_router_policies::{BackendRole, Policy};

use crate::backends::Registry;
use crate::config::{Settings, nearest};

/// Loads policy and backends; blocks while files are read.
///
/// # Errors
/// The policy or an engine's file is wrong, or the policy names a backend that is not configured.
pub(super) fn prepare(settings: &Settings) -> Result<(Policy, Registry)> {
    // First, because it takes no time: a typo should not wait for weights.
    let policy = Policy::parse(&settings.policy.text, &settings.policy.origin)?;
    // A built-in engine that is switched off keeps its name; plans pass it over.
    let mut known: Vec<&str> = BackendRole::ALL.into_iter().map(BackendRole::as_str).collect();
    known.extend(settings.backends.iter().map(|backend| backend.name.as_str()));
    for name in policy.backends() {
        if !known.contains(&name) {
            let help = nearest(name, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
            bail!("{}: no backend is named `{name}`{}", settings.policy.origin, help.unwrap_or_default());
        }
    }
    Ok((policy, Registry::start(settings)?))
}
