//! `[server]`, `[server.tls]` and `[admin]`: as typed and as it runs. Must never hold the admin's key, only its hash, nor
//! show a certificate's key.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::resolve::Checks;
use super::settings::Secret;
use crate::layers::body_memory;
use crate::listener::tls;
use crate::tenants::key::KeyHash;

/// `[server]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerWritten {
    /// Address and port; port 0 takes a free one. Default `127.0.0.1:8787`: this machine only.
    pub listen: String,
    /// Largest request body in bytes. Default 16 MiB.
    pub max_body_bytes: usize,
    /// Most memory that the request bodies in work may take, by estimate (four times their bytes, and what their JSON values
    /// take); beyond it 503. Where there are several tenants, half of it at most for one, which gets 429. What takes
    /// less than 256 KiB is not counted. Default 512 MiB.
    pub body_memory_mb: usize,
    /// Pause between keep-alive comments in a stream. Default 10 s: below the idle limits of common proxies.
    pub keep_alive_ms: u64,
    /// How long a stream's headers wait for the first content. Default 1 s.
    pub hold_headers_ms: u64,
    /// How long running answers may take to end at shutdown. Default 30 s.
    pub shutdown_grace_ms: u64,
    /// Requests in work at once. Default 1024.
    pub max_in_flight: usize,
    /// Connections open at once; beyond it 503 and closed. Default 4096.
    pub max_connections: usize,
    /// Most time for a request's head, counted from its first byte; also for a new connection to say anything, and for
    /// the TLS handshake. Default 10 s.
    pub header_timeout_ms: u64,
    /// How long a client may not read its answer before it is cut and its work cancelled. Default 30 s.
    pub write_timeout_ms: u64,
    /// How long a connection may stay open without a request. Default 90 s.
    pub idle_timeout_ms: u64,
    /// How often the files of the config are looked at for changes. Default 1 s; 0: never.
    pub watch_ms: u64,
    /// Whether `/metrics`, which names tenants and backends, answers without a key where callers are. Default true; the
    /// admin API has it in any case.
    pub public_metrics: bool,
    /// Certificate. Default: plain HTTP.
    pub tls: TlsWritten,
}

impl Default for ServerWritten {
    fn default() -> Self {
        ServerWritten {
            listen: "127.0.0.1:8787".into(),
            max_body_bytes: 16 * 1024 * 1024,
            body_memory_mb: 512,
            keep_alive_ms: 10_000,
            hold_headers_ms: 1_000,
            shutdown_grace_ms: 30_000,
            max_in_flight: 1024,
            max_connections: 4096,
            header_timeout_ms: 10_000,
            write_timeout_ms: 30_000,
            idle_timeout_ms: 90_000,
            watch_ms: 1_000,
            public_metrics: true,
            tls: TlsWritten::default(),
        }
    }
}

/// `[server.tls]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsWritten {
    /// File with the certificate and those that lead to its root, as PEM. Default empty: plain HTTP.
    pub cert: String,
    /// File with the certificate's private key, as PEM. Default empty.
    pub key: String,
}

/// `[admin]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminWritten {
    /// Address and port of the admin API. Default empty: there is none.
    pub listen: String,
    /// Environment variable that holds the key. Default empty.
    pub key_env: String,
    /// The key's hash instead, as `weir key new` prints it. Default empty.
    pub key_hash: String,
}

/// `[server]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Largest request body in bytes; beyond it the answer is 413.
    pub max_body_bytes: usize,
    /// Most bytes of memory that request bodies in work may take.
    pub body_memory: usize,
    /// Pause between `: keep-alive` comments while nothing is ready.
    pub keep_alive: Duration,
    /// How long a streamed answer's headers wait for the first content, so that an early error keeps its status.
    pub hold_headers: Duration,
    /// How long running answers may take to end after a stop was asked for.
    pub shutdown_grace: Duration,
    /// Requests in work at once; beyond it the answer is 503.
    pub max_in_flight: usize,
    /// What connections may do.
    pub connections: ConnectionSettings,
    /// How often the config's files are looked at; `None`: never.
    pub watch: Option<Duration>,
    /// Whether `/metrics` answers where callers are.
    pub public_metrics: bool,
    /// The certificate, if there is one.
    pub tls: Option<TlsSettings>,
}

/// What connections may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Open at once.
    pub max: usize,
    /// For a request's head, a first word, and the TLS handshake.
    pub header_timeout: Duration,
    /// Without reading what is there to read.
    pub write_timeout: Duration,
    /// Without a request.
    pub idle_timeout: Duration,
}

/// A certificate with its key, both known to be readable and to belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsSettings {
    /// Where the certificate was read from.
    pub file: PathBuf,
    /// The chain, as PEM.
    pub cert: Vec<u8>,
    /// Where its key was read from.
    pub key_file: PathBuf,
    /// The private key, as PEM.
    pub key: Secret,
}

