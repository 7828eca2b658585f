//! Sockets: takes connections, speaks HTTP/1.1 and HTTP/2 on them, over TLS where there is a certificate, and cuts who
//! holds one without using it. What answers a request is asked for at each request, so a reload needs no new socket.
//! Must never know a route, a dialect or a backend.

mod certificate;
mod connection;
mod given;
mod pulse;
mod refusing;
pub mod tls;
mod unread;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::refusing::Refusing;
use crate::config::server::ConnectionSettings;
use crate::metrics::ConnectionMetrics;
use crate::places::Places;
use crate::threads::Threads;

/// Pause after an accept that failed for want of something (file descriptors, memory).
const PAUSE: Duration = Duration::from_millis(100);

/// Whose connection a request came on, among its extensions: a proxy's, where there is one.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What stands behind a socket at this moment.
pub trait House: Send + Sync + 'static {
    /// Answers the next request.
    fn app(&self) -> axum::Router;
    /// Holds for the next connection.
    fn limits(&self) -> ConnectionSettings;
    /// The next connection's certificate; `None`: plain HTTP.
    fn tls(&self) -> Option<Arc<ServerConfig>>;
}

/// Serves until `stop` says so (or its sender is gone), then until every connection is closed: idle ones at once, others
/// after their answer. Dropping the future cuts them.
pub async fn serve(
    listener: TcpListener,
    threads: Arc<Threads>,
    house: Arc<dyn House>,
    metrics: ConnectionMetrics,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Places::default());
    let refusing = Refusing::default();
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = open.join_next(), if !open.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    // Small events must not wait for a full packet.
                    if let Err(error) = socket.set_nodelay(true) {
                        tracing::debug!(%error, "no TCP_NODELAY");
                    }
                    let limits = house.limits();
                    match places.take(limits.max).zip(threads.seat()) {
                        Some((place, (thread, seat))) => {
                            let (guards, house) = ((place, seat, metrics.opened()), Arc::clone(&house));
                            let (metrics, stop, socket) = (metrics.clone(), stop.clone(), socket.into_std());
                            let served = async move {
                                match socket.and_then(TcpStream::from_std) {
                                    Ok(socket) => connection::serve(socket, house, limits, metrics, stop, guards).await,
                                    Err(error) => tracing::warn!(%error, "a connection cannot be handed over"),
                                }
                            };
                            open.spawn_on(served, thread);
                        }
                        None => {
                            metrics.refused();
                            refusing.refuse(socket, house.tls().is_some());
                        }
                    }
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Resolves when a stop was asked for.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means the handle is gone: that is a stop, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Whether the client went away between its first packet and us.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
