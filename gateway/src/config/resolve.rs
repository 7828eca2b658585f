//! As typed → as it runs: looks up addresses, files and secrets, and checks that the values make sense together.
//! Collects every mistake instead of stopping at the first.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use weir_diffusion_engine::{Recipe, inspect};
use weir_protocol::DiffusionOptions;

use crate::embedded;

use super::device::{self, DeviceSettings, GpuWeights};
use super::diagnostic::Diagnostic;
use super::files::FileRead;
use super::layers::{Inputs, Layered};
use super::settings::{
    BackendSettings, CacheSettings, EngineRole, EngineSettings, KvType, ModelSource, OWN_IDS, Secret, Settings,
    SharePrefixes, WarmPrefix,
};
use super::written::{BackendWritten, DiffusionWritten, WarmWritten, Written};

const NANO: &str = "builtin:nano";
/// Longest name of a backend: names become metric labels.
const NAME_MAX: usize = 64;

/// Checks `written`; `inputs` has the variables that keys are fetched from, `files` takes note of every file that is read.
pub(super) fn resolve(
    written: &Written,
    layered: &Layered,
    inputs: &Inputs,
    origins: Vec<String>,
    files: &mut Vec<FileRead>,
) -> Result<Settings, Vec<Diagnostic>> {
    let mut checks = Checks { layered, inputs, files, found: Vec::new() };
    let server = checks.server(&written.server);
    let admin = checks.admin(&written.admin);
    if let (Some(server), Some(admin)) = (&server, &admin) {
        checks.own_port(server.listen, admin.listen);
    }
    let engines = checks.engines(written);
    let backends = checks.backends(&written.backend);
    checks.groups(&written.backend, &OWN_IDS);
    let attempts = checks.attempts(&written.attempts, &written.exhausted);
    let tenants = checks.tenants(written);
    let policy = checks.policy(&written.policy);
    let latency = checks.latency(&written.latency);
    let telemetry = checks.telemetry(&written.request_log, &written.tracing);
    let trials = checks.trials(&written.policy);
    checks.idle_settings();
    if engines.is_empty() && backends.is_empty() && checks.found.is_empty() {
        checks.say(
            &["engine"],
            "nobody could answer: both engines are off and there is no backend",
            "add a `[[backend]]`",
        );
    }
    match (server, policy) {
        (Some(server), Some(policy)) if checks.found.is_empty() => Ok(Settings {
            server,
            admin,
            engines,
            pin_threads: written.engine.pin_threads,
            backends,
            policy,
            trials,
            tenants,
            attempts,
            latency,
            telemetry,
            origins,
        }),
        _ => Err(checks.found),
    }
}

pub(super) struct Checks<'a> {
    pub(super) layered: &'a Layered,
    inputs: &'a Inputs,
    files: &'a mut Vec<FileRead>,
    pub(super) found: Vec<Diagnostic>,
}

