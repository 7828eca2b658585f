//! The config that is in force, and how another takes its place: read whole, checked, built beside the running one, then
//! swapped in one step. Requests under way end on the config they began with. Must never leave the running config for one
//! that is not whole, nor pass over in silence what it cannot change.

mod changes;
mod generation;
mod in_vain;
pub(crate) mod prepare;
mod reload;
mod watch;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use anyhow::{Context, Result};
use rustls::ServerConfig;

pub use self::generation::Generation;
pub use self::reload::{Outcome, Trigger};
pub(crate) use self::watch::watch;
use crate::config::server::ConnectionSettings;
use crate::config::{FileRead, Inputs, Settings};
use crate::listener::House;
use crate::metrics::Metrics;

/// See the module.
pub struct Live {
    inputs: Inputs,
    current: RwLock<Arc<Generation>>,
    metrics: Arc<Metrics>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    last: Mutex<Attempted>,
}

/// The last time a config was read.
#[derive(Debug, Clone)]
pub struct Attempted {
    /// When.
    pub at: SystemTime,
    /// What became of it; `None`: it was the start.
    pub outcome: Option<Outcome>,
    /// What was read.
    files: Vec<FileRead>,
}

impl Live {
    /// Reads the config, does `first` what must not wait, and builds what the config describes. Takes as long as loading the
    /// engines does.
    ///
    /// # Errors
    /// The config, the policy or an engine's file is wrong, or `first` fails.
    pub async fn start<T: Send + 'static>(
        inputs: Inputs,
        first: impl FnOnce(&Settings) -> Result<T> + Send + 'static,
    ) -> Result<(Arc<Self>, T)> {
        let metrics = Arc::new(Metrics::new().context("metrics")?);
        let (read, counted) = (inputs.clone(), Arc::clone(&metrics));
        let built = tokio::task::spawn_blocking(move || {
            let mut files = Vec::new();
            let loaded = crate::config::load_noting(&read, &mut files)?;
            let claimed = first(&loaded.settings)?;
            anyhow::Ok((Generation::build(loaded, None, counted)?, files, claimed))
        });
        let (first, files, claimed) = built.await.context("loading failed")??;
        first.take_over(None);
        let last = Mutex::new(Attempted { at: SystemTime::now(), outcome: None, files });
        let current = RwLock::new(Arc::new(first));
        let live = Live { inputs, current, metrics, reloading: tokio::sync::Mutex::new(()), last };
        Ok((Arc::new(live), claimed))
    }

    /// The config in force.
    pub fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The one step.
    fn swap(&self, new: Arc<Generation>) -> Arc<Generation> {
        std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), new)
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How the last reading of the config ended.
    pub fn last(&self) -> Attempted {
        self.attempted().clone()
    }

    fn attempted(&self) -> MutexGuard<'_, Attempted> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether new traffic should come; what comes is answered all the same.
    pub fn drain(&self, draining: bool) {
        self.current().gateway.lasting.draining.store(draining, Ordering::Relaxed);
    }

    /// Whether no new traffic should come.
    pub fn is_draining(&self) -> bool {
        self.current().gateway.lasting.draining.load(Ordering::Relaxed)
    }
}

impl House for Live {
    fn app(&self) -> axum::Router {
        self.current().app()
    }

    fn limits(&self) -> ConnectionSettings {
        self.current().settings.server.connections
    }

    fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.current().tls()
    }
}
