//! Who may ask, and whether their keys are still good.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Finding, Subject};
use crate::tenants::Tenant;

/// How long before its end a key is worth a word.
const SOON_S: u64 = 14 * 86_400;

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let Ok(settings) = &subject.settings else {
        return vec![Finding::note("not looked at: the config comes first")];
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut findings: Vec<Finding> = settings.tenants.tenants.iter().map(|tenant| judge(tenant, now)).collect();
    if settings.is_open_to_others() {
        let fix = "`weir key new` makes a key for a `[[tenant]]`";
        findings.push(Finding::note("no tenants: whoever reaches the address may ask, without a key").fix(fix));
    } else if findings.is_empty() {
        findings.push(Finding::ok("no tenants: this machine's programs need no key"));
    }
    findings.push(match &settings.admin {
        None => Finding::ok("the admin API is off"),
        Some(admin) if admin.listen.ip().is_loopback() || settings.server.tls.is_some() => {
            Finding::ok(format!("the admin API would listen on {}, with a key", admin.listen))
        }
        Some(admin) => {
            Finding::problem(format!("the admin's key would cross the network in clear to {}", admin.listen))
                .fix("let `admin.listen` be on 127.0.0.1, or set `[server.tls]`")
        }
    });
    findings
}

fn judge(tenant: &Tenant, now: u64) -> Finding {
    let name = &tenant.name;
    let fix = format!("`weir key rotate {name}` makes another beside it");
    // A key without an end is good for ever.
    let ends = tenant.keys.iter().map(|(_, ends)| ends.unwrap_or(u64::MAX)).filter(|ends| *ends > now).max();
    match ends {
        None => Finding::problem(format!("every key of tenant `{name}` has expired")).fix(fix),
        Some(ends) if ends - now < SOON_S => {
            let days = (ends - now).div_ceil(86_400);
            Finding::note(format!("the last good key of tenant `{name}` ends in {days} days")).fix(fix)
        }
        Some(_) => Finding::ok(format!("tenant `{name}` has a good key")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::tenants::key::KeyHash;

    #[test]
    fn the_last_good_key_counts() {
        let tenant = |ends: &[Option<u64>]| Tenant {
            name: "a".into(),
            keys: ends.iter().map(|ends| (KeyHash::of(b"k"), *ends)).collect(),
            models: Vec::new(),
            backends: std::sync::Arc::new([]),
            limits: Default::default(),
            background: false,
            client: None,
        };
        let level = |ends: &[Option<u64>]| judge(&tenant(ends), 100).level;
        assert_eq!(level(&[Some(100)]), Level::Problem);
        assert_eq!(level(&[Some(50), Some(101)]), Level::Note);
        assert_eq!(level(&[Some(50), Some(101 + SOON_S)]), Level::Ok);
        assert_eq!(level(&[Some(50), None]), Level::Ok);
    }
}
