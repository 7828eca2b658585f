//! `weir serve`, and the same start for whoever wants a gateway in its own process: loads, then listens, and stops
//! without cutting answers short as long as the grace lasts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::prepare::prepare;
use crate::backends::ModelEntry;
use crate::backends::checking::{self, Checks};
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::record::Recorder;
use crate::route::Router;
use crate::stack::{Gateway, stack};
use crate::tenants::Tenants;

/// How long callers may take to read the end of an answer that outlasted the grace.
const FAREWELL: Duration = Duration::from_secs(1);

/// Longest wait for the request log's last lines.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Serves until a signal comes.
pub(super) fn command(settings: Settings) -> Result<()> {
    let origins = settings.origins.join(" ← ");
    let policy = settings.policy.origin.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let mut recorder = None;
    let served = runtime.block_on(async {
        let running = start(settings).await?;
        recorder = Some(Arc::clone(&running.gateway.recorder));
        let ids: Vec<&str> = running.models().iter().map(|entry| entry.id.as_str()).collect();
        eprintln!("weir {} listens on http://{}", env!("CARGO_PKG_VERSION"), running.addr());
        eprintln!("  models  {}", ids.join(", "));
        eprintln!("  config  {origins}");
        eprintln!("  policy  {policy}");
        if !running.addr().ip().is_loopback() && !running.asks_for_keys() {
            eprintln!("  note    others can reach this address, and Weir asks nobody for a key");
        }
        running.until_stopped().await
    });
    // With the runtime go the requests that outlasted everything: they are recorded, too.
    drop(runtime);
    if let Some(recorder) = recorder {
        recorder.stop(LAST_LINES);
    }
    served
}

/// A gateway that answers. Dropping it asks it to stop without waiting.
pub struct Running {
    addr: SocketAddr,
    gateway: Arc<Gateway>,
    stop: watch::Sender<bool>,
    task: JoinHandle<std::io::Result<()>>,
    _checks: Checks,
}

/// Loads the engines, opens the socket and answers in the background.
///
/// # Errors
/// The policy or an engine's file is wrong, or the address cannot be listened on.
pub async fn start(settings: Settings) -> Result<Running> {
    let server = settings.server.clone();
    let tenants = settings.tenants.clone();
    let request_log = settings.request_log.clone();
    let (attempts, upstreams) = (settings.attempts.clone(), settings.backends.clone());
    let (policy, backends) =
        tokio::task::spawn_blocking(move || prepare(&settings)).await.context("loading failed")??;
    let metrics = Arc::new(Metrics::new().context("metrics")?);
    let recorder = Recorder::start(request_log.as_ref(), Arc::clone(&metrics)).context("request log")?;
    let recorder = Arc::new(recorder);
    let prices = tenants.prices.clone();
    let tenants = Tenants::new(&tenants, prices, Arc::clone(&metrics)).context("the tenants' store")?;
    let tenants = Arc::new(tenants);
    let models = backends.models();
    let checks = checking::start(&backends, &upstreams).context("no HTTP client for health checks")?;
    let router = Router::new(backends, policy, attempts, Arc::clone(&metrics));
    let draining = AtomicBool::new(false);
    let gateway = Arc::new(Gateway { router, settings: server, models, metrics, tenants, recorder, draining });

    let wanted = gateway.settings.listen;
    let listener = TcpListener::bind(wanted).await.with_context(|| match wanted.port() {
        0 => format!("cannot listen on {wanted}"),
        port => {
            format!("cannot listen on {wanted}: is port {port} in use? (`--listen` or `server.listen` takes another)")
        }
    })?;
    let addr = listener.local_addr().context("no local address")?;
    // Small events must not wait for a full packet.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
    let (stop, mut stopped) = watch::channel(false);
    let app = stack(Arc::clone(&gateway));
    let task = tokio::spawn(async move {
        let until = async move {
            // An error means the handle is gone: that is a stop, too.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        axum::serve(listener, app).with_graceful_shutdown(until).await
    });
    Ok(Running { addr, gateway, stop, task, _checks: checks })
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it serves.
    pub fn models(&self) -> &[ModelEntry] {
        &self.gateway.models
    }

    /// Whether callers need a key.
    pub fn asks_for_keys(&self) -> bool {
        !self.gateway.tenants.directory().is_empty()
    }

    /// Goes on until SIGTERM or Ctrl-C, then [`Running::stop`]s.
    ///
    /// # Errors
    /// Signals cannot be waited for, or serving broke.
    pub async fn until_stopped(self) -> Result<()> {
        signal().await?;
        eprintln!("weir: stopping; running answers have up to {} s", self.gateway.settings.shutdown_grace.as_secs());
        self.stop().await
    }

    /// Takes no new connections, lets running answers end, and ends those that outlast the grace with an error.
    ///
    /// # Errors
    /// Serving broke.
    pub async fn stop(self) -> Result<()> {
        self.gateway.draining.store(true, Ordering::Relaxed);
        let _ = self.stop.send(true);
        let grace = self.gateway.settings.shutdown_grace.max(Duration::from_millis(1));
        let mut task = self.task;
        let served = match tokio::time::timeout(grace, &mut task).await {
            Ok(served) => served,
            Err(_) => {
                tracing::warn!("answers outlasted the grace and are ended");
                self.gateway.router.end_all();
                match tokio::time::timeout(FAREWELL, &mut task).await {
                    Ok(served) => served,
                    // Callers that do not read their answers, or keep a connection open without a request.
                    Err(_) => return Ok(()),
                }
            }
        };
        served.context("the server failed")?.context("the server failed")
    }
}

/// Waits for SIGTERM or Ctrl-C.
async fn signal() -> Result<()> {
    #[cfg(unix)]
    {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).context("SIGTERM")?;
        tokio::select! {
            _ = term.recv() => Ok(()),
            pressed = tokio::signal::ctrl_c() => pressed.context("Ctrl-C"),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.context("Ctrl-C")
}
