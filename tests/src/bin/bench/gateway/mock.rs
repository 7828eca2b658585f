//! An upstream that costs next to nothing: its answers are written before anybody asks. Must never look at more of a
//! request than whether it wants a stream.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::load::Wire;

/// Pieces of a streamed answer, the last two and `[DONE]` not counted.
pub(super) const PIECES: usize = 32;
/// Who says this gets the pieces one by one.
pub(super) const SLOWLY: &str = "slowly, please";
const PAUSE: Duration = Duration::from_millis(2);

/// A running one.
pub(super) struct Mock {
    pub(super) address: SocketAddr,
    /// When each piece of the last slow answer left.
    sent: Arc<Mutex<Vec<Instant>>>,
    serving: JoinHandle<()>,
}

struct Answers {
    whole: Vec<u8>,
    head: &'static [u8],
    pieces: Vec<Vec<u8>>,
    end: &'static [u8],
}

impl Mock {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a loopback port")?;
        let address = listener.local_addr().context("its address")?;
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (answers, seen) = (Arc::new(Answers::new()), Arc::clone(&sent));
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // Ends when its caller leaves.
                tokio::spawn(serve(socket, Arc::clone(&answers), Arc::clone(&seen)));
            }
        });
        Ok(Mock { address, sent, serving })
    }

    /// When each piece of the last slow answer left.
    pub(super) fn sent(&self) -> Vec<Instant> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(socket: TcpStream, answers: Arc<Answers>, sent: Arc<Mutex<Vec<Instant>>>) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut wire = Wire::new(socket);
    loop {
        let request = wire.message().await?;
        let says = |words: &str| request.windows(words.len()).any(|window| window == words.as_bytes());
        if !says("\"stream\":true") {
            wire.socket.write_all(&answers.whole).await?;
            continue;
        }
        let slowly = says(SLOWLY);
        if slowly {
            sent.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        wire.socket.write_all(answers.head).await?;
        for piece in &answers.pieces {
            if slowly {
                tokio::time::sleep(PAUSE).await;
                sent.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
            wire.socket.write_all(piece).await?;
            // Pieces leave one by one, as a model makes them.
            tokio::task::yield_now().await;
        }
        wire.socket.write_all(answers.end).await?;
    }
}

impl Answers {
    fn new() -> Self {
        let same = r#""id":"chatcmpl-1","created":1700000000,"model":"mock-7b","system_fingerprint":"fp_1""#;
        let text = "word ".repeat(PIECES);
        let usage = r#""usage":{"prompt_tokens":20,"completion_tokens":32,"total_tokens":52}"#;
        let body = format!(
            r#"{{{same},"object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],{usage}}}"#
        );
        let whole = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let event = |data: String| {
            let event = format!("data: {data}\n\n");
            format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
        };
        let chunk = |delta: &str, reason: &str| {
            event(format!(
                r#"{{{same},"object":"chat.completion.chunk","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}]}}"#
            ))
        };
        let mut pieces: Vec<Vec<u8>> = (0..PIECES).map(|_| chunk(r#"{"content":"word "}"#, "null")).collect();
        pieces.push(chunk("{}", "\"stop\""));
        pieces.push(event(format!(r#"{{{same},"object":"chat.completion.chunk","choices":[],{usage}}}"#)));
        Answers {
            whole: whole.into_bytes(),
            head: b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            pieces,
            end: b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
        }
    }
}
