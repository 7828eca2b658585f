//! Callers that leave before they have an answer. They ask for `100-continue`, which the gateway says when it begins to
//! read the body: from then on it must account for the request, so the books stay exact.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// When a caller leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leaves {
    /// With half of its own body unsent.
    InItsBody,
    /// After so long, most likely before there is an answer.
    Waiting(Duration),
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The gateway had begun to read.
    Seen,
    /// It answered without reading: the request is its to account for as well.
    Refused,
}

/// Asks and leaves.
pub(crate) async fn leave(
    address: &str,
    path: &str,
    (key, id): (&str, &str),
    body: &str,
    leaves: Leaves,
) -> Result<Left> {
    let mut socket = TcpStream::connect(address).await.context("no connection")?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nx-request-id: {id}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.context("writing")?;
    let mut said = [0_u8; 16];
    socket.read_exact(&mut said).await.context("nothing was said")?;
    if said.starts_with(b"HTTP/1.1 4") || said.starts_with(b"HTTP/1.1 5") {
        return Ok(Left::Refused);
    }
    ensure!(said.starts_with(b"HTTP/1.1 100"), "strange: {}", String::from_utf8_lossy(&said));
    match leaves {
        Leaves::InItsBody => socket.write_all(&body.as_bytes()[..body.len() / 2]).await.context("writing")?,
        Leaves::Waiting(time) => {
            socket.write_all(body.as_bytes()).await.context("writing")?;
            tokio::time::sleep(time).await;
        }
    }
    Ok(Left::Seen)
}
