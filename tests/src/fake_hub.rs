//! A Hugging Face hub in small: a listing, files behind `resolve`, large ones behind a redirect to another origin, and
//! scripted faults. Keeps what it was asked for. Listens on loopback only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The commit of everything.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Path of the URL.
    pub path: String,
    /// The `range` header.
    pub range: Option<String>,
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// Whether it reached the store of large files, which has an origin of its own.
    pub store: bool,
}

#[derive(Default)]
struct Shelf {
    files: BTreeMap<String, Bytes>,
    /// Names that are listed without being there.
    also_listed: Vec<String>,
    wrong_digest: bool,
    token: Option<String>,
    /// For each answer of the store to come: bytes until it is cut.
    cuts: VecDeque<usize>,
    asked: Vec<Asked>,
    store: String,
}

type Shared = Arc<Mutex<Shelf>>;

/// A running hub; it stops when dropped.
pub struct FakeHub {
    endpoint: String,
    shelf: Shared,
    tasks: [JoinHandle<()>; 2],
}

impl FakeHub {
    /// Serves these files as repository `weir/nano`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(files: BTreeMap<String, Bytes>) -> Result<FakeHub> {
        let shelf = Shared::default();
        let hub = Router::new()
            .route("/api/models/weir/nano/revision/{revision}", get(list))
            .route("/weir/nano/resolve/{commit}/{*file}", get(resolve));
        let (endpoint, serving) = serve(hub, shelf.clone()).await?;
        let (store, storing) = serve(Router::new().route("/{file}", get(stored)), shelf.clone()).await?;
        let own = FakeHub { endpoint, shelf, tasks: [serving, storing] };
        own.change(|shelf| (shelf.files, shelf.store) = (files, store));
        Ok(own)
    }

    /// For HF_ENDPOINT.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Demands this token.
    pub fn demand(&self, token: &str) {
        self.change(|shelf| shelf.token = Some(token.to_owned()));
    }

    /// Cuts the next answers of the store after so many bytes each.
    pub fn cut(&self, after: &[usize]) {
        self.change(|shelf| shelf.cuts = after.iter().copied().collect());
    }

    /// Lists a digest that the large files do not have.
    pub fn lie_about_digests(&self, lie: bool) {
        self.change(|shelf| shelf.wrong_digest = lie);
    }

    /// Lists this name too.
    pub fn list_also(&self, name: &str) {
        self.change(|shelf| shelf.also_listed.push(name.to_owned()));
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        let mut asked = Vec::new();
        self.change(|shelf| asked = std::mem::take(&mut shelf.asked));
        asked
    }

    fn change(&self, change: impl FnOnce(&mut Shelf)) {
        change(&mut self.shelf.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(app: Router<Shared>, shelf: Shared) -> Result<(String, JoinHandle<()>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a loopback port")?;
    let address = listener.local_addr().context("its address")?;
    let task = tokio::spawn(async move {
        // Ends with the handle.
        let _ = axum::serve(listener, app.with_state(shelf)).await;
    });
    Ok((format!("http://{address}"), task))
}

/// Large files are those that git would keep outside.
fn is_large(bytes: &Bytes) -> bool {
    bytes.len() > 100_000
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn blob(bytes: &Bytes) -> String {
    hex(&Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

/// Notes the request; `Err` when it may not pass.
fn enter(shelf: &Shared, uri: &Uri, headers: &HeaderMap, store: bool) -> Result<(), StatusCode> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let authorization = text(header::AUTHORIZATION);
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    let right = shelf.token.as_ref().is_none_or(|token| authorization == Some(format!("Bearer {token}")));
    shelf.asked.push(Asked { path: uri.path().to_owned(), range: text(header::RANGE), authorization, store });
    if right || store { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
}

async fn list(State(shelf): State<Shared>, uri: Uri, headers: HeaderMap, Path(revision): Path<String>) -> Response {
    if let Err(status) = enter(&shelf, &uri, &headers, false) {
        return status.into_response();
    }
    if revision != "main" {
        return StatusCode::NOT_FOUND.into_response();
    }
    let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    let file = |(name, bytes): (&String, &Bytes)| {
        let mut digest = hex(&Sha256::digest(bytes));
        if shelf.wrong_digest {
            digest = "0".repeat(64);
        }
        match is_large(bytes) {
            true => json!({"rfilename": name, "size": bytes.len(), "blobId": "x",
                "lfs": {"sha256": digest, "size": bytes.len(), "pointerSize": 130}}),
            false => json!({"rfilename": name, "size": bytes.len(), "blobId": blob(bytes)}),
        }
    };
    let also = shelf.also_listed.iter().map(|name| json!({"rfilename": name, "size": 1}));
    let siblings: Vec<Value> = shelf.files.iter().map(file).chain(also).collect();
    axum::Json(json!({"id": "weir/nano", "sha": COMMIT, "siblings": siblings})).into_response()
}

async fn resolve(
    State(shelf): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    Path((commit, file)): Path<(String, String)>,
) -> Response {
    if let Err(status) = enter(&shelf, &uri, &headers, false) {
        return status.into_response();
    }
    let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    match shelf.files.get(&file) {
        Some(bytes) if commit == COMMIT && is_large(bytes) => {
            let place = format!("{}/{file}", shelf.store);
            (StatusCode::FOUND, [(header::LOCATION, place)]).into_response()
        }
        Some(bytes) if commit == COMMIT => {
            ([(header::ETAG, format!("\"{}\"", blob(bytes)))], bytes.clone()).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A large file, from where the range begins, and cut where the script says.
async fn stored(
    State(shelf): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Path(file): Path<String>,
) -> Response {
    // Cannot refuse: the store has no token of its own.
    let _ = enter(&shelf, &uri, &headers, true);
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(whole) = shelf.files.get(&file).cloned().filter(|_| method == Method::GET) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let rest = whole.slice(start.unwrap_or(0).min(whole.len())..);
    let length = rest.len();
    let body = match shelf.cuts.pop_front() {
        Some(cut) => {
            // What was written goes out before the connection breaks, because the stream waits in between.
            let piece = futures::stream::iter([Ok(rest.slice(..cut.min(length)))]);
            let broken = futures::stream::once(async {
                for _ in 0..64 {
                    tokio::task::yield_now().await;
                }
                Err(std::io::Error::other("cut"))
            });
            Body::from_stream(piece.chain(broken))
        }
        None => Body::from(rest),
    };
    let answer = Response::builder().header(header::CONTENT_LENGTH, length);
    let answer = match start {
        Some(start) => answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{}", whole.len().max(1) - 1, whole.len())),
        None => answer,
    };
    answer.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}
