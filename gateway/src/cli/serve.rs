//! `weir serve`, and the same start for whoever wants a gateway in its own process: loads, then listens, and stops
//! without cutting answers short as long as the grace lasts.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin;
use crate::config::{Inputs, Settings};
use crate::layers::panics;
use crate::listener;
use crate::live::{self, Live, Trigger};
use crate::open_files;
use crate::said::say;
use crate::threads::Threads;

/// How long callers may take to read the end of an answer that outlasted the grace, and Redis to hear what it took.
const FAREWELL: Duration = Duration::from_secs(1);

/// Signals that come so close to the first say nothing new.
const ONE_WISH: Duration = Duration::from_millis(500);

/// Connections that the system keeps until they are taken.
const BACKLOG: u32 = 1024;

/// Longest wait for the request log's last lines.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Serves until a signal comes.
pub(super) fn command(inputs: Inputs) -> Result<()> {
    let starting = panics::Starting::begin();
    open_files::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let mut live = None;
    let served = runtime.block_on(async {
        // Before anything is loaded, which takes its time: without them SIGHUP would end the process, and a stop would be
        // passed over in silence where it is a container's first one.
        let (hangups, mut signals) = (Hangups::new()?, Signals::new()?);
        let running = tokio::select! {
            running = start(inputs) => running?,
            () = signals.next() => {
                say(format_args!("weir: stopping before it has started"));
                return Ok(());
            }
        };
        live = Some(Arc::clone(&running.live));
        running.reload_on(hangups);
        let now = running.live.current();
        let ids: Vec<&str> = now.gateway.models.iter().map(|entry| entry.id.as_str()).collect();
        let scheme = if now.settings.server.tls.is_some() { "https" } else { "http" };
        say(format_args!("weir {} listens on {scheme}://{}", env!("CARGO_PKG_VERSION"), running.addr()));
        say(format_args!("  models  {}", ids.join(", ")));
        say(format_args!("  config  {}", now.settings.origins.join(" ← ")));
        say(format_args!("  policy  {}", now.settings.policy.origin));
        if let Some(admin) = running.admin {
            say(format_args!("  admin   {scheme}://{admin}"));
        }
        if now.settings.is_open_to_others() {
            say(format_args!("  note    others can reach this address, and Weir asks nobody for a key"));
        }
        drop(now);
        drop(starting);
        running.stop_at(signals).await
    });
    // With the runtime go the requests that outlasted everything: they are recorded, too. An engine that is just being
    // loaded is not waited for.
    runtime.shutdown_timeout(FAREWELL);
    if let Some(live) = live {
        live.current().gateway.recorder.stop(LAST_LINES);
    }
    served
}

/// A gateway that answers. Dropping it asks it to stop without waiting.
pub struct Running {
    addr: SocketAddr,
    admin: Option<SocketAddr>,
    live: Arc<Live>,
    /// Stops the public listener, and the admin's after it.
    stop: [watch::Sender<bool>; 2],
    task: JoinHandle<()>,
    admin_task: Option<JoinHandle<()>>,
    /// Where connections are served. Last: what is left of them is dropped with it.
    _threads: Arc<Threads>,
}

/// Claims the addresses, loads the engines and answers in the background.
///
/// # Errors
/// The config, the policy or an engine's file is wrong, or an address cannot be listened on.
pub async fn start(inputs: Inputs) -> Result<Running> {
    let claim = |settings: &Settings| {
        let public = Claim::new(settings.server.listen, "`--listen` or `server.listen` takes another")?;
        let admin = settings.admin.as_ref().map(|admin| Claim::new(admin.listen, "`admin.listen` takes another"));
        Ok((public, admin.transpose()?))
    };
    let (live, (public, admin_claim)) = Live::start(inputs, claim).await?;
    let (listener, addr) = public.listen()?;
    let stop = [watch::Sender::new(false), watch::Sender::new(false)];
    let metrics = live.metrics().connections("public");
    let threads = Arc::new(Threads::start().context("no threads for connections")?);
    let served = listener::serve(listener, Arc::clone(&threads), Arc::clone(&live) as _, metrics, stop[0].subscribe());
    let task = tokio::spawn(served);
    let (mut admin, mut admin_task) = (None, None);
    if let Some(claim) = admin_claim {
        let (listener, addr) = claim.listen()?;
        let metrics = live.metrics().connections("admin");
        let house = Arc::new(admin::Office::new(Arc::clone(&live)));
        admin = Some(addr);
        let served = listener::serve(listener, Arc::clone(&threads), house, metrics, stop[1].subscribe());
        admin_task = Some(tokio::spawn(served));
    }
    tokio::spawn(live::watch(Arc::downgrade(&live)));
    Ok(Running { addr, admin, live, stop, task, admin_task, _threads: threads })
}

