//! What runs: the config after its checks, with addresses parsed, files read and secrets fetched. Everything past
//! `weir check` uses these types and never looks at a file or the environment again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use weir_diffusion_engine::Recipe;
use weir_protocol::DiffusionOptions;

use super::attempts::{AskingSettings, AttemptSettings};
use super::base_url::is_this_machine;
use super::device::DeviceSettings;
use super::latency::ForesightSettings;
use super::policy::PolicySource;
use super::server::{AdminSettings, ServerSettings};
use super::telemetry::TelemetrySettings;
use super::tenants::TenantsSettings;
use super::trials::TrialSettings;
use super::wire::WireSettings;

/// The whole config, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The listening side.
    pub server: ServerSettings,
    /// The operator's side, if it is on.
    pub admin: Option<AdminSettings>,
    /// The built-in engines that are switched on: at most one of each role.
    pub engines: Vec<EngineSettings>,
    /// Whether their threads stay on cores.
    pub pin_threads: bool,
    /// Upstreams, in the order written.
    pub backends: Vec<BackendSettings>,
    /// The routing rules.
    pub policy: PolicySource,
    /// Policies tried beside it.
    pub trials: TrialSettings,
    /// Who may ask, and how much.
    pub tenants: TenantsSettings,
    /// How the attempts of a plan are made.
    pub attempts: AttemptSettings,
    /// How backends' times are learnt and kept.
    pub latency: ForesightSettings,
    /// What is recorded of requests.
    pub telemetry: TelemetrySettings,
    /// Where values came from, in layer order, for people: `embedded default`, `weir.toml`, …
    pub origins: Vec<String>,
}

impl Settings {
    /// Whether others can reach it and nobody is asked for a key.
    pub fn is_open_to_others(&self) -> bool {
        self.tenants.tenants.is_empty() && !self.server.listen.ip().is_loopback()
    }
}

/// One of the two ways to generate. Each has at most one built-in engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineRole {
    /// Whole blocks, by denoising.
    Diffusion,
    /// Token by token.
    Ar,
}

impl EngineRole {
    /// The model id that always means this engine.
    pub fn as_str(self) -> &'static str {
        match self {
            EngineRole::Diffusion => "diffusion",
            EngineRole::Ar => "ar",
        }
    }
}

/// `[engine.diffusion]` or `[engine.ar]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineSettings {
    /// Which engine; its [`EngineRole::as_str`] is the backend's name.
    pub role: EngineRole,
    /// The model's public name, in the `model` field of answers.
    pub name: String,
    /// Where its files are.
    pub model: ModelSource,
    /// How a diffusion engine decodes where the caller says nothing. Means nothing to the AR engine.
    pub decoding: DiffusionOptions,
    /// Requests that share a forward.
    pub max_running: usize,
    /// Requests that may wait; beyond it the engine answers "overloaded".
    pub queue_limit: usize,
    /// Tokens generated when the caller gives no limit.
    pub max_tokens: u32,
    /// Memory for K/V, and who shares it.
    pub cache: CacheSettings,
    /// Prompt tokens read in one step.
    pub step_tokens: usize,
    /// Experts of a layer that a block may visit; `None`: as the model was trained.
    pub expert_pool: Option<usize>,
    /// Formats its weights are packed in at the start.
    pub recipe: Recipe,
    /// Where its forwards run.
    pub device: DeviceSettings,
    /// Prompt beginnings read at the start.
    pub warm: Vec<WarmPrefix>,
}

/// The K/V memory of an engine, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Bytes; `None`: chosen from the model's size.
    pub bytes: Option<u64>,
    /// How it is stored.
    pub kv_type: KvType,
    /// Who shares.
    pub share: SharePrefixes,
}

/// How K/V is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvType {
    /// As computed.
    F32,
    /// Rounded, half the memory.
    Bf16,
    /// In 8 bits, a quarter of the memory and a little more.
    Int8,
}

/// Whose K/V serves requests that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharePrefixes {
    /// Each tenant's own; a tenant is known by its key.
    Tenant,
    /// Everybody's.
    All,
    /// Nobody's.
    Off,
}

/// A prompt beginning to be read at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmPrefix {
    /// Name in the log.
    pub name: String,
    /// The file's bytes: a chat request as JSON.
    pub body: Vec<u8>,
}

/// Where a built-in engine's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// Compiled into the binary.
    Nano,
    /// A directory in the Hugging Face layout, or a GGUF file.
    Dir {
        /// Where.
        path: PathBuf,
        /// What its files were like when the config was read: others at the same place are another model.
        fingerprint: String,
    },
}

impl ModelSource {
    /// The model's own name: that of its folder, or of its file without `.gguf`.
    #[must_use]
    pub fn name_of(path: &Path) -> Option<String> {
        let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        let name = if is_gguf { path.file_stem() } else { path.file_name() };
        Some(name?.to_string_lossy().into_owned())
    }
}

/// `[[backend]]`, checked: an upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendSettings {
    /// Its name in policies, metrics and headers.
    pub name: String,
    /// Base URL without a trailing slash, such as `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    /// The key, fetched from the environment.
    pub api_key: Option<Secret>,
    /// The model to ask for when the caller names the backend or `auto`.
    pub model: String,
    /// Further model ids callers may name; forwarded as they are.
    pub models: Vec<String>,
    /// Window of the model in tokens.
    pub context_tokens: u64,
    /// How it makes its answers.
    pub role: EngineRole,
    /// Whether it takes images.
    pub takes_images: bool,
    /// Whether it calls tools.
    pub takes_tools: bool,
    /// Headers sent with each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What it speaks.
    pub wire: WireSettings,
    /// Most time to open a connection.
    pub connect_timeout: Duration,
    /// Most time until its first content; a plan's own budget is kept beside it.
    pub first_content_timeout: Duration,
    /// Most time between two pieces of an answer.
    pub idle_timeout: Duration,
    /// Most time for a whole answer.
    pub total_timeout: Duration,
    /// How it wants to be asked.
    pub asking: AskingSettings,
}

/// What callers name where they mean no backend of their own choice.
pub(super) const OWN_IDS: [&str; 3] = ["auto", "diffusion", "ar"];

impl BackendSettings {
    /// Whether requests to it stay on this machine.
    pub fn is_local(&self) -> bool {
        is_this_machine(&self.base_url)
    }

    /// Its models that a caller may name: one of Weir's own ids means this Weir, though another one is asked for it.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.model).filter(|model| !OWN_IDS.contains(&model.as_str())).chain(&self.models)
    }
}

/// A value that must never be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
