//! One connection, from its first byte to its last: TLS if there is a certificate, then HTTP/1.1 or HTTP/2, whichever the
//! client speaks, under the limits of its pulse.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::given::GivenBody;
use super::pulse::{Pulse, Verdict};
use super::stopped;
use super::unread::Unread;
use super::watched::Watched;
use super::{House, Peer};
use crate::config::server::ConnectionSettings;
use crate::metrics::{ConnectionGuard, ConnectionMetrics};
use crate::places::Place;
use crate::threads::Seat;

/// Until the client leaves, its time is up, or a stop finds it without work. `_guards` count it.
pub(super) async fn serve(
    socket: TcpStream,
    house: Arc<dyn House>,
    limits: ConnectionSettings,
    metrics: ConnectionMetrics,
    stop: watch::Receiver<bool>,
    _guards: (Place, Seat, ConnectionGuard),
) {
    let peer = socket.peer_addr().ok().map(Peer);
    let Some(tls) = house.tls() else {
        return speak(socket, peer, house, limits, metrics, stop).await;
    };
    let mut stopping = stop.clone();
    let greeted = tokio::select! {
        biased;
        () = stopped(&mut stopping) => return,
        greeted = tokio::time::timeout(limits.header_timeout, TlsAcceptor::from(tls).accept(socket)) => greeted,
    };
    match greeted {
        Ok(Ok(socket)) => speak(socket, peer, house, limits, metrics, stop).await,
        Ok(Err(error)) => {
            metrics.cut("handshake");
            tracing::debug!(%error, "no TLS");
        }
        Err(_) => metrics.cut("header_timeout"),
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    socket: S,
    peer: Option<Peer>,
    house: Arc<dyn House>,
    limits: ConnectionSettings,
    metrics: ConnectionMetrics,
    mut stop: watch::Receiver<bool>,
) {
    let pulse = Pulse::new(Instant::now());
    let watching = Arc::clone(&pulse);
    let service = service_fn(move |request: Request<Incoming>| {
        let serving = watching.serve(request.body().size_hint().exact());
        let pulse = Arc::clone(&watching);
        let mut app = house.app();
        async move {
            let (mut head, body) = request.into_parts();
            if let Some(peer) = peer {
                head.extensions.insert(peer);
            }
            let body = Body::new(Unread::new(body, head.version, &head.headers));
            let response = app.call(Request::from_parts(head, body)).await?;
            Ok::<_, Infallible>(response.map(|body| GivenBody::new(body, serving, &pulse)))
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    // The pulse keeps the time of heads: hyper's own limit would also end connections that are only idle.
    // A client whose sending side ends has left: hyper could wait for those that only shut it down (`half_close`), but then those
    // that truly leave would be noticed when something is written to them, which for an answer that comes whole is its end.
    builder.http1().header_read_timeout(None).half_close(false);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(limits.idle_timeout / 3);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(Watched::new(socket, Arc::clone(&pulse))), service));
    let mut is_closing = false;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop), if !is_closing => {
                is_closing = true;
                next = Instant::now();
                pulse.closing(next);
                connection.as_mut().graceful_shutdown();
            }
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            () = tokio::time::sleep_until(next) => match pulse.judge(&limits, Instant::now()) {
                Verdict::Wait(until) => next = until,
                Verdict::Close => {
                    is_closing = true;
                    next = Instant::now();
                    pulse.closing(next);
                    connection.as_mut().graceful_shutdown();
                }
                Verdict::Cut(why) => return metrics.cut(why),
            },
        }
    }
}