/// `[admin]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminSettings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The hash of the only key.
    pub key: KeyHash,
}

/// Least length of an admin key from the environment: a shorter one can be guessed.
const KEY_MIN: usize = 16;

impl Checks<'_> {
    pub(super) fn server(&mut self, typed: &ServerWritten) -> Option<ServerSettings> {
        let whole = [
            ("max_body_bytes", typed.max_body_bytes as u64),
            ("keep_alive_ms", typed.keep_alive_ms),
            ("max_in_flight", typed.max_in_flight as u64),
            ("max_connections", typed.max_connections as u64),
            ("header_timeout_ms", typed.header_timeout_ms),
            ("write_timeout_ms", typed.write_timeout_ms),
            ("idle_timeout_ms", typed.idle_timeout_ms),
        ];
        for (key, value) in whole {
            self.at_least_one(&["server", key], value);
        }
        let body_memory = typed.body_memory_mb.saturating_mul(1 << 20);
        let one = body_memory::least(typed.max_body_bytes);
        if body_memory < one {
            let help = format!("a body takes four times its bytes: say {} or more, in MiB", one.div_ceil(1 << 20));
            self.say(&["server", "body_memory_mb"], "has no room for one body of `server.max_body_bytes`", help);
        }
        let tls = self.tls(&typed.tls);
        let Some(listen) = address(&typed.listen) else {
            self.say(&["server", "listen"], "not an address and port", "write it like `127.0.0.1:8787`");
            return None;
        };
        let ms = Duration::from_millis;
        Some(ServerSettings {
            listen,
            max_body_bytes: typed.max_body_bytes,
            body_memory,
            keep_alive: ms(typed.keep_alive_ms),
            hold_headers: ms(typed.hold_headers_ms),
            shutdown_grace: ms(typed.shutdown_grace_ms),
            max_in_flight: typed.max_in_flight,
            connections: ConnectionSettings {
                max: typed.max_connections,
                header_timeout: ms(typed.header_timeout_ms),
                write_timeout: ms(typed.write_timeout_ms),
                idle_timeout: ms(typed.idle_timeout_ms),
            },
            watch: (typed.watch_ms > 0).then(|| ms(typed.watch_ms)),
            public_metrics: typed.public_metrics,
            tls,
        })
    }

    fn tls(&mut self, typed: &TlsWritten) -> Option<TlsSettings> {
        match (typed.cert.is_empty(), typed.key.is_empty()) {
            (true, true) => return None,
            (false, false) => {}
            (cert_is_missing, _) => {
                let (there, missing) = if cert_is_missing { ("key", "cert") } else { ("cert", "key") };
                let message = format!("there is no `{missing}` beside it");
                self.say(&["server", "tls", there], message, "TLS needs both `cert` and `key`");
                return None;
            }
        }
        let (file, cert) = self.tls_file("cert", &typed.cert)?;
        let (key_file, key) = self.tls_file("key", &typed.key)?;
        // The bytes of a key are shown nowhere, not even in an error.
        let key = Secret::new(String::from_utf8(key).unwrap_or_default());
        let settings = TlsSettings { file, cert, key_file, key };
        if let Err(error) = tls::server_config(&settings) {
            self.say(&["server", "tls", error.key()], error.to_string(), error.help());
            return None;
        }
        Some(settings)
    }

    fn tls_file(&mut self, key: &str, typed: &str) -> Option<(PathBuf, Vec<u8>)> {
        let path = ["server", "tls", key];
        let file = self.base_dir(&path).join(Path::new(typed));
        match self.read(&file) {
            Ok(bytes) => Some((file, bytes)),
            Err(error) => {
                self.say(&path, format!("`{}` cannot be read: {error}", file.display()), "name a PEM file");
                None
            }
        }
    }

    pub(super) fn admin(&mut self, typed: &AdminWritten) -> Option<AdminSettings> {
        let key = self.admin_key(typed);
        if typed.listen.is_empty() {
            return None;
        }
        let Some(listen) = address(&typed.listen) else {
            self.say(&["admin", "listen"], "not an address and port", "write it like `127.0.0.1:8788`");
            return None;
        };
        if key.is_none() && typed.key_env.is_empty() && typed.key_hash.is_empty() {
            let help = "`weir key new` makes a key and its hash: put the hash into `admin.key_hash`";
            self.say(&["admin", "listen"], "the admin API does not start without a key", help);
        }
        Some(AdminSettings { listen, key: key? })
    }

    /// Two listeners cannot share a port of one address, nor of all addresses and one of them.
    pub(super) fn own_port(&mut self, server: SocketAddr, admin: SocketAddr) {
        let (one, other) = (server.ip(), admin.ip());
        let meet = one == other || one.is_unspecified() || other.is_unspecified();
        if meet && server.port() == admin.port() && server.port() != 0 {
            self.say(&["admin", "listen"], "`server.listen` has this port already", "take another");
        }
    }

    fn admin_key(&mut self, typed: &AdminWritten) -> Option<KeyHash> {
        match (typed.key_env.as_str(), typed.key_hash.as_str()) {
            ("", "") => None,
            ("", hash) => {
                let parsed = KeyHash::parse(hash);
                if parsed.is_none() {
                    // Not echoed: people put the key itself here by mistake.
                    self.say(&["admin", "key_hash"], "not a key's hash", "`weir key new` prints a key and its hash");
                }
                parsed
            }
            (variable, "") => {
                let Some(key) = self.variable(variable) else {
                    let help = "this key names the variable; the secret itself never stands in a file";
                    self.no_variable(&["admin", "key_env"], help);
                    return None;
                };
                if key.len() < KEY_MIN {
                    self.say(&["admin", "key_env"], "the variable's key is too short", "16 characters at least");
                    return None;
                }
                Some(KeyHash::of(key.as_bytes()))
            }
            (..) => {
                self.say(&["admin", "key_hash"], "there is a `key_env`, too", "leave one of them out");
                None
            }
        }
    }
}

