//! `base_url` of a backend: an address to add paths to. Must never take one that carries a secret.

use std::net::IpAddr;

use reqwest::Url;

use crate::api::paths;

use super::resolve::Checks;
use super::wire::BackendKind;

/// Ollama's own; people copy whole addresses from examples for `curl`.
const OLLAMA: &str = "/api/chat";

/// Whether what is sent to this address stays on this machine.
pub(crate) fn is_this_machine(address: &str) -> bool {
    let url = Url::parse(address).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let number = host.trim_matches(['[', ']']).parse::<IpAddr>();
    // Names below it are its own, too (RFC 6761, 6.3).
    host == "localhost" || host.ends_with(".localhost") || number.is_ok_and(|number| number.is_loopback())
}

impl Checks<'_> {
    pub(super) fn base_url(&mut self, index: &str, kind: BackendKind, typed: &str) -> Option<String> {
        let path = ["backend", index, "base_url"];
        if typed.is_empty() {
            self.say(&path, "missing", "say where it is, like `http://127.0.0.1:8000/v1`");
            return None;
        }
        let Ok(url) = Url::parse(typed) else {
            self.say(&path, "not a URL", "write it like `http://127.0.0.1:8000/v1`");
            return None;
        };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            self.say(&path, "not an http or https address", "write it like `http://127.0.0.1:8000/v1`");
            return None;
        }
        let typed_path = url.path().trim_end_matches('/');
        if let Some(end) = paths::answering().chain([OLLAMA]).find(|end| typed_path.ends_with(end)) {
            let message = format!("ends in `{end}`, which Weir adds by itself");
            self.say(&path, message, "leave that out: it mostly ends in `/v1`");
            return None;
        }
        if kind == BackendKind::Ollama && url.path().trim_end_matches('/').ends_with("/v1") {
            let help = "leave it out, or set `kind = \"openai-chat\"`";
            self.say(&path, "ends in `/v1`, where Ollama's own API is not", help);
            return None;
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            self.say(&path, "must not carry credentials or a query", "put the key into a variable: `api_key_env`");
            return None;
        }
        Some(url.as_str().trim_end_matches('/').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for here in [
            "http://127.0.0.1:8000/v1",
            "https://localhost",
            "http://[::1]:1/",
            "http://a.localhost",
            "http://127.9.9.9",
        ] {
            assert!(is_this_machine(here), "{here}");
        }
        for elsewhere in ["http://10.0.0.1", "https://api.example/v1", "http://localhost.example", "http://[::2]", "no"]
        {
            assert!(!is_this_machine(elsewhere), "{elsewhere}");
        }
    }
}
