//! A trace collector on loopback: takes OTLP over HTTP (protobuf) as a real one does, and keeps every span for the tests to
//! look at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::wait::until;

/// A span as it came.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The span above it; empty for none.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// 1 internal, 2 server, 3 client.
    pub kind: i32,
    /// Attributes as text, lists joined by commas.
    pub attributes: BTreeMap<String, String>,
    /// Whether it says that it failed.
    pub failed: bool,
    /// Nanoseconds from start to end.
    pub lasted: u64,
    /// The service that sent it.
    pub service: String,
}

impl Span {
    /// An attribute, or nothing.
    pub fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map(String::as_str).unwrap_or_default()
    }
}

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    headers: Vec<HeaderMap>,
    /// Bodies that are no such request.
    strange: usize,
}

/// A running collector; it stops when dropped.
pub struct TraceCollector {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    kept: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

impl TraceCollector {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a loopback port")?;
        let endpoint = format!("http://{}", listener.local_addr().context("its address")?);
        let kept = Arc::new(Mutex::new(Kept::default()));
        let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&kept));
        let task = tokio::spawn(async move {
            // Ends with the handle.
            let _ = axum::serve(listener, app).await;
        });
        Ok(TraceCollector { endpoint, kept, task })
    }

    /// Waits for so many spans.
    ///
    /// # Errors
    /// They never came.
    pub async fn spans(&self, count: usize) -> Result<Vec<Span>> {
        let enough = || async { Some(self.kept().spans.clone()).filter(|spans| spans.len() >= count) };
        until(&format!("the collector has {count} spans"), enough).await
    }

    /// Headers of the requests so far, and how many bodies were none.
    pub fn requests(&self) -> (Vec<HeaderMap>, usize) {
        let kept = self.kept();
        (kept.headers.clone(), kept.strange)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TraceCollector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(kept): State<Arc<Mutex<Kept>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.headers.push(headers);
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        kept.strange += 1;
        return StatusCode::BAD_REQUEST;
    };
    for group in request.resource_spans {
        let resource = group.resource.map(|resource| attributes(resource.attributes)).unwrap_or_default();
        let service = resource.get("service.name").cloned().unwrap_or_default();
        let sent = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
        kept.spans.extend(sent.map(|span| read(span, &service)));
    }
    StatusCode::OK
}

fn read(span: Sent, service: &str) -> Span {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        kind: span.kind,
        attributes: attributes(span.attributes),
        failed: span.status.is_some_and(|status| status.code == 2),
        lasted: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
        service: service.to_owned(),
    }
}

fn attributes(sent: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>) -> BTreeMap<String, String> {
    sent.into_iter()
        .map(|pair| (pair.key, pair.value.and_then(|value| value.value).map(shown).unwrap_or_default()))
        .collect()
}

fn shown(value: Any) -> String {
    match value {
        Any::StringValue(text) => text,
        Any::BoolValue(value) => value.to_string(),
        Any::IntValue(value) => value.to_string(),
        Any::DoubleValue(value) => value.to_string(),
        Any::ArrayValue(list) => {
            let values = list.values.into_iter().filter_map(|value| value.value.map(shown));
            values.collect::<Vec<_>>().join(",")
        }
        _ => String::new(),
    }
}
