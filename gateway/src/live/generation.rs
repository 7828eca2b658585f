//! One config with everything that was built from it. Never changes; the next one takes over what may be kept.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use rustls::ServerConfig;

use super::prepare::prepare;
use crate::backends::Before;
use crate::backends::checking::{self, Checks};
use crate::config::{Loaded, Settings};
use crate::listener::tls;
use crate::metrics::Metrics;
use crate::record::Recorder;
use crate::route::Router;
use crate::stack::{Gateway, stack};
use crate::tenants::Tenants;

/// See the module.
pub struct Generation {
    /// From 1.
    pub number: u64,
    /// When it was built.
    pub since: SystemTime,
    /// What it was built from.
    pub settings: Settings,
    /// The same as an operator may see it.
    pub shown: serde_json::Value,
    /// What handlers share.
    pub gateway: Arc<Gateway>,
    app: axum::Router,
    tls: Option<Arc<ServerConfig>>,
    checks: Checks,
}

impl Generation {
    /// Builds what `loaded` describes, beside `before` if there is one, which notices nothing of it. Blocks while files are
    /// read; needs the runtime.
    pub(super) fn build(loaded: Loaded, before: Option<&Generation>, metrics: Arc<Metrics>) -> Result<Self> {
        let Loaded { settings, shown } = loaded;
        let running =
            before.map(|before| Before { settings: &before.settings, backends: before.gateway.router.backends() });
        let (policy, backends) = prepare(&settings, running)?;
        let tenants =
            Tenants::new(&settings.tenants, before.map(|before| before.gateway.tenants.as_ref()), Arc::clone(&metrics))
                .context("the tenants' store")?;
        let kept = before.filter(|before| before.settings.telemetry == settings.telemetry);
        let recorder = match kept {
            Some(before) => Arc::clone(&before.gateway.recorder),
            None => {
                let started = Recorder::start(&settings.telemetry, Arc::clone(&metrics));
                Arc::new(started.context("records of requests")?)
            }
        };
        let tls = settings.server.tls.as_ref().map(tls::server_config).transpose().context("server.tls")?;
        let models = backends.models();
        let checks = checking::start(&backends, &settings.backends, before.map(|before| &before.checks))
            .context("no HTTP client for health checks")?;
        let (attempts, latency) = (settings.attempts.clone(), settings.latency.clone());
        let router = Router::new(backends, policy, attempts, latency, Arc::clone(&metrics));
        let router = match before {
            Some(before) => {
                let same_canary = before.settings.trials.canary == settings.trials.canary;
                let same_live = before.settings.policy == settings.policy;
                router.succeeding(&before.gateway.router, same_canary, same_live)
            }
            None => router,
        };
        router.foresight().keep();
        let gateway = Arc::new(Gateway {
            router,
            settings: settings.server.clone(),
            models,
            metrics,
            tenants: Arc::new(tenants),
            recorder,
            lasting: before.map(|before| Arc::clone(&before.gateway.lasting)).unwrap_or_default(),
        });
        let number = before.map_or(0, |before| before.number) + 1;
        let app = stack(Arc::clone(&gateway));
        Ok(Generation { number, since: SystemTime::now(), settings, shown, gateway, app, tls, checks })
    }

    /// The last word before requests come here instead of to `old`.
    pub(super) fn take_over(&self, old: Option<&Generation>) {
        self.gateway.router.backends().take_over(old.map(|old| old.gateway.router.backends()));
        let certificate = self.settings.server.tls.as_ref().and_then(tls::validity).map(|(_, end)| end);
        let ending = self.settings.tenants.tenants.iter().filter_map(|one| Some((one.name.as_ref(), one.keys_end()?)));
        self.gateway.metrics.ends(certificate, ending);
        let recorder = &self.gateway.recorder;
        recorder.introduce(&self.settings.backends);
        if let Some(old) = old.map(|old| &old.gateway.recorder).filter(|old| !Arc::ptr_eq(old, recorder)) {
            recorder.succeeds(old);
        }
    }

    pub(super) fn app(&self) -> axum::Router {
        self.app.clone()
    }

    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }
}
