//! Connections beyond the limit are told so before they are closed: a client that knows why goes elsewhere. Must never
//! hold more than a few of them, nor any for long.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// How many are told at once; others are closed without a word.
const AT_ONCE: usize = 64;
/// How long one may take to listen.
const PATIENCE: Duration = Duration::from_secs(1);
/// OpenAI's shape, which Anthropic's clients read by its status.
const BODY: &str = r#"{"error":{"message":"too many connections; try again","type":"overloaded_error","param":null,"code":"overloaded"}}"#;

pub(super) struct Refusing(Arc<Semaphore>);

impl Default for Refusing {
    fn default() -> Self {
        Refusing(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Refusing {
    /// Over TLS there is nothing to say before a handshake, which is what the limit saves.
    pub(super) fn refuse(&self, socket: TcpStream, speaks_tls: bool) {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else { return };
        if speaks_tls {
            return;
        }
        tokio::spawn(async move {
            // Whether the client listened is its own business.
            let _ = tokio::time::timeout(PATIENCE, say(socket)).await;
            drop(place);
        });
    }
}

async fn say(mut socket: TcpStream) -> std::io::Result<()> {
    let length = BODY.len();
    let head =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close";
    socket.write_all(format!("{head}\r\ncontent-length: {length}\r\n\r\n{BODY}").as_bytes()).await?;
    socket.shutdown().await?;
    // Closing over unread bytes resets the connection, and the answer would be lost with it.
    let mut thrown_away = [0; 4096];
    while socket.read(&mut thrown_away).await? > 0 {}
    Ok(())
}
