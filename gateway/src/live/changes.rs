//! What one config says otherwise than another, in words for an operator, and what of it cannot change while running. Must
//! never hold a value: it may be a secret.

use std::fmt::Display;

use crate::config::server::ServerSettings;
use crate::config::tenants::TenantsSettings;
use crate::config::{EngineRole, Settings};
use crate::tenants::Price;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// What a reload brings into force.
    pub(super) taken: Vec<String>,
    /// Settings that it cannot.
    pub(super) needs_restart: Vec<String>,
}

const OPENED: &str = "going without tenants, where others reach `server.listen` and would be asked for no key,";

/// From `old` to `new`.
pub(super) fn between(old: &Settings, new: &Settings) -> Changes {
    let mut found = Changes::default();
    // Whole, without `..`: a new section must be put on one side or the other.
    let Settings {
        server,
        admin,
        engines,
        pin_threads,
        backends,
        policy,
        trials,
        tenants,
        attempts,
        latency,
        telemetry,
        origins: _,
    } = new;
    found.server(&old.server, server);
    match (&old.admin, admin) {
        (None, None) => {}
        (Some(old), Some(new)) => {
            found.restart("admin.listen", old.listen != new.listen);
            found.take("admin key", old.key != new.key);
        }
        _ => found.restart("admin.listen", true),
    }
    for role in [EngineRole::Diffusion, EngineRole::Ar] {
        let of = |engines: &[crate::config::EngineSettings]| engines.iter().find(|one| one.role == role).cloned();
        found.take(format!("engine.{}", role.as_str()), of(&old.engines) != of(engines));
    }
    found.restart("engine.pin_threads", old.pin_threads != *pin_threads);
    found.named("backend", &old.backends, backends, |one| &one.name);
    let order = |backends: &[crate::config::BackendSettings]| -> Vec<String> {
        backends.iter().map(|one| one.name.clone()).collect()
    };
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let (before, after) = (order(&old.backends), order(backends));
    found.take("order of backends", before != after && sorted(before.clone()) == sorted(after.clone()));
    found.take("policy", old.policy != *policy);
    found.take("policy.shadow", old.trials.shadow != trials.shadow);
    found.take("policy.canary", old.trials.canary != trials.canary);
    found.tenants(&old.tenants, tenants);
    // A file that was cut half way may end before its tenants. Nobody is asked for a key then.
    if new.is_open_to_others() && !old.tenants.tenants.is_empty() {
        found.needs_restart.push(OPENED.to_owned());
    }
    found.take("attempts", old.attempts != *attempts);
    found.take("latency", old.latency != *latency);
    found.take("request_log", old.telemetry.request_log != telemetry.request_log);
    found.take("tracing", old.telemetry.otlp != telemetry.otlp);
    found
}

impl Changes {
    fn take(&mut self, what: impl Display, changed: bool) {
        if changed {
            self.taken.push(what.to_string());
        }
    }

    fn restart(&mut self, what: &str, changed: bool) {
        if changed {
            self.needs_restart.push(format!("`{what}`"));
        }
    }

    fn server(&mut self, old: &ServerSettings, new: &ServerSettings) {
        let ServerSettings {
            listen,
            max_body_bytes,
            body_memory,
            keep_alive,
            hold_headers,
            shutdown_grace,
            max_in_flight,
            connections,
            watch,
            public_metrics,
            tls,
        } = new;
        self.restart("server.listen", old.listen != *listen);
        self.take("server.max_body_bytes", old.max_body_bytes != *max_body_bytes);
        self.take("server.body_memory_mb", old.body_memory != *body_memory);
        self.take("server.keep_alive_ms", old.keep_alive != *keep_alive);
        self.take("server.hold_headers_ms", old.hold_headers != *hold_headers);
        self.take("server.shutdown_grace_ms", old.shutdown_grace != *shutdown_grace);
        self.take("server.max_in_flight", old.max_in_flight != *max_in_flight);
        self.take("limits of connections", old.connections != *connections);
        self.take("server.watch_ms", old.watch != *watch);
        self.take("server.public_metrics", old.public_metrics != *public_metrics);
        self.take("server.tls", old.tls != *tls);
    }

    fn tenants(&mut self, old: &TenantsSettings, new: &TenantsSettings) {
        let TenantsSettings { store, tenants, prices } = new;
        self.take("tenants.store", old.store != *store);
        self.named("tenant", &old.tenants, tenants, |one| &one.name);
        // Those of backends that come or go are theirs.
        let differ = |(name, price): (&String, &Price)| old.prices.get(name).is_some_and(|before| before != price);
        self.take("prices", prices.iter().any(differ));
    }

