//! The backends there are, by name: built once at start, never changed. Knows what each can take, so that policies
//! can choose; must never choose itself.

use weir_diffusion_engine::{DecodeDefaults, DecoderKind, Engine, EngineOptions, LoadError, ModelFiles};

use super::{BackendService, ModelEntry, builtin};
use crate::config::settings::{Decoder, ModelSource};
use crate::config::{EngineRole, EngineSettings, Settings};
use crate::embedded;

/// Why the backends could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A built-in engine's files are wrong.
    #[error("engine `{engine}`: {source}")]
    Engine {
        /// `diffusion` or `ar`.
        engine: &'static str,
        /// Which file and tensor.
        source: LoadError,
    },
}

/// One backend.
pub struct Backend {
    /// Its name in policies, metrics and headers.
    pub name: String,
    /// Calls it.
    pub service: BackendService,
    /// Model ids that mean it, besides its name; the first is its own default.
    pub models: Vec<String>,
    /// Its window in tokens.
    pub context_tokens: u64,
    /// Whether it takes images.
    pub takes_images: bool,
    /// The engine behind it, if it runs in this process.
    pub engine: Option<(EngineRole, Engine)>,
}

/// All backends, in the order they were configured, built-in engines first.
pub struct Registry {
    backends: Vec<Backend>,
}

impl Registry {
    /// Loads the engines and opens the clients. Blocks while files are read.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        let mut backends = Vec::new();
        for engine in &settings.engines {
            backends.push(start_engine(engine)?);
        }
        Ok(Registry { backends })
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

    /// What callers may put into `model`: `auto`, then each backend's name and models, each id once.
    pub fn models(&self) -> Vec<ModelEntry> {
        let largest = self.backends.iter().map(|backend| backend.context_tokens).max();
        let mut out = vec![ModelEntry { id: "auto".into(), backend: None, context_tokens: largest }];
        for backend in &self.backends {
            for id in std::iter::once(&backend.name).chain(&backend.models) {
                if out.iter().all(|entry| entry.id != *id) {
                    let context_tokens = Some(backend.context_tokens);
                    out.push(ModelEntry { id: id.clone(), backend: Some(backend.name.clone()), context_tokens });
                }
            }
        }
        out
    }

    /// Requests waiting in each built-in engine.
    pub fn queues(&self) -> Vec<(&str, usize)> {
        let engines = self.backends.iter().filter_map(|backend| Some((backend, &backend.engine.as_ref()?.1)));
        engines.map(|(backend, engine)| (backend.name.as_str(), engine.load_now().queued)).collect()
    }
}

fn start_engine(settings: &EngineSettings) -> Result<Backend, StartError> {
    let name = settings.role.as_str();
    let files = match &settings.model {
        ModelSource::Nano => embedded::nano(settings.role),
        ModelSource::Dir(dir) => ModelFiles::Dir(dir.clone()),
    };
    let engine = Engine::load(files, options(settings)).map_err(|source| StartError::Engine { engine: name, source })?;
    let info = engine.info();
    tracing::info!(engine = name, model = %settings.name, parameters = info.parameters, kernels = info.kernels, "engine loaded");
    Ok(Backend {
        name: name.to_owned(),
        service: builtin::service(engine.clone(), settings.name.clone()),
        models: vec![settings.name.clone()],
        context_tokens: u64::from(info.context),
        takes_images: false,
        engine: Some((settings.role, engine)),
    })
}

fn options(settings: &EngineSettings) -> EngineOptions {
    let mut defaults = DecodeDefaults::default();
    if let Some(decoding) = &settings.decoding {
        defaults.decoder = match decoding.decoder {
            Decoder::Joint => DecoderKind::Joint,
            Decoder::Threshold => DecoderKind::Threshold,
        };
        defaults.threshold = decoding.threshold;
        defaults.editing_threshold = decoding.editing_threshold;
        defaults.max_post_steps = decoding.max_post_steps;
    }
    EngineOptions {
        max_running: settings.max_running,
        queue_limit: settings.queue_limit,
        defaults,
        max_tokens_default: settings.max_tokens,
    }
}