fn address(typed: &str) -> Option<SocketAddr> {
    typed.parse().ok().or_else(|| typed.to_socket_addrs().ok()?.next())
}

#[cfg(test)]
mod tests {
    use crate::config::{Inputs, Settings, load};
    use crate::listener::tls::tests::{CERT, KEY, OTHER_KEY};
    use crate::tenants::key::KeyHash;

    fn load_text(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("weir.toml", text), ("cert.pem", CERT), ("key.pem", KEY), ("other.pem", OTHER_KEY)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let file = folder.path().join("weir.toml");
        let env = vec![("ADMIN".to_owned(), "an-admin-key-of-32-characters-xy".to_owned())];
        let name = folder.path().display().to_string();
        load(&Inputs { file: Some(file), env, ..Inputs::default() })
            .map_err(|errors| errors.to_string().replace(&name, "."))
    }

    #[track_caller]
    fn refused(text: &str, words: &str) {
        let error = load_text(text).unwrap_err();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn a_certificate_needs_its_own_key() {
        let settings = load_text("[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"").unwrap();
        assert!(settings.server.tls.is_some());
        assert!(!format!("{:?}", settings.server.tls).contains("PRIVATE"));
        refused("[server.tls]\ncert = \"cert.pem\"", "`server.tls.cert`: there is no `key` beside it");
        refused(
            "[server.tls]\ncert = \"cert.pem\"\nkey = \"other.pem\"",
            "`server.tls.key`: not the certificate's key",
        );
        refused("[server.tls]\ncert = \"key.pem\"\nkey = \"key.pem\"", "`server.tls.cert`: holds no certificate");
        refused("[server.tls]\ncert = \"cert.pem\"\nkey = \"cert.pem\"", "`server.tls.key`: holds no private key");
        refused("[server.tls]\ncert = \"no.pem\"\nkey = \"key.pem\"", "./no.pem` cannot be read");
    }

    #[test]
    fn the_admin_api_does_not_start_without_a_key() {
        assert_eq!(load_text("").unwrap().admin, None);
        refused("[admin]\nlisten = \"127.0.0.1:0\"", "does not start without a key");
        refused("[admin]\nlisten = \"127.0.0.1:0\"\nkey_env = \"NOBODY\"", "no such environment variable");
        refused("[admin]\nlisten = \"127.0.0.1:0\"\nkey_hash = \"secret\"", "`admin.key_hash`: not a key's hash");
        for (server, admin) in [("127.0.0.1:8000", "127.0.0.1:8000"), ("0.0.0.0:8000", "127.0.0.1:8000")] {
            let text = format!("[server]\nlisten = \"{server}\"\n[admin]\nlisten = \"{admin}\"\nkey_env = \"ADMIN\"");
            refused(&text, "`admin.listen`: `server.listen` has this port already");
        }
        let key = KeyHash::of(b"an-admin-key-of-32-characters-xy");
        let settings = load_text("[admin]\nlisten = \"127.0.0.1:0\"\nkey_env = \"ADMIN\"").unwrap();
        assert_eq!(settings.admin.map(|admin| admin.key), Some(key));
        let both = format!("[admin]\nlisten = \"127.0.0.1:0\"\nkey_env = \"ADMIN\"\nkey_hash = \"{key}\"");
        refused(&both, "leave one of them out");
    }
}
