//! The backends there are, by name: built once for a config, never changed. A new config takes over those whose settings
//! are the same. Knows what each can take, so that policies can choose; must never choose itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_diffusion_engine::{
    ComputeDevice, Engine, EngineLoad, EngineOptions, KvType, LoadError, ModelFiles, SharePrefixes, WeightFormat,
};
use weir_kernels::packed::Team;
use weir_protocol::Dialect;
use weir_router_policies::{BackendFacts, BackendRole};

use super::{BackendService, Counter, ModelEntry, NO_CLIENT, builtin, open};
use crate::config::attempts::{AskingSettings, AttemptSettings};
use crate::config::device::{DeviceSettings, GpuWeights};
use crate::config::settings::{self as config, ModelSource};
use crate::config::{BackendSettings, EngineRole, EngineSettings, Settings};
use crate::embedded;
use crate::route::{Standing, StandingView};

/// What policies estimate prompts with. A backend counts exactly and refuses what does not fit.
const BYTES_PER_TOKEN: f32 = 4.0;

/// Why the backends could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A built-in engine's files are wrong.
    #[error("engine `{engine}` cannot be loaded")]
    Engine {
        /// `diffusion` or `ar`.
        engine: &'static str,
        /// Which file and tensor.
        source: LoadError,
    },
    /// The client of an upstream cannot be made.
    #[error("backend `{backend}`: there is no HTTP client\n  help: {}", NO_CLIENT)]
    Upstream {
        /// Its name.
        backend: String,
        /// What the client said.
        source: reqwest::Error,
    },
}

/// One backend. A clone is the same one.
#[derive(Clone)]
pub struct Backend {
    /// Its name in policies, metrics and headers.
    pub name: String,
    /// Calls it.
    pub service: BackendService,
    /// Model ids that mean it, besides its name; the first is its own default.
    pub models: Vec<String>,
    /// What it can take, for policies.
    pub facts: BackendFacts,
    /// The engine behind it, if it runs in this process.
    pub engine: Option<Engine>,
    /// What becomes there of tools that only the caller's API runs.
    pub server_tools: ServerTools,
    /// Counts prompts there, where the upstream does.
    pub counter: Option<Counter>,
    /// How it wants to be asked.
    pub asking: AskingSettings,
    /// How it stands.
    pub standing: Arc<Standing>,
}

/// Tools that an API runs by itself, at one backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerTools {
    /// The dialect in which they reach it; `None`: none do.
    pub of: Option<Dialect>,
    /// Whether the operator wants those of other dialects left out without looking for a backend that runs them.
    pub may_go: bool,
}

/// All backends, in the order they were configured, built-in engines first.
pub struct Registry {
    backends: Vec<Backend>,
}

/// What runs already, for a config that is to follow it.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// Its settings.
    pub settings: &'a Settings,
    /// Its backends.
    pub backends: &'a Registry,
}

impl<'a> Before<'a> {
    /// The engine that runs with these settings; its name and what it was warmed with do not matter.
    pub fn engine(&self, wanted: &EngineSettings) -> Option<&EngineSettings> {
        let bare = |one: &EngineSettings| EngineSettings { name: String::new(), warm: Vec::new(), ..one.clone() };
        self.settings.engines.iter().find(|own| bare(own) == bare(wanted))
    }

    fn upstream(&self, wanted: &BackendSettings, attempts: &AttemptSettings) -> Option<Backend> {
        let is_same = self.settings.backends.contains(wanted) && self.settings.attempts.standing == attempts.standing;
        is_same.then(|| self.backends.by_name(&wanted.name).cloned()).flatten()
    }

    /// That of the same server under other settings.
    fn standing(self, wanted: &BackendSettings) -> Option<&'a Standing> {
        let is_there = |one: &BackendSettings| one.name == wanted.name && one.base_url == wanted.base_url;
        self.settings.backends.iter().find(|one| is_there(one))?;
        Some(&self.backends.by_name(&wanted.name)?.standing)
    }
}

impl Registry {
    /// Loads the engines and opens the clients, or takes them over from `before` where nothing changed. Blocks while
    /// files are read. What is taken over notices nothing of it until [`Registry::take_over`].
    ///
    /// # Errors
    /// An engine's files are wrong, or there is no HTTP client.
    pub fn start(settings: &Settings, before: Option<Before<'_>>) -> Result<Self, StartError> {
        let mut backends = Vec::new();
        // The threads are the process's, and are started once.
        if let (true, None) = (settings.pin_threads && !settings.engines.is_empty(), before) {
            match Team::shared_on_cores() {
                Ok(team) => tracing::info!(threads = team.threads(), "kernel threads stay on their cores"),
                Err(why) => tracing::warn!("engine.pin_threads: kernel threads are not kept on cores: {why}"),
            }
        }
        for engine in &settings.engines {
            backends.push(start_engine(engine, &settings.attempts, before)?);
        }
        for backend in &settings.backends {
            let same = before.and_then(|before| before.upstream(backend, &settings.attempts));
            backends.push(match same {
                Some(same) => same,
                None => open_upstream(backend, &settings.attempts, before.and_then(|before| before.standing(backend)))?,
            });
        }
        Ok(Registry { backends })
    }

