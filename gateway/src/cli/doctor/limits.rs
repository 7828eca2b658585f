//! Where tenants' limits are counted, whether every account there can be read, and whether anything there can be written.
//! Changes no account of a tenant.

use std::sync::Arc;

use super::{Finding, Subject};
use crate::config::Settings;
use crate::config::tenants::{OnStoreLoss, StoreSettings};
use crate::metrics::Metrics;
use crate::tenants::Tenants;

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    match &subject.settings {
        Ok(settings) => judge(settings),
        Err(_) => vec![Finding::note("not looked at: the config comes first")],
    }
}

fn judge(settings: &Settings) -> Vec<Finding> {
    let StoreSettings::Redis { timeout, on_loss, .. } = &settings.tenants.store else {
        return vec![Finding::ok("counted in memory: each gateway by itself, and anew after a restart")];
    };
    let meanwhile = match on_loss {
        OnStoreLoss::FailOpen => "each gateway limits by itself",
        OnStoreLoss::FailClosed => "nobody is let in",
    };
    let Some((accounts, written)) = read(settings) else {
        return vec![Finding::problem("their Redis cannot be asked").fix("mend `tenants.store`")];
    };
    // The first says why: the others only that it failed before.
    if let Some((_, Err(why))) = accounts.first().filter(|_| accounts.iter().all(|(_, read)| read.is_err())) {
        let text = format!("their Redis: {why}; meanwhile {meanwhile}");
        let mend = "start it, or mend `tenants.store` (address, user, password) or `tenants.store_timeout_ms`";
        return vec![Finding::problem(text).fix(format!("{mend} (now {})", timeout.as_millis()))];
    }
    let broken = accounts.iter().filter(|(_, read)| read.is_err()).map(|(tenant, _)| {
        let text = format!("what Redis keeps for tenant `{tenant}` is no account: for it, {meanwhile}");
        Finding::problem(text).fix("look who else writes there, and remove that key; or set `tenants.store_prefix`")
    });
    let whole = match written {
        Ok(()) => Finding::ok("their Redis answers, and takes changes"),
        Err(why) => Finding::problem(format!("their Redis can be read but not written: {why}; meanwhile {meanwhile}"))
            .fix("`tenants.store` must name one that takes changes, as a user who may make them"),
    };
    std::iter::once(whole).chain(broken).collect()
}

/// Whether an account could be read, or any written, or why not.
type Done = Result<(), &'static str>;
type Read = Vec<(Arc<str>, Done)>;

/// Each tenant with its account, and whether anything can be written; `None`: there is no way to ask.
fn read(settings: &Settings) -> Option<(Read, Done)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let tenants = Tenants::new(&settings.tenants, None, Arc::new(Metrics::new().ok()?)).ok()?;
    Some(runtime.block_on(async {
        let mut read = Vec::new();
        for tenant in tenants.directory().iter() {
            read.push((Arc::clone(&tenant.name), tenants.used(tenant).await.map(|_| ())));
        }
        (read, tenants.take_changes().await)
    }))
}