/// An address that is ours while the engines are loaded, which takes its time. Callers are refused meanwhile, not kept waiting.
struct Claim {
    socket: TcpSocket,
    wanted: SocketAddr,
    help: &'static str,
}

impl Claim {
    fn new(wanted: SocketAddr, help: &'static str) -> Result<Self> {
        let claimed = || {
            let socket = if wanted.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // Or a restart would wait for the connections of the process before.
            #[cfg(unix)]
            socket.set_reuseaddr(true)?;
            socket.bind(wanted)?;
            Ok(socket)
        };
        let socket = claimed().map_err(|error| refused(error, wanted, help))?;
        Ok(Claim { socket, wanted, help })
    }

    fn listen(self) -> Result<(TcpListener, SocketAddr)> {
        let listener = self.socket.listen(BACKLOG).map_err(|error| refused(error, self.wanted, self.help))?;
        let addr = listener.local_addr().context("no local address")?;
        Ok((listener, addr))
    }
}

fn refused(error: std::io::Error, wanted: SocketAddr, help: &str) -> anyhow::Error {
    let why = why_not(error.kind(), wanted).map_or_else(String::new, |why| format!(": {why} ({help})"));
    anyhow::Error::new(error).context(format!("cannot listen on {wanted}{why}"))
}

/// What the system's refusal of an address means, where that is known.
pub(super) fn why_not(refusal: ErrorKind, wanted: SocketAddr) -> Option<String> {
    let (ip, port) = (wanted.ip(), wanted.port());
    match refusal {
        ErrorKind::AddrInUse => Some(format!("port {port} is in use")),
        ErrorKind::AddrNotAvailable => Some(format!("this machine has no address {ip}")),
        ErrorKind::PermissionDenied => Some(format!("this user may not take port {port}")),
        _ => None,
    }
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Reads the config again at each SIGHUP.
    fn reload_on(&self, mut hangups: Hangups) {
        let live = Arc::downgrade(&self.live);
        tokio::spawn(async move {
            loop {
                hangups.next().await;
                let Some(live) = live.upgrade() else { return };
                live.reload(Trigger::Signal).await;
            }
        });
    }

    /// Goes on until SIGTERM or Ctrl-C, then [`Running::stop`]s; a second signal ends the grace.
    ///
    /// # Errors
    /// Signals cannot be waited for, or serving broke.
    pub async fn until_stopped(self) -> Result<()> {
        self.stop_at(Signals::new()?).await
    }

    async fn stop_at(self, mut signals: Signals) -> Result<()> {
        signals.next().await;
        let grace = self.live.current().settings.server.shutdown_grace;
        say(format_args!(
            "weir: stopping; running answers have up to {} s, a second signal ends them",
            grace.as_secs()
        ));
        let again = async {
            // A terminal's Ctrl-C and a parent's SIGTERM are one wish.
            let same = async {
                loop {
                    signals.next().await;
                }
            };
            let _: Result<(), _> = tokio::time::timeout(ONE_WISH, same).await;
            signals.next().await;
        };
        self.stop_sooner(again).await
    }

    /// Takes no new connections, lets running answers end, and ends those that outlast the grace with an error.
    ///
    /// # Errors
    /// Serving broke.
    pub async fn stop(self) -> Result<()> {
        self.stop_sooner(std::future::pending()).await
    }

    /// The same, if need be before the grace is over.
    async fn stop_sooner(self, sooner: impl Future<Output = ()>) -> Result<()> {
        self.live.drain(true);
        let [stop, stop_admin] = &self.stop;
        stop.send_replace(true);
        let grace = self.live.current().settings.server.shutdown_grace.max(Duration::from_millis(1));
        let mut task = self.task;
        let over = async {
            tokio::select! {
                () = sooner => "a second signal: answers under way are ended",
                () = tokio::time::sleep(grace) => "answers outlasted the grace and are ended",
            }
        };
        let served = tokio::select! {
            biased;
            served = &mut task => served,
            why = over => {
                tracing::warn!("{why}");
                self.live.current().gateway.router.end_all();
                match tokio::time::timeout(FAREWELL, &mut task).await {
                    Ok(served) => served,
                    // Callers that do not read their answers.
                    Err(_) => {
                        task.abort();
                        Ok(())
                    }
                }
            }
        };
        let gateway = Arc::clone(&self.live.current().gateway);
        // Redis away, or slow: the leases of the last requests end by themselves, and keep their tenants' places until then.
        let _ = tokio::time::timeout(FAREWELL, gateway.tenants.settled()).await;
        let foresight = Arc::clone(gateway.router.foresight());
        // A failure is warned about inside.
        let _ = tokio::task::spawn_blocking(move || foresight.save()).await;
        stop_admin.send_replace(true);
        if let Some(mut admin) = self.admin_task
            && tokio::time::timeout(FAREWELL, &mut admin).await.is_err()
        {
            admin.abort();
        }
        served.context("the server failed")
    }
}

