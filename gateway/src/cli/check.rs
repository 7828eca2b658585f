//! `weir check`: what would run. Loads everything `weir serve` would load, opens no socket and calls no upstream.

use anyhow::{Result, bail};

use crate::config::Settings;
use crate::live::prepare::prepare;

/// Prints the summary; mistakes come as errors.
pub(super) fn command(settings: &Settings) -> Result<()> {
    if let Some(why) = super::doctor::unwritable(settings) {
        bail!(why);
    }
    let (_, backends) = prepare(settings, None)?;
    println!("config   {}", settings.origins.join(" ← "));
    println!("policy   {}", settings.policy.origin);
    let tls = if settings.server.tls.is_some() { " (TLS)" } else { "" };
    println!("listen   {}{tls}", settings.server.listen);
    match &settings.admin {
        Some(admin) => println!("admin    {}{tls}", admin.listen),
        None => println!("admin    off"),
    }
    for backend in backends.iter() {
        let upstream = settings.backends.iter().find(|one| one.name == backend.name);
        let kind = upstream.map_or("built in", |upstream| upstream.wire.kind.as_str());
        let models = match (backend.models.as_slice(), upstream) {
            ([], Some(upstream)) => upstream.model.clone(),
            (models, _) => models.join(", "),
        };
        println!("backend  {} ({kind}): {models}, window {} tokens", backend.name, backend.facts.context_tokens);
    }
    let tenants: Vec<&str> = settings.tenants.tenants.iter().map(|tenant| tenant.name.as_ref()).collect();
    match tenants.as_slice() {
        [] => println!("tenants  none: nobody is asked for a key"),
        names => println!("tenants  {}", names.join(", ")),
    }
    if let Some(why) = super::doctor::unkept(settings) {
        println!("warning  {why}; what is learnt is lost at a restart");
    }
    println!("ok");
    Ok(())
}
