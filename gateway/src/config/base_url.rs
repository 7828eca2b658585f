//! `base_url` of a backend: an address to add paths to. Must never take one that carries a secret.

use super::resolve::Checks;
use super::wire::BackendKind;

/// What people copy from examples for `curl`.
const ENDS: [&str; 5] = ["/chat/completions", "/completions", "/responses", "/messages", "/api/chat"];

impl Checks<'_> {
    pub(super) fn base_url(&mut self, index: &str, kind: BackendKind, typed: &str) -> Option<String> {
        let path = ["backend", index, "base_url"];
        if typed.is_empty() {
            self.say(&path, "missing", "say where it is, like `http://127.0.0.1:8000/v1`");
            return None;
        }
        let Ok(url) = reqwest::Url::parse(typed) else {
            self.say(&path, "not a URL", "write it like `http://127.0.0.1:8000/v1`");
            return None;
        };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            self.say(&path, "not an http or https address", "write it like `http://127.0.0.1:8000/v1`");
            return None;
        }
        if let Some(end) = ENDS.iter().find(|end| url.path().trim_end_matches('/').ends_with(**end)) {
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