impl Checks<'_> {
    pub(super) fn say(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        self.found.push(self.layered.diagnostic(&path, message, help));
    }

    /// Where a relative path at `path` starts.
    pub(super) fn base_dir(&self, path: &[&str]) -> PathBuf {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        self.layered.base_dir(&path)
    }

    /// A file's bytes; a change of it is a change of the config.
    pub(super) fn read(&mut self, file: &Path) -> io::Result<Vec<u8>> {
        FileRead::read(file, self.files)
    }

    /// The value of an environment variable.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let found = self.inputs.env.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// A variable that is not there: its value is needed where somebody will be asked.
    pub(super) fn no_variable(&mut self, path: &[&str], help: &str) {
        if !self.inputs.asks_nobody {
            // Not echoed: people put the secret itself here by mistake.
            self.say(path, "no such environment variable", help);
        }
    }

    pub(super) fn at_least_one(&mut self, path: &[&str], value: u64) {
        if value == 0 {
            self.say(path, "must not be 0", "");
        }
    }

    fn engines(&mut self, written: &Written) -> Vec<EngineSettings> {
        let mut out = Vec::new();
        let diffusion = &written.engine.diffusion;
        if diffusion.enabled {
            let decoding = self.decoding(diffusion);
            let sizes = (diffusion.max_running, diffusion.queue_limit, diffusion.max_tokens, diffusion.step_tokens);
            let cache = (diffusion.kv_cache_mb, diffusion.kv_type, diffusion.share_prefixes);
            let (model, name) = (&diffusion.model, &diffusion.name);
            let engine = self.engine(EngineRole::Diffusion, (model, name), decoding, sizes, cache);
            let expert_pool = (diffusion.expert_pool > 0).then_some(diffusion.expert_pool);
            let engine = engine.map(|engine| EngineSettings { expert_pool, ..engine });
            let engine = self.placed(engine, &diffusion.device, diffusion.gpu_weights);
            let engine = self.packed(engine, &diffusion.recipe);
            out.extend(self.warmed(engine, &diffusion.warm));
        }
        let ar = &written.engine.ar;
        if ar.enabled {
            let sizes = (ar.max_running, ar.queue_limit, ar.max_tokens, ar.step_tokens);
            let cache = (ar.kv_cache_mb, ar.kv_type, ar.share_prefixes);
            let engine = self.engine(EngineRole::Ar, (&ar.model, &ar.name), DiffusionOptions::default(), sizes, cache);
            let engine = self.placed(engine, &ar.device, ar.gpu_weights);
            let engine = self.packed(engine, &ar.recipe);
            out.extend(self.warmed(engine, &ar.warm));
        }
        out
    }

    fn decoding(&mut self, typed: &DiffusionWritten) -> DiffusionOptions {
        let nano = (typed.model == NANO).then_some(embedded::NANO_DECODER);
        let decoding = DiffusionOptions {
            decoder: typed.decoder.0.or(nano),
            threshold: typed.threshold.0,
            editing_threshold: typed.editing_threshold.0,
            max_post_steps: Some(typed.max_post_steps),
            block_length: Some(typed.block_length),
            max_steps: (typed.max_steps > 0).then_some(typed.max_steps),
            multi_block_window: Some(typed.multi_block_window),
            repeat_penalty: Some(typed.repeat_penalty),
            refresh_every: Some(typed.refresh_every),
            ..DiffusionOptions::default()
        };
        for wrong in decoding.out_of_range() {
            self.say(&["engine", "diffusion", wrong.field], wrong.message, "");
        }
        decoding
    }

    fn engine(
        &mut self,
        role: EngineRole,
        (model, name): (&str, &str),
        decoding: DiffusionOptions,
        (max_running, queue_limit, max_tokens, step_tokens): (usize, usize, u32, usize),
        (kv_cache_mb, kv_type, share): (u64, KvType, SharePrefixes),
    ) -> Option<EngineSettings> {
        let at = role.as_str();
        self.at_least_one(&["engine", at, "max_running"], max_running as u64);
        self.at_least_one(&["engine", at, "max_tokens"], u64::from(max_tokens));
        self.at_least_one(&["engine", at, "step_tokens"], step_tokens as u64);
        let (source, given_name) = if model == NANO {
            let twin = if role == EngineRole::Diffusion { "diffusion" } else { "ar" };
            (ModelSource::Nano, format!("weir-nano-{twin}"))
        } else {
            let path = self.base_dir(&["engine", at, "model"]).join(model);
            if model.is_empty() || !(path.is_file() || path.join("config.json").is_file()) {
                let help = match inspect::gguf_inside(&path) {
                    Some(inside) => format!("name the file: `{}`", inside.display()),
                    None => format!("name a directory in the Hugging Face layout, a .gguf file, or `{NANO}`"),
                };
                let problem = format!("{} is no directory with a `config.json` and no .gguf file", path.display());
                self.say(&["engine", at, "model"], problem, help);
                return None;
            }
            let own_name = ModelSource::name_of(&path).unwrap_or_else(|| at.to_owned());
            let fingerprint = inspect::fingerprint(&path);
            (ModelSource::Dir { path, fingerprint }, own_name)
        };
        let name = if name.is_empty() { given_name } else { name.to_owned() };
        let bytes = (kv_cache_mb > 0).then(|| kv_cache_mb.saturating_mul(1 << 20));
        let cache = CacheSettings { bytes, kv_type, share };
        let (model, warm) = (source, Vec::new());
        Some(EngineSettings {
            role,
            name,
            model,
            decoding,
            max_running,
            queue_limit,
            max_tokens,
            cache,
            step_tokens,
            expert_pool: None,
            recipe: Recipe::EXACT,
            device: DeviceSettings::Cpu,
            warm,
        })
    }

    /// `engine` on the device it shall run on.
    fn placed(&mut self, engine: Option<EngineSettings>, typed: &str, weights: GpuWeights) -> Option<EngineSettings> {
        let engine = engine?;
        match device::parse(typed, weights) {
            Ok(device) => Some(EngineSettings { device, ..engine }),
            Err((message, help)) => {
                self.say(&["engine", engine.role.as_str(), "device"], message, help);
                None
            }
        }
    }

    /// `engine` with the formats its weights shall have.
    fn packed(&mut self, engine: Option<EngineSettings>, typed: &str) -> Option<EngineSettings> {
        let engine = engine?;
        let recipe = match typed {
            "auto" if engine.model == ModelSource::Nano && engine.device == DeviceSettings::Cpu => {
                Ok(embedded::NANO_RECIPE)
            }
            "auto" | "stored" => Ok(Recipe::EXACT),
            recipe => Recipe::parse(recipe),
        };
        match recipe {
            Ok(recipe) => Some(EngineSettings { recipe, ..engine }),
            Err(message) => {
                let help = "say `auto`, `stored`, or a recipe as of `weir model pack`: docs/quantisation.md";
                self.say(&["engine", engine.role.as_str(), "recipe"], message, help);
                None
            }
        }
    }

    /// `engine` with the prompt beginnings it shall read at the start.
    fn warmed(&mut self, engine: Option<EngineSettings>, typed: &[WarmWritten]) -> Option<EngineSettings> {
        let mut engine = engine?;
        let at = engine.role.as_str();
        if engine.cache.share == SharePrefixes::Off && !typed.is_empty() {
            let help = "set `share_prefixes` to `tenant`, or leave `warm` out";
            self.say(&["engine", at, "warm"], "nothing is kept while `share_prefixes` is `off`", help);
        }
        for (index, one) in typed.iter().enumerate() {
            let index = index.to_string();
            if one.name.is_empty() {
                self.say(&["engine", at, "warm", &index, "name"], "missing", "name it for the log");
            }
            let path = ["engine", at, "warm", &index, "file"];
            let file = self.base_dir(&path).join(&one.file);
            match self.read(&file) {
                Ok(body) => engine.warm.push(WarmPrefix { name: one.name.clone(), body }),
                Err(error) => {
                    let help = "name a file with a chat request as JSON: `messages` and `tools`";
                    self.say(&path, format!("`{}` cannot be read: {error}", file.display()), help);
                }
            }
        }
        Some(engine)
    }

    fn backends(&mut self, typed: &[BackendWritten]) -> Vec<BackendSettings> {
        let mut names: HashSet<&str> = OWN_IDS.into();
        let mut out = Vec::new();
        for (index, one) in typed.iter().enumerate() {
            let index = index.to_string();
            if OWN_IDS.contains(&one.name.as_str()) {
                self.say(&["backend", &index, "name"], "this name is Weir's own", "take another");
            } else if !names.insert(&one.name) {
                self.say(&["backend", &index, "name"], "two backends have this name", "names must differ");
            }
            out.extend(self.backend(&index, one));
        }
        for (index, one) in typed.iter().enumerate() {
            // One of Weir's own ids as `model` is another Weir's; callers of this one mean this one's by it.
            let asked = Some(&one.model).filter(|model| !OWN_IDS.contains(&model.as_str()));
            let ids = asked.map(|id| ("model", id)).into_iter().chain(one.models.iter().map(|id| ("models", id)));
            let (index, help) = (index.to_string(), "callers could not tell them apart: leave it out of one");
            for (key, id) in ids.filter(|(_, id)| **id != one.name && names.contains(id.as_str())) {
                let message = format!("`{id}` is the name of a backend or one of Weir's own ids");
                self.say(&["backend", &index, key], message, help);
            }
        }
        out
    }

    fn backend(&mut self, index: &str, typed: &BackendWritten) -> Option<BackendSettings> {
        let before = self.found.len();
        let name_is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if typed.name.is_empty() || typed.name.len() > NAME_MAX || !typed.name.bytes().all(name_is_plain) {
            let help = "1 to 64 letters, digits, `-`, `_`, `.`: it becomes a header and a metric label";
            self.say(&["backend", index, "name"], "a backend needs a plain name", help);
        }
        if typed.model.is_empty() {
            self.say(&["backend", index, "model"], "missing", "name the model to ask the backend for");
        }
        let base_url = self.base_url(index, typed.kind, &typed.base_url);
        let api_key = self.api_key(index, &typed.api_key_env);
        let headers = self.headers(index, typed);
        let asking = self.asking(index, typed, base_url.as_deref());
        let (wire, role) = self.wire(index, typed);
        self.at_least_one(&["backend", index, "context_tokens"], typed.context_tokens);
        self.waits(index, typed);
        if self.found.len() > before {
            return None;
        }
        Some(BackendSettings {
            name: typed.name.clone(),
            base_url: base_url?,
            api_key,
            model: typed.model.clone(),
            models: typed.models.clone(),
            context_tokens: typed.context_tokens,
            role,
            takes_images: typed.takes_images,
            takes_tools: typed.takes_tools,
            headers,
            wire,
            connect_timeout: Duration::from_millis(typed.connect_timeout_ms),
            first_content_timeout: Duration::from_millis(typed.first_content_timeout_ms),
            idle_timeout: Duration::from_millis(typed.idle_timeout_ms),
            total_timeout: Duration::from_millis(typed.total_timeout_ms),
            asking,
        })
    }

    fn api_key(&mut self, index: &str, variable: &str) -> Option<Secret> {
        if variable.is_empty() {
            return None;
        }
        let value = self.inputs.env.iter().find(|(name, _)| name == variable).map(|(_, value)| value.trim());
        match value {
            Some(value) if HeaderValue::from_str(value).is_ok_and(|header| !header.is_empty()) => {
                Some(Secret::new(value))
            }
            Some(_) => {
                self.say(&["backend", index, "api_key_env"], "the variable holds nothing a header can carry", "");
                None
            }
            None => {
                let help = "this key names the variable; the secret itself never stands in a file";
                self.no_variable(&["backend", index, "api_key_env"], help);
                None
            }
        }
    }

    fn headers(&mut self, index: &str, typed: &BackendWritten) -> Vec<(HeaderName, HeaderValue)> {
        let mut out = Vec::new();
        for (name, value) in &typed.headers {
            let path = ["backend", index, "headers", name.as_str()];
            match (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
                (Ok(name), _) if name == http::header::AUTHORIZATION => {
                    self.say(&path, "a key does not stand in a file", "use `api_key_env`");
                }
                (Ok(name), Ok(value)) => out.push((name, value)),
                (Err(_), _) => self.say(&path, "not a header name", ""),
                (_, Err(_)) => self.say(&path, "not a header value", ""),
            }
        }
        out
    }
}
