//! Faults below HTTP: a socket that answers one request by hand, and breaks on the way.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::fault::Fault;
use super::script;
use super::seen::{Ending, Records};
use super::wires::Wire;

/// Longest request taken.
const REQUEST_MAX: usize = 4 << 20;

/// Answers until the task is dropped.
pub(super) async fn serve(listener: TcpListener, records: Arc<Records>) {
    while let Ok((socket, _)) = listener.accept().await {
        let records = Arc::clone(&records);
        tokio::spawn(async move {
            // A caller that left is no news.
            let _ = answer(socket, &records).await;
        });
    }
}

async fn answer(mut socket: TcpStream, records: &Arc<Records>) -> Result<()> {
    let (path, headers, body) = read(&mut socket).await?;
    let (name, rest) = path.trim_start_matches('/').split_once('/').context("a path below a fault")?;
    let fault = Fault::parse(name).context("a known fault")?;
    let wire = Wire::of_path(rest).context("a known path")?;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let entry = Records::open(records, name.to_owned(), &headers, body.clone());
    let half = script::half(wire, &body);
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: {}\r\n{more}\r\n\r\n", wire.media_type());
    match fault {
        Fault::Reset => {
            socket.set_zero_linger()?;
            entry.ended(Ending::CutByUs);
        }
        Fault::SlowHeaders => {
            socket.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            // Until the caller leaves.
            for number in 0_u64.. {
                pace.tick().await;
                socket.write_all(format!("x-slow: {number}\r\n").as_bytes()).await?;
            }
        }
        Fault::BadChunk => {
            let chunk = format!("{:x}\r\n{half}\r\nthis is no length\r\n", half.len());
            socket.write_all(format!("{}{chunk}", head("transfer-encoding: chunked")).as_bytes()).await?;
            entry.ended(Ending::CutByUs);
        }
        _ => {
            let length = format!("content-length: {}", half.len() + 1000);
            socket.write_all(format!("{}{half}", head(&length)).as_bytes()).await?;
            entry.ended(Ending::CutByUs);
        }
    }
    Ok(())
}

async fn read(socket: &mut TcpStream) -> Result<(String, HeaderMap, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut lines = head.lines();
            let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
            let pair = |line: &str| {
                let (name, value) = line.split_once(':')?;
                Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.trim()).ok()?))
            };
            let headers: HeaderMap = lines.filter_map(pair).collect();
            let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                return Ok((path, headers, bytes[end + 4..].to_vec()));
            }
        }
        anyhow::ensure!(bytes.len() < REQUEST_MAX, "the request is too long");
        let mut piece = [0; 16 * 1024];
        let read = socket.read(&mut piece).await?;
        anyhow::ensure!(read > 0, "the request broke off");
        bytes.extend_from_slice(&piece[..read]);
    }
}