    /// From here on requests come to these backends and no more to those of `old`.
    pub fn take_over(&self, old: Option<&Registry>) {
        for backend in &self.backends {
            // The operator took out what has this name, not a certain version of its settings.
            if old.and_then(|old| old.by_name(&backend.name)).is_some_and(|old| old.standing.is_drained()) {
                backend.standing.drain(true);
            }
        }
        introduce(&self.backends);
    }

    /// Puts backends together by hand, for tests.
    #[cfg(test)]
    pub(crate) fn of(backends: Vec<Backend>) -> Self {
        Registry { backends }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Backend> {
        self.backends.iter()
    }

    /// The one of this name.
    pub fn by_name(&self, name: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.name == name)
    }

    /// The first that has this model.
    pub fn by_model(&self, model: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.models.iter().any(|own| own == model))
    }

    /// What policies know about all of them.
    pub fn facts(&self) -> Vec<BackendFacts> {
        self.backends.iter().map(|backend| backend.facts.clone()).collect()
    }

    /// What callers may put into `model`, each id once: `auto`, the roles somebody has, then each backend's name and
    /// models.
    pub fn models(&self) -> Vec<ModelEntry> {
        let mut out: Vec<ModelEntry> = Vec::new();
        let largest = |role: Option<BackendRole>| {
            let facts = self.backends.iter().map(|backend| &backend.facts);
            facts.filter(|facts| role.is_none_or(|role| facts.role == role)).map(|facts| facts.context_tokens).max()
        };
        out.push(ModelEntry { id: "auto".into(), backend: None, context_tokens: largest(None) });
        for role in BackendRole::ALL {
            let name = role.as_str();
            let window =
                self.by_name(name).map(|built_in| built_in.facts.context_tokens).or_else(|| largest(Some(role)));
            let backend = self.by_name(name).map(|built_in| built_in.name.clone());
            out.extend(window.map(|_| ModelEntry { id: name.into(), backend, context_tokens: window }));
        }
        for (group, members) in self.groups() {
            let context_tokens = members.iter().map(|member| member.facts.context_tokens).min();
            out.push(ModelEntry { id: group.to_owned(), backend: None, context_tokens });
        }
        for backend in &self.backends {
            for id in std::iter::once(&backend.name).chain(&backend.models) {
                if out.iter().all(|entry| entry.id != *id) {
                    let context_tokens = Some(backend.facts.context_tokens);
                    out.push(ModelEntry { id: id.clone(), backend: Some(backend.name.clone()), context_tokens });
                }
            }
        }
        out
    }

    /// The groups with their members.
    fn groups(&self) -> BTreeMap<&str, Vec<&Backend>> {
        groups(&self.backends)
    }

    /// How each backend stands.
    pub fn standings(&self) -> Vec<StandingView> {
        self.backends.iter().map(|backend| backend.standing.view()).collect()
    }

    /// What each built-in engine is busy with.
    pub fn loads(&self) -> Vec<(&str, EngineLoad)> {
        let engines = self.backends.iter().filter_map(|backend| Some((backend, backend.engine.as_ref()?)));
        engines.map(|(backend, engine)| (backend.name.as_str(), engine.load_now())).collect()
    }
}

fn groups(backends: &[Backend]) -> BTreeMap<&str, Vec<&Backend>> {
    let mut out: BTreeMap<&str, Vec<&Backend>> = BTreeMap::new();
    for backend in backends {
        if let Some(group) = &backend.facts.group {
            out.entry(group).or_default().push(backend);
        }
    }
    out
}

fn introduce(backends: &[Backend]) {
    for alone in backends.iter().filter(|backend| backend.facts.group.is_none()) {
        Standing::introduce(&[Arc::clone(&alone.standing)]);
    }
    for members in groups(backends).values() {
        let standings: Vec<Arc<Standing>> = members.iter().map(|member| Arc::clone(&member.standing)).collect();
        Standing::introduce(&standings);
    }
}

fn start_engine(
    settings: &EngineSettings,
    attempts: &AttemptSettings,
    before: Option<Before<'_>>,
) -> Result<Backend, StartError> {
    let name = settings.role.as_str();
    let running = before.filter(|before| before.engine(settings).is_some());
    let running = running.and_then(|before| Some((before, before.backends.by_name(name)?)));
    let kept = running.and_then(|(before, backend)| Some((before, backend.engine.clone()?, &backend.standing)));
    let (engine, standing) = match kept {
        Some((before, engine, standing)) => {
            let is_same = before.settings.attempts.standing == attempts.standing;
            (engine, is_same.then(|| Arc::clone(standing)))
        }
        None => (load_engine(settings)?, None),
    };
    let info = engine.info();
    let new = || Standing::new(name, &AskingSettings::default(), &attempts.standing);
    Ok(Backend {
        name: name.to_owned(),
        service: builtin::service(engine.clone(), settings.name.clone()),
        models: vec![settings.name.clone()],
        facts: engine_facts(settings, u64::from(info.context)),
        engine: Some(engine),
        server_tools: ServerTools::default(),
        counter: None,
        standing: standing.unwrap_or_else(new),
        asking: AskingSettings::default(),
    })
}

