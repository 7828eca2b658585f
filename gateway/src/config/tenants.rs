//! `[tenants]`, `[[tenant]]` and prices: as typed and as it runs. Must never hold a key, only hashes, nor show the address
//! of a store that carries a password.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use redis::IntoConnectionInfo;
use serde::{Deserialize, Serialize};

use super::diagnostic::nearest;
use super::resolve::Checks;
use super::settings::Secret;
use super::written::Written;
use crate::caller::ClientKind;
use crate::tenants::key::{KeyHash, end_of_day};
use crate::tenants::limits::{FIGURE_MAX, Limits};
use crate::tenants::{Price, Tenant};

/// Largest price: what a million tokens cost by it is as much money as one request may be charged ([`MONEY_MAX`]).
///
/// [`MONEY_MAX`]: crate::tenants::limits::MONEY_MAX
const PRICE_MAX: f64 = 1e8;

/// `[tenants]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantsWritten {
    /// Where accounts are kept: `memory`, or `redis://…` (`rediss://…` over TLS) to hold limits across
    /// gateways. Default `memory`.
    pub store: String,
    /// Environment variable that holds the address instead, for one with a password. Default empty.
    pub store_env: String,
    /// First part of the names of keys in Redis. Default `weir`.
    pub store_prefix: String,
    /// Longest wait for Redis. Default 100 ms.
    pub store_timeout_ms: u64,
    /// What happens while Redis is away. Default `fail_open`.
    pub on_store_loss: OnStoreLoss,
}

impl Default for TenantsWritten {
    fn default() -> Self {
        TenantsWritten {
            store: "memory".into(),
            store_env: String::new(),
            store_prefix: "weir".into(),
            store_timeout_ms: 100,
            on_store_loss: OnStoreLoss::FailOpen,
        }
    }
}

/// What happens while Redis is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreLoss {
    /// Each gateway limits by itself.
    FailOpen,
    /// Nobody is let in.
    FailClosed,
}

/// `[[tenant]]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantWritten {
    /// Name in logs and metrics. Required.
    pub name: String,
    /// Its keys, as `weir key new` prints them: several while they are rotated. Required.
    pub keys: Vec<KeyWritten>,
    /// Model ids it may name; `*` at the end stands for any. Default: all.
    pub models: Vec<String>,
    /// Backends and groups that may serve it. Default: all.
    pub backends: Vec<String>,
    /// Requests a minute. Default 0: no limit.
    pub requests_per_minute: u64,
    /// Tokens in and out a minute. Default 0: no limit.
    pub tokens_per_minute: u64,
    /// Requests at once. Default 0: no limit.
    pub concurrent: u64,
    /// Tokens in and out a day (UTC). Default 0: no limit.
    pub tokens_per_day: u64,
    /// Money a day (UTC), in the currency of `[backend.price]`. Default 0: no limit.
    pub money_per_day: f64,
    /// `interactive`, or `background` to let others go first where requests wait. Default `interactive`.
    pub priority: Priority,
    /// What its clients are, for `[exhausted]`: `openclaw`, `other`, or empty to see from each request. Default empty.
    pub client: String,
}

/// One key of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyWritten {
    /// `sha256:` and 64 hexadecimal digits. Required.
    pub hash: String,
    /// Last day (UTC) on which it is good, `YYYY-MM-DD`. Default empty: for ever.
    pub expires: String,
}

/// Who goes first where requests wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Like everybody.
    #[default]
    Interactive,
    /// After everybody.
    Background,
}

/// `[backend.price]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PriceWritten {
    /// Money for a million tokens of prompts. Default 0.
    pub input: f64,
    /// Money for a million tokens of answers. Default 0.
    pub output: f64,
}

/// The tenants, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TenantsSettings {
    /// Where accounts are kept.
    pub store: StoreSettings,
    /// Who may ask; empty: everybody.
    pub tenants: Vec<Tenant>,
    /// What backends cost.
    pub prices: HashMap<String, Price>,
}

/// Where accounts are kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum StoreSettings {
    /// In this process.
    #[default]
    Memory,
    /// In Redis.
    Redis {
        /// Its address.
        url: Secret,
        /// First part of the names of its keys.
        prefix: String,
        /// Longest wait.
        timeout: Duration,
        /// What happens while it is away.
        on_loss: OnStoreLoss,
    },
}

