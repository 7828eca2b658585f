//! A client that costs next to nothing: requests are written once, answers are only looked at for their end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::figures::ms;

/// One end of a kept connection.
pub(super) struct Wire {
    pub(super) socket: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(super) fn new(socket: TcpStream) -> Self {
        Wire { socket, buffer: Vec::with_capacity(16 * 1024) }
    }

    /// The next request or response, head and body; what it is made of is not looked at.
    pub(super) async fn message(&mut self) -> Result<Vec<u8>> {
        self.watched(|_| {}).await
    }

    /// The same; `seen` is told whenever more has come.
    async fn watched(&mut self, mut seen: impl FnMut(&[u8])) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = end(&self.buffer)? {
                let rest = self.buffer.split_off(end);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            ensure!(self.socket.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
            seen(&self.buffer);
        }
    }
}

/// Where the first message ends, once all of it is there.
fn end(bytes: &[u8]) -> Result<Option<usize>> {
    let find = |what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let Some(head) = find(b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head]).context("a head of text")?.to_ascii_lowercase();
    if let Some((_, length)) = text.split_once("content-length:") {
        let length: usize = length.lines().next().unwrap_or_default().trim().parse().context("a length")?;
        return Ok((bytes.len() >= head + length).then_some(head + length));
    }
    ensure!(text.contains("transfer-encoding: chunked"), "a message without a length");
    // One message at a time is under way, so its last chunk is the last thing there.
    Ok(bytes.ends_with(b"\r\n0\r\n\r\n").then_some(bytes.len()))
}

/// Callers that keep their connections.
pub(super) struct Callers {
    wires: Vec<Wire>,
}

impl Callers {
    pub(super) async fn connect(address: SocketAddr, count: usize) -> Result<Self> {
        let wires = (0..count).map(|_| async move {
            let socket = TcpStream::connect(address).await.context("connecting")?;
            socket.set_nodelay(true)?;
            anyhow::Ok(Wire::new(socket))
        });
        Ok(Callers { wires: try_join_all(wires).await? })
    }

    /// Each asks `times` times, as soon as it has its answer or once in a `pace`, one after the other then; how long each
    /// answer took, in ms.
    pub(super) async fn ask(&mut self, request: &[u8], times: usize, pace: Option<Duration>) -> Result<Vec<f64>> {
        let (start, callers) = (Instant::now(), self.wires.len() as u32);
        let each = self.wires.iter_mut().zip(0..).map(|(wire, caller): (_, u32)| async move {
            let mut took = Vec::with_capacity(times);
            for round in 0..times as u32 {
                let mut begun = Instant::now();
                if let Some(pace) = pace {
                    let due = start + pace * round + pace * caller / callers;
                    // Who is late has waited since it was due.
                    let late = begun > due;
                    tokio::time::sleep_until(due.into()).await;
                    begun = if late { due } else { Instant::now() };
                }
                wire.socket.write_all(request).await?;
                let answer = wire.message().await?;
                took.push(ms(begun.elapsed()));
                if !answer.starts_with(b"HTTP/1.1 200") {
                    bail!("{}", String::from_utf8_lossy(&answer));
                }
            }
            anyhow::Ok(took)
        });
        Ok(try_join_all(each).await?.concat())
    }

    /// The first one asks for a stream; when the `n`th of its events was there.
    pub(super) async fn watch(&mut self, request: &[u8]) -> Result<Vec<Instant>> {
        let wire = self.wires.first_mut().context("a caller")?;
        let mut arrived = Vec::new();
        wire.socket.write_all(request).await?;
        let note = |so_far: &[u8]| {
            let events = so_far.windows(6).filter(|window| window == b"data: ").count();
            arrived.resize(events.max(arrived.len()), Instant::now());
        };
        wire.watched(note).await?;
        Ok(arrived)
    }
}
