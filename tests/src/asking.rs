//! Sends requests as a plain HTTP client does and keeps everything that came back, the broken ends included. Must never
//! judge: that is the tests' business.

use std::sync::OnceLock;

use anyhow::{Context, Result};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::binary::Weir;
use crate::frames::Frames;
use crate::metrics_page::MetricsPage;
use crate::named_frames::NamedFrames;
use crate::wait::{DEADLINE, until};

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Response headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body as far as it came.
    pub text: String,
    /// Whether the body was cut by the connection.
    pub cut: bool,
}

impl Reply {
    /// A header's text, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The body as a stream's frames.
    pub fn frames(&self) -> Frames {
        Frames::read(&self.text)
    }

    /// The body as a stream's named events.
    pub fn named_frames(&self) -> NamedFrames {
        NamedFrames::read(&self.text)
    }
}

/// A client that never leaves this machine.
///
/// # Errors
/// It cannot be built.
pub fn client() -> Result<reqwest::Client> {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        // Somebody else's choice is as good: nothing here speaks TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().context("the HTTP client")
}

/// Posts a body as it is to `/v1/chat/completions`.
///
/// # Errors
/// No response came.
pub async fn post(weir: &Weir, body: impl Into<reqwest::Body>) -> Result<Reply> {
    post_to(weir, "/v1/chat/completions", body).await
}

/// Posts a body as it is.
///
/// # Errors
/// No response came.
pub async fn post_to(weir: &Weir, path: &str, body: impl Into<reqwest::Body>) -> Result<Reply> {
    let request = client()?.post(weir.url(path)).header("content-type", "application/json");
    read(request.body(body).send().await.context("no response")?).await
}

/// Asks with a JSON body at `path`.
///
/// # Errors
/// No response came.
pub async fn ask_at(weir: &Weir, path: &str, body: &Value) -> Result<Reply> {
    post_to(weir, path, body.to_string()).await
}

/// Asks with a JSON body.
///
/// # Errors
/// No response came.
pub async fn ask(weir: &Weir, body: &Value) -> Result<Reply> {
    post(weir, body.to_string()).await
}

/// A request with one user message.
pub fn question(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// The same, with `fields` added or replaced.
pub fn with(mut body: Value, fields: Value) -> Value {
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    body
}

/// Gets a path.
///
/// # Errors
/// No response came.
pub async fn get(weir: &Weir, path: &str) -> Result<Reply> {
    read(client()?.get(weir.url(path)).send().await.context("no response")?).await
}

/// The metrics now.
///
/// # Errors
/// No response came.
pub async fn metrics(weir: &Weir) -> Result<MetricsPage> {
    Ok(MetricsPage::read(&get(weir, "/metrics").await?.text))
}

/// Waits until the metrics say what `holds` wants: counters of a stream move when its body is dropped, which may be
/// a moment after the client has read its end.
///
/// # Errors
/// They never did; the error holds the page.
pub async fn metrics_until(weir: &Weir, what: &str, holds: impl Fn(&MetricsPage) -> bool) -> Result<MetricsPage> {
    let found = until(what, || async { metrics(weir).await.ok().filter(|page| holds(page)) }).await;
    match found {
        Ok(page) => Ok(page),
        Err(error) => Err(error.context(get(weir, "/metrics").await?.text)),
    }
}

/// Reads a response to its end, or to where it was cut.
///
/// # Errors
/// None so far.
pub async fn read(response: reqwest::Response) -> Result<Reply> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let mut bytes = Vec::new();
    let mut cut = false;
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(_) => {
                cut = true;
                break;
            }
        }
    }
    Ok(Reply { status, headers, text: String::from_utf8_lossy(&bytes).into_owned(), cut })
}