    /// The members of a list that came, went or are not what they were.
    fn named<T: PartialEq>(&mut self, kind: &str, old: &[T], new: &[T], name: impl Fn(&T) -> &str) {
        let find = |list: &[T], wanted: &str| list.iter().position(|one| name(one) == wanted);
        for one in new {
            match find(old, name(one)).and_then(|at| old.get(at)) {
                None => self.taken.push(format!("{kind} `{}` added", name(one))),
                Some(before) if before != one => self.taken.push(format!("{kind} `{}` changed", name(one))),
                Some(_) => {}
            }
        }
        for gone in old.iter().filter(|one| find(new, name(one)).is_none()) {
            self.taken.push(format!("{kind} `{}` removed", name(gone)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};
    use crate::tenants::key::KeyHash;

    fn settings(text: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, text).unwrap();
        load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap()
    }

    fn backend(name: &str, rest: &str) -> String {
        format!("[[backend]]\nname = \"{name}\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n{rest}\n")
    }

    #[track_caller]
    fn check(old: &str, new: &str, taken: &[&str], needs_restart: &[&str]) {
        let found = between(&settings(old), &settings(new));
        assert_eq!(
            (found.taken, found.needs_restart),
            (taken.iter().map(ToString::to_string).collect(), needs_restart.iter().map(ToString::to_string).collect())
        );
    }

    #[test]
    fn every_change_is_named() {
        check("", "", &[], &[]);
        check("", "[server]\nmax_in_flight = 3\nwatch_ms = 0", &["server.max_in_flight", "server.watch_ms"], &[]);
        check("[engine.ar]\nenabled = false", "", &["engine.ar"], &[]);
        check("", "[attempts]\nretries = 2", &["attempts"], &[]);
        check("", "[tenants]\nstore = \"redis://127.0.0.1:1\"", &["tenants.store"], &[]);
        let (a, b) = (backend("a", ""), backend("b", ""));
        check(&a, &b, &["backend `b` added", "backend `a` removed"], &[]);
        check(&a, &backend("a", "price = { input = 1.0 }"), &["prices"], &[]);
        check(&a, &backend("a", "takes_images = true"), &["backend `a` changed"], &[]);
        check(&format!("{a}{b}"), &format!("{b}{a}"), &["order of backends"], &[]);
        let hash = KeyHash::of(b"k");
        let tenant = format!("[[tenant]]\nname = \"t\"\nkeys = [{{ hash = \"{hash}\" }}]\n");
        check(&tenant, &format!("{tenant}concurrent = 1"), &["tenant `t` changed"], &[]);
    }

    #[test]
    fn another_model_at_the_same_place_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("config.json", "{}");
        write("model.weir", "one");
        let config = format!("[engine.ar]\nmodel = {:?}", folder.path());
        let before = settings(&config);
        write("model.weir.partial", "being written");
        assert_eq!(between(&before, &settings(&config)).taken, Vec::<String>::new());
        write("model.weir", "another");
        assert_eq!(between(&before, &settings(&config)).taken, ["engine.ar"]);
    }

    #[test]
    fn what_cannot_change_is_named_too() {
        let hash = KeyHash::of(b"k");
        let admin = |port: u16| format!("[admin]\nlisten = \"127.0.0.1:{port}\"\nkey_hash = \"{hash}\"");
        check("", "[server]\nlisten = \"127.0.0.1:1\"", &[], &["`server.listen`"]);
        check("", &admin(1), &[], &["`admin.listen`"]);
        check(&admin(1), &admin(2), &[], &["`admin.listen`"]);
        let other = admin(1).replace(&hash.to_string(), &KeyHash::of(b"l").to_string());
        check(&admin(1), &other, &["admin key"], &[]);
        check("", "[engine]\npin_threads = true", &[], &["`engine.pin_threads`"]);
        let tenant = format!("[[tenant]]\nname = \"t\"\nkeys = [{{ hash = \"{hash}\" }}]\n");
        let [here, everywhere] = ["127.0.0.1", "0.0.0.0"].map(|host| format!("[server]\nlisten = \"{host}:1\"\n"));
        let gone = "tenant `t` removed";
        check(&format!("{here}{tenant}"), &here, &[gone], &[]);
        check(&format!("{everywhere}{tenant}"), &everywhere, &[gone], &[OPENED]);
        let other = tenant.replace("\"t\"", "\"u\"");
        check(
            &format!("{everywhere}{tenant}{}", other.replace(&hash.to_string(), &KeyHash::of(b"u").to_string())),
            &format!("{everywhere}{tenant}"),
            &["tenant `u` removed"],
            &[],
        );
        check(&everywhere, &everywhere, &[], &[]);
    }
}