/// SIGHUP. As [`Signals`].
struct Hangups {
    #[cfg(unix)]
    kind: tokio::signal::unix::Signal,
}

impl Hangups {
    #[cfg(unix)]
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Hangups { kind: signal(SignalKind::hangup()).context("SIGHUP")? })
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self> {
        Ok(Hangups {})
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        let said = self.kind.recv().await.is_some();
        #[cfg(not(unix))]
        let said = false;
        if !said {
            // Nobody will say it any more.
            std::future::pending::<()>().await;
        }
    }
}

/// SIGTERM and Ctrl-C. While it lives they do nothing else; each is heard from the moment it was made.
struct Signals {
    #[cfg(unix)]
    kinds: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let of = |kind| signal(kind).context("signals cannot be waited for");
        Ok(Signals { kinds: [of(SignalKind::terminate())?, of(SignalKind::interrupt())?] })
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self> {
        Ok(Signals {})
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        let [term, interrupt] = &mut self.kinds;
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can say it.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_told_before_anything_is_loaded() {
        let (held, folder) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), tempfile::tempdir().unwrap());
        let (port, model) = (held.local_addr().unwrap().port(), folder.path().join("empty.gguf"));
        std::fs::write(&model, "").unwrap();
        for (listen, admin, help) in [(port, 0, "--listen"), (0, port, "admin.listen")] {
            let text = format!(
                "[server]\nlisten = \"127.0.0.1:{listen}\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\nkey_env = \"ADMIN\"\n\
                 [engine.ar]\nmodel = {model:?}\n"
            );
            let file = folder.path().join("weir.toml");
            std::fs::write(&file, text).unwrap();
            let env = vec![("ADMIN".to_owned(), "weir_0123456789abcdef0123456789abcdef".to_owned())];
            let error = start(Inputs { file: Some(file), env, ..Inputs::default() }).await.err().unwrap();
            let told = format!("{error:#}");
            assert!(told.contains(&format!("port {port} is in use")) && told.contains(help), "{told}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_taken_is_told_apart_from_a_taken_one() {
        let wanted = SocketAddr::from(([192, 0, 2, 1], 87));
        let why = |refusal| why_not(refusal, wanted);
        assert_eq!(why(ErrorKind::AddrInUse).as_deref(), Some("port 87 is in use"));
        assert_eq!(why(ErrorKind::AddrNotAvailable).as_deref(), Some("this machine has no address 192.0.2.1"));
        assert_eq!(why(ErrorKind::PermissionDenied).as_deref(), Some("this user may not take port 87"));
        assert_eq!(why(ErrorKind::OutOfMemory), None);
    }
}
