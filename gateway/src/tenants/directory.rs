//! Which key is whose. Must never take longer for one wrong key than for another.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::QUESTIONS;
use super::key::KeyHash;
use super::limits::Limits;
use crate::caller::ClientKind;

/// One tenant, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// Its name in logs and metrics; also what prefix sharing and fairness know it by.
    pub name: Arc<str>,
    /// Its keys, each with the second since 1970 from which it is good no more.
    pub keys: Vec<(KeyHash, Option<u64>)>,
    /// Model ids it may name; a `*` at the end stands for any. Empty: all.
    pub models: Vec<String>,
    /// Backends and groups that may serve it. Empty: all.
    pub backends: Arc<[String]>,
    /// How much it may ask.
    pub limits: Limits,
    /// Whether others go first where requests wait.
    pub background: bool,
    /// What its clients are, where that is known.
    pub client: Option<ClientKind>,
}

impl Tenant {
    /// The same as one that only asks about requests: its own account, and of the limits only how often. No tenant's name
    /// has a colon.
    pub(super) fn asking(&self) -> Tenant {
        let limits = Limits { requests_per_minute: self.limits.requests_per_minute, ..Limits::default() };
        Tenant { name: format!("{}:{QUESTIONS}", self.name).into(), keys: Vec::new(), limits, ..self.clone() }
    }

    /// The second since 1970 from which none of its keys is good; `None`: one is for ever.
    pub fn keys_end(&self) -> Option<u64> {
        let ends: Option<Vec<u64>> = self.keys.iter().map(|(_, ends)| *ends).collect();
        ends?.into_iter().max()
    }

    /// Whether it may put `model` into a request.
    pub fn may_name(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|allowed| fits(allowed, model))
    }
}

/// Whether an entry of a tenant's `models` means this model.
pub(crate) fn fits(allowed: &str, model: &str) -> bool {
    match allowed.strip_suffix('*') {
        Some(begin) => model.starts_with(begin),
        None => allowed == model,
    }
}

/// All tenants. Empty: nobody is asked for a key.
#[derive(Debug, Default)]
pub struct Directory {
    tenants: Vec<Arc<Tenant>>,
}

impl Directory {
    /// Of these tenants.
    pub fn new(tenants: &[Tenant]) -> Self {
        Directory { tenants: tenants.iter().cloned().map(Arc::new).collect() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.iter()
    }

    /// Whose key this is.
    pub fn owner(&self, key: &[u8]) -> Option<&Arc<Tenant>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.owner_at(key, now)
    }

    fn owner_at(&self, key: &[u8], now: u64) -> Option<&Arc<Tenant>> {
        let asked = KeyHash::of(key);
        let mut owner = None;
        // All of them are compared, whichever fits.
        for tenant in &self.tenants {
            for (hash, expires) in &tenant.keys {
                let good = expires.is_none_or(|expires| now < expires);
                if bool::from(hash.matches(&asked)) && good {
                    owner = Some(tenant);
                }
            }
        }
        owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str, keys: &[(&str, Option<u64>)]) -> Tenant {
        Tenant {
            name: name.into(),
            keys: keys.iter().map(|(key, expires)| (KeyHash::of(key.as_bytes()), *expires)).collect(),
            models: Vec::new(),
            backends: Arc::new([]),
            limits: Limits::default(),
            background: false,
            client: None,
        }
    }

    #[test]
    fn keys_overlap_while_they_are_rotated() {
        let directory =
            Directory::new(&[tenant("a", &[("old", Some(100)), ("new", None)]), tenant("b", &[("other", None)])]);
        let owner = |key: &str, now| directory.owner_at(key.as_bytes(), now).map(|tenant| tenant.name.to_string());
        assert_eq!(owner("old", 99).as_deref(), Some("a"));
        assert_eq!(owner("new", 99).as_deref(), Some("a"));
        assert_eq!(owner("old", 100), None);
        assert_eq!(owner("new", 100).as_deref(), Some("a"));
        assert_eq!(owner("other", 100).as_deref(), Some("b"));
        assert_eq!((owner("", 0), owner("nobody", 0)), (None, None));
    }

    #[test]
    fn the_last_key_to_end_counts() {
        let end =
            |ends: &[Option<u64>]| tenant("a", &ends.iter().map(|end| ("k", *end)).collect::<Vec<_>>()).keys_end();
        assert_eq!((end(&[Some(7), Some(9), Some(3)]), end(&[Some(7), None])), (Some(9), None));
    }

    #[test]
    fn models_are_named_whole_or_by_their_begin() {
        let mut one = tenant("a", &[]);
        assert!(one.may_name("anything"));
        one.models = vec!["auto".into(), "qwen*".into()];
        assert!(one.may_name("auto") && one.may_name("qwen3-8b") && one.may_name("qwen"));
        assert!(!one.may_name("autos") && !one.may_name("ar"));
    }
}