fn load_engine(settings: &EngineSettings) -> Result<Engine, StartError> {
    let name = settings.role.as_str();
    let files = match &settings.model {
        ModelSource::Nano => embedded::nano(settings.role),
        ModelSource::Dir { path, .. } => ModelFiles::Dir(path.clone()),
    };
    let engine =
        Engine::load(files, options(settings)).map_err(|source| StartError::Engine { engine: name, source })?;
    let info = engine.info();
    // Nothing in a checkpoint tells LLaDA2.0 from 2.1, so the log says how it will be decoded, and who says so.
    let decoding = info.decoding.as_ref();
    let decoder = decoding.map_or("greedy or sampled", |(settings, _)| settings.decoder.as_str());
    let chosen_by = decoding.map_or("kind", |(_, by)| by.as_str());
    let threshold = decoding.map(|(settings, _)| tracing::field::display(settings.threshold));
    tracing::info!(engine = name, model = %settings.name, decoder, chosen_by, threshold, parameters = info.parameters, kernels = info.kernels, kv_pages = info.kv_pages, kv_page_bytes = info.kv_page_bytes, "engine loaded");
    Ok(engine)
}

fn open_upstream(
    settings: &BackendSettings,
    attempts: &AttemptSettings,
    old: Option<&Standing>,
) -> Result<Backend, StartError> {
    let failed = |source| StartError::Upstream { backend: settings.name.clone(), source };
    Ok(Backend {
        name: settings.name.clone(),
        service: open(settings.clone()).map_err(failed)?,
        models: settings.ids().cloned().collect(),
        facts: upstream_facts(settings),
        engine: None,
        server_tools: ServerTools { of: settings.wire.kind.dialect(), may_go: settings.wire.leaves_out_tools },
        counter: Counter::new(settings).map_err(failed)?,
        standing: Standing::following(old, &settings.name, &settings.asking, &attempts.standing),
        asking: settings.asking.clone(),
    })
}

/// What policies know of a built-in engine.
pub(super) fn engine_facts(settings: &EngineSettings, context_tokens: u64) -> BackendFacts {
    BackendFacts {
        name: settings.role.as_str().to_owned(),
        group: None,
        role: policy_role(settings.role),
        context_tokens,
        takes_images: false,
        takes_tools: true,
        honours_unsupported: false,
        local: true,
        bytes_per_token: BYTES_PER_TOKEN,
    }
}

/// What policies know of an upstream.
pub(super) fn upstream_facts(settings: &BackendSettings) -> BackendFacts {
    BackendFacts {
        name: settings.name.clone(),
        group: settings.asking.group.clone(),
        role: policy_role(settings.role),
        context_tokens: settings.context_tokens,
        takes_images: settings.takes_images,
        takes_tools: settings.takes_tools,
        honours_unsupported: true,
        local: settings.is_local(),
        bytes_per_token: BYTES_PER_TOKEN,
    }
}

fn policy_role(role: EngineRole) -> BackendRole {
    match role {
        EngineRole::Diffusion => BackendRole::Diffusion,
        EngineRole::Ar => BackendRole::Ar,
    }
}

fn options(settings: &EngineSettings) -> EngineOptions {
    EngineOptions {
        max_running: settings.max_running,
        queue_limit: settings.queue_limit,
        defaults: settings.decoding.clone(),
        max_tokens_default: settings.max_tokens,
        step_tokens: settings.step_tokens,
        kv_bytes: settings.cache.bytes,
        kv_type: match settings.cache.kv_type {
            config::KvType::F32 => KvType::F32,
            config::KvType::Bf16 => KvType::Bf16,
            config::KvType::Int8 => KvType::Int8,
        },
        share_prefixes: match settings.cache.share {
            config::SharePrefixes::Tenant => SharePrefixes::Tenant,
            config::SharePrefixes::All => SharePrefixes::All,
            config::SharePrefixes::Off => SharePrefixes::Off,
        },
        device: device(settings.device),
        expert_pool: settings.expert_pool,
        recipe: settings.recipe,
    }
}

fn device(settings: DeviceSettings) -> ComputeDevice {
    match settings {
        DeviceSettings::Cpu => ComputeDevice::Cpu,
        DeviceSettings::Cuda { gpu, weights } => {
            let weights = match weights {
                GpuWeights::F32 => WeightFormat::F32,
                GpuWeights::Bf16 => WeightFormat::Bf16,
                GpuWeights::Q8 => WeightFormat::Q8,
                GpuWeights::Q4 => WeightFormat::Q4,
            };
            ComputeDevice::Cuda { gpu, weights }
        }
    }
}