impl Checks<'_> {
    pub(super) fn tenants(&mut self, written: &Written) -> TenantsSettings {
        let mut names = HashSet::new();
        let mut hashes = HashSet::new();
        let mut tenants = Vec::new();
        for (index, one) in written.tenant.iter().enumerate() {
            let at = index.to_string();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if one.name.is_empty() || one.name.len() > 64 || !one.name.bytes().all(plain) || one.name == "none" {
                let help = "1 to 64 letters, digits, `-`, `_`, `.`, and not `none`: it becomes a metric label";
                self.say(&["tenant", &at, "name"], "a tenant needs a plain name", help);
            } else if !names.insert(&one.name) {
                self.say(&["tenant", &at, "name"], "two tenants have this name", "names must differ");
            }
            let keys = self.keys(&at, &one.keys);
            if keys.iter().any(|(hash, _)| !hashes.insert(hash.to_string())) {
                self.say(&["tenant", &at, "keys"], "a key stands twice", "each tenant has keys of its own");
            }
            self.known_backends(&at, one, written);
            tenants.push(Tenant {
                name: one.name.as_str().into(),
                keys,
                models: one.models.clone(),
                backends: one.backends.clone().into(),
                limits: self.limits(&at, one),
                background: one.priority == Priority::Background,
                client: self.client(&at, &one.client),
            });
        }
        TenantsSettings { store: self.store(&written.tenants), tenants, prices: self.prices(written) }
    }

    fn keys(&mut self, at: &str, typed: &[KeyWritten]) -> Vec<(KeyHash, Option<u64>)> {
        if typed.is_empty() {
            self.say(&["tenant", at, "keys"], "a tenant needs a key", "`weir key new` makes one");
        }
        let mut out = Vec::new();
        for (index, key) in typed.iter().enumerate() {
            let index = index.to_string();
            let expires = end_of_day(&key.expires);
            if expires.is_none() && !key.expires.is_empty() {
                self.say(&["tenant", at, "keys", &index, "expires"], "no such day", "write it like `2026-12-31`");
            }
            match KeyHash::parse(&key.hash) {
                Some(hash) => out.push((hash, expires)),
                // Not echoed: people put the key itself here by mistake.
                None => {
                    let help = "`weir key new` prints a key and its hash, `weir key hash` the hash of a key you have";
                    self.say(&["tenant", at, "keys", &index, "hash"], "not a key's hash", help);
                }
            }
        }
        out
    }

    fn known_backends(&mut self, at: &str, tenant: &TenantWritten, written: &Written) {
        let known = |name: &String| {
            let of_upstream = written.backend.iter().any(|one| one.name == *name || one.group == *name);
            of_upstream || ["diffusion", "ar"].contains(&name.as_str())
        };
        for name in tenant.backends.iter().filter(|name| !known(name)) {
            let message = format!("no backend or group is named `{}`", name.chars().take(64).collect::<String>());
            let names = written.backend.iter().flat_map(|one| [one.name.as_str(), one.group.as_str()]);
            let near = nearest(name, names.chain(["diffusion", "ar"]).filter(|name| !name.is_empty()));
            let help = near.map_or_else(String::new, |near| format!("did you mean `{near}`?"));
            self.say(&["tenant", at, "backends"], message, help);
        }
    }

    fn limits(&mut self, at: &str, typed: &TenantWritten) -> Limits {
        let figures = [
            ("requests_per_minute", typed.requests_per_minute),
            ("tokens_per_minute", typed.tokens_per_minute),
            ("concurrent", typed.concurrent),
        ];
        for (key, value) in figures {
            if value > FIGURE_MAX {
                self.say(&["tenant", at, key], format!("must not be more than {FIGURE_MAX}"), "0 is no limit");
            }
        }
        if typed.tokens_per_day > 1_000_000_000_000 {
            self.say(&["tenant", at, "tokens_per_day"], "must not be more than a million million", "0 is no limit");
        }
        if !(0.0..=1e9).contains(&typed.money_per_day) {
            self.say(&["tenant", at, "money_per_day"], "must lie between 0 and 1000000000", "0 is no limit");
        }
        Limits {
            requests_per_minute: typed.requests_per_minute,
            tokens_per_minute: typed.tokens_per_minute,
            concurrent: typed.concurrent,
            tokens_per_day: typed.tokens_per_day,
            // Checked above; a saturated cast is fine where it was refused.
            money_per_day: (typed.money_per_day * 1e6).ceil() as u64,
        }
    }

    fn client(&mut self, at: &str, typed: &str) -> Option<ClientKind> {
        match typed {
            "" => None,
            "openclaw" => Some(ClientKind::OpenClaw),
            "other" => Some(ClientKind::Other),
            _ => {
                self.say(&["tenant", at, "client"], "unknown kind of client", "`openclaw`, `other`, or leave it empty");
                None
            }
        }
    }

    fn prices(&mut self, written: &Written) -> HashMap<String, Price> {
        let mut out = HashMap::new();
        for (index, one) in written.backend.iter().enumerate() {
            for (key, value) in [("input", one.price.input), ("output", one.price.output)] {
                if !(0.0..=PRICE_MAX).contains(&value) {
                    let path = ["backend", &index.to_string(), "price", key];
                    let help = "money for a million tokens; a request that costs more is not counted in full, so take a larger unit";
                    self.say(&path, format!("must lie between 0 and {PRICE_MAX}"), help);
                }
            }
            out.insert(one.name.clone(), Price { input: one.price.input, output: one.price.output });
        }
        out
    }

    fn store(&mut self, typed: &TenantsWritten) -> StoreSettings {
        self.at_least_one(&["tenants", "store_timeout_ms"], typed.store_timeout_ms);
        let (key, url) = match typed.store_env.as_str() {
            "" => ("store", Some(typed.store.clone())),
            name => ("store_env", self.variable(name)),
        };
        let Some(url) = url else {
            self.no_variable(&["tenants", "store_env"], "it holds the address of the store");
            return StoreSettings::Memory;
        };
        if url == "memory" {
            return StoreSettings::Memory;
        }
        let parsed = reqwest::Url::parse(&url).ok().filter(|url| url.host_str().is_some());
        let parsed = parsed.filter(|url| matches!(url.scheme(), "redis" | "rediss"));
        // What stands behind the host only Redis' client reads: the number of the database.
        let Some(parsed) = parsed.filter(|_| url.as_str().into_connection_info().is_ok()) else {
            let help = "`memory`, or like `redis://127.0.0.1:6379/0` (0: the database), or `rediss://` for TLS";
            self.say(&["tenants", key], "not a store", help);
            return StoreSettings::Memory;
        };
        if key == "store" && parsed.password().is_some() {
            self.say(&["tenants", "store"], "a password does not stand in a file", "use `store_env`");
        }
        let prefix_is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if typed.store_prefix.is_empty() || !typed.store_prefix.bytes().all(prefix_is_plain) {
            self.say(&["tenants", "store_prefix"], "must be letters, digits, `-`, `_`, `.`, `:`", "");
        }
        StoreSettings::Redis {
            url: Secret::new(url),
            prefix: typed.store_prefix.clone(),
            timeout: Duration::from_millis(typed.store_timeout_ms),
            on_loss: typed.on_store_loss,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Inputs, load};
    use crate::tenants::key::KeyHash;

    fn load_text(text: &str) -> Result<crate::config::Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("weir.toml");
        std::fs::write(&file, text).unwrap();
        let name = file.display().to_string();
        let env = vec![("STORE".to_owned(), "redis://:hunter2@127.0.0.1:6379/0".to_owned())];
        let inputs = Inputs { file: Some(file), env, ..Inputs::default() };
        load(&inputs).map_err(|errors| errors.to_string().replace(&name, "FILE"))
    }

    #[test]
    fn a_tenant_is_read_whole() {
        let hash = KeyHash::of(b"k");
        let text = format!(
            "[tenants]\nstore_env = \"STORE\"\non_store_loss = \"fail_closed\"\n[[tenant]]\nname = \"a\"\n\
             keys = [{{ hash = \"{hash}\", expires = \"2026-12-31\" }}]\nmoney_per_day = 1.5\nbackends = [\"ar\"]\n\
             priority = \"background\"\nclient = \"openclaw\"\n"
        );
        let settings = load_text(&text).unwrap();
        let tenant = &settings.tenants.tenants[0];
        assert_eq!((tenant.keys[0], tenant.limits.money_per_day), ((hash, Some(1_798_761_600)), 1_500_000));
        assert!(tenant.background && tenant.client.is_some());
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn prices_of_currencies_with_small_units_are_taken_and_others_refused_with_the_reason() {
        let check = |price: &str| {
            let url = "http://127.0.0.1:1/v1";
            let of = format!("name = \"b\"\nbase_url = \"{url}\"\nmodel = \"m\"\nprice = {{ input = {price} }}\n");
            load_text(&format!("[[backend]]\n{of}")).map(|settings| settings.tenants.prices["b"].input)
        };
        // 600 dollars in rupiah.
        assert_eq!(check("9_900_000.0"), Ok(9_900_000.0));
        let error = check("100_000_001.0").unwrap_err();
        assert!(error.contains("backend[0].price.input`: must lie between 0 and 100000000"), "{error}");
        assert!(error.contains("not counted in full, so take a larger unit"), "{error}");
    }

    #[test]
    fn an_address_that_the_store_could_not_be_asked_at_is_none() {
        let check = |store: &str, expect: &str| {
            let told = load_text(&format!("[tenants]\nstore = \"{store}\"\n")).err().unwrap_or_default();
            assert!(told.contains(expect) && told.is_empty() == expect.is_empty(), "{store}: {told}");
        };
        check("redis://127.0.0.1:6379/15", "");
        check("rediss://h", "");
        check("redis://127.0.0.1:6379/limits", "not a store");
        check("127.0.0.1:6379", "not a store");
    }

    #[test]
    fn mistakes_are_named_and_keys_are_not_repeated() {
        let error = load_text(
            "[tenants]\nstore = \"redis://:hunter2@h/0\"\n[[tenant]]\nname = \"a b\"\nkeys = [{ hash = \"weir_secret\" }]\n\
             backends = [\"gpu\"]\nmoney_per_day = -1\n[[tenant]]\nname = \"b\"\nclient = \"x\"\n",
        )
        .unwrap_err();
        for key in ["tenants.store", "tenant[0].name", "tenant[0].keys[0].hash", "tenant[0].backends"] {
            assert!(error.contains(key), "{key} in {error}");
        }
        for key in ["tenant[0].money_per_day", "tenant[1].keys", "tenant[1].client"] {
            assert!(error.contains(key), "{key} in {error}");
        }
        assert!(!error.contains("secret") && !error.contains("hunter2"), "{error}");
    }
}
