//! What is soaked: one gateway with built-in engines, tenants and a request log, one fault upstream in every protocol, and
//! a Redis where there is one.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use weir_tests::asking::{metrics, metrics_until};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::{Ending, FaultUpstream};
use weir_tests::redis_server::RedisServer;

/// A key that may do everything, and one that soon reaches its limits.
pub(crate) const KEYS: [&str; 2] = ["weir_plugh-0123456789-0123456789", "weir_xyzzy-9876543210-9876543210"];
/// `printf '%s' "$KEY" | sha256sum`, of each.
const HASHES: [&str; 2] = [
    "sha256:947d84cc1fbcd87110576ad9d43096a2c1a99157669894f9d84fc82c59225b49",
    "sha256:ad53ea1fa07f9f23343f8eccb56b4fa953e6c1c4ccc68e507fe6d072a1e0c3ae",
];

/// Backends: name, kind, fault.
const BACKENDS: [(&str, &str, &str); 24] = [
    ("chat", "openai-chat", "fine"),
    ("chat-bytes", "openai-chat", "byte-by-byte"),
    ("chat-tools", "openai-chat", "parallel-tools"),
    ("chat-limits", "openai-chat", "limits"),
    ("chat-500", "openai-chat", "500"),
    ("chat-429", "openai-chat", "429"),
    ("chat-401", "openai-chat", "401"),
    ("chat-cut", "openai-chat", "cut-late"),
    ("chat-early", "openai-chat", "cut-early"),
    ("chat-unended", "openai-chat", "no-finish"),
    ("chat-broken", "openai-chat", "malformed"),
    ("chat-error", "openai-chat", "error-event"),
    ("chat-silent", "openai-chat", "silent"),
    ("chat-hang", "openai-chat", "hang"),
    ("chat-drip", "openai-chat", "drip"),
    ("chat-reset", "openai-chat", "reset"),
    ("chat-html", "openai-chat", "html-ok"),
    ("responses", "openai-responses", "fine"),
    ("responses-cut", "openai-responses", "cut-late"),
    ("messages", "anthropic", "fine"),
    ("messages-tools", "anthropic", "tools"),
    ("messages-error", "anthropic", "error-event"),
    ("ollama", "ollama", "fine"),
    ("ollama-cut", "ollama", "cut-late"),
];

/// What an upstream does that answers well.
const SOUND: [&str; 5] = ["fine", "byte-by-byte", "parallel-tools", "tools", "limits"];

/// What callers may ask for, and whether it should answer.
pub(crate) fn models() -> impl Iterator<Item = (&'static str, bool)> {
    let backends = BACKENDS.iter().map(|(name, _, fault)| (*name, SOUND.contains(fault)));
    backends.chain([("auto", true), ("diffusion", true), ("ar", true), ("nobody", false)])
}

/// Where callers go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// `http://127.0.0.1:PORT`.
    pub(crate) base: Arc<str>,
    /// `127.0.0.1:PORT`.
    pub(crate) address: Arc<str>,
}

/// See the module.
pub(crate) struct House {
    pub(crate) weir: Weir,
    pub(crate) upstream: FaultUpstream,
    redis: Option<RedisServer>,
    port: Option<u16>,
    /// Reloads asked for.
    pub(crate) reloaded: u32,
    /// Whether Redis went and came back.
    pub(crate) redis_restarted: bool,
}

impl House {
    pub(crate) async fn build() -> Result<Self> {
        let upstream = FaultUpstream::start().await?;
        let redis = RedisServer::start()?;
        let config = config(&upstream, redis.as_ref());
        // What is said in passing would fill our own memory.
        let weir = Weir::start_with(&config, &[("RUST_LOG", "error")])?;
        let port = redis.as_ref().map(RedisServer::port);
        Ok(House { weir, upstream, redis, port, reloaded: 0, redis_restarted: false })
    }

    pub(crate) fn target(&self) -> Target {
        Target { base: self.weir.url("").into(), address: self.weir.address().into() }
    }

    pub(crate) fn weir_id(&self) -> u32 {
        self.weir.id()
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.weir.folder().join("requests.jsonl")
    }

    pub(crate) fn has_redis(&self) -> bool {
        self.port.is_some()
    }

    /// Has the gateway read its config again, changed a little, and waits until the change holds.
    pub(crate) async fn reload(&mut self) -> Result<()> {
        let file = self.weir.folder().join("weir.toml");
        let text = std::fs::read_to_string(&file).context("the config")?;
        let (from, to) = match self.reloaded % 2 {
            0 => ("keep_alive_ms = 5000", "keep_alive_ms = 6000"),
            _ => ("keep_alive_ms = 6000", "keep_alive_ms = 5000"),
        };
        ensure!(text.contains(from), "the config is another");
        let before = metrics(&self.weir).await?.sum(RELOADS, &APPLIED);
        std::fs::write(&file, text.replace(from, to)).context("writing the config")?;
        let sent = Command::new("kill").args(["-HUP", &self.weir.id().to_string()]).status().context("kill")?;
        ensure!(sent.success(), "kill: {sent}");
        metrics_until(&self.weir, "the config is read again", |page| page.sum(RELOADS, &APPLIED) > before).await?;
        self.reloaded += 1;
        Ok(())
    }

    pub(crate) fn lose_redis(&mut self) {
        self.redis = None;
    }

    /// Brings it back, if it is away.
    pub(crate) fn find_redis(&mut self) -> Result<()> {
        if let (None, Some(port)) = (&self.redis, self.port) {
            self.redis = RedisServer::start_at(port)?;
            self.redis_restarted = true;
        }
        Ok(())
    }

    /// Upstream requests that have no end yet.
    pub(crate) fn open_upstream(&self) -> usize {
        self.upstream.seen().iter().filter(|seen| seen.ending == Ending::Open).count()
    }
}

/// Counts what was read of the config, by what came of it.
const RELOADS: &str = "weir_config_reloads_total";
const APPLIED: [(&str, &str); 1] = [("outcome", "applied")];

fn config(upstream: &FaultUpstream, redis: Option<&RedisServer>) -> String {
    let mut text = "[server]\nkeep_alive_ms = 5000\nhold_headers_ms = 200\nmax_in_flight = 64\n\n\
                    [request_log]\nenabled = true\nfile = \"requests.jsonl\"\n\n\
                    [attempts]\nbreaker_ms = 500\nbreaker_max_ms = 2000\nretry_base_ms = 10\nretry_max_ms = 50\nhedge = true\n\
                    hedge_after_ms = 150\n\n"
        .to_owned();
    if let Some(redis) = redis {
        text.push_str(&format!("[tenants]\nstore = \"{}\"\nstore_timeout_ms = 500\n\n", redis.url()));
    }
    for (name, kind, fault) in BACKENDS {
        let base = if kind == "ollama" { upstream.root_url(fault) } else { upstream.base_url(fault) };
        // Only what is meant to run out of time has little of it.
        let (wait, total) = if SOUND.contains(&fault) { (10_000, 20_000) } else { (400, 1_500) };
        text.push_str(&format!(
            "[[backend]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{base}\"\nmodel = \"{name}-model\"\n\
             headers_timeout_ms = {wait}\nfirst_content_timeout_ms = {wait}\nidle_timeout_ms = {wait}\n\
             total_timeout_ms = {total}\n\n"
        ));
    }
    for ((name, hash), limits) in ["free", "bound"]
        .iter()
        .zip(HASHES)
        .zip(["concurrent = 64", "requests_per_minute = 120\ntokens_per_minute = 20000\nconcurrent = 2"])
    {
        text.push_str(&format!("[[tenant]]\nname = \"{name}\"\nkeys = [{{ hash = \"{hash}\" }}]\n{limits}\n\n"));
    }
    text
}
