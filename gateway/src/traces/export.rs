//! The way of spans to the collector: a bounded queue, a thread with a small runtime of its own, batches over OTLP/HTTP
//! (protobuf). A collector that is slow or away costs spans, which are counted, never a request's time. A thread and not a
//! task, for what is dropped while the runtime goes down.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::spans::{self, Origin};
use crate::backends::http_client;
use crate::config::BackendSettings;
use crate::config::telemetry::OtlpSettings;
use crate::metrics::Metrics;
use crate::record::closed::Closed;
use crate::record::waiting::{LOOK_AGAIN, wait_for};

/// Most requests whose spans wait.
const QUEUE_MAX: usize = 2048;
/// Spans are sent together up to this many, or after this long.
const BATCH_MAX: usize = 512;
const BATCH_TIME: Duration = Duration::from_secs(1);
/// Longest wait for the collector.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A collector's answer says next to nothing.
const ANSWER_MAX: usize = 64 * 1024;
/// Shortest time between two complaints in the log.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// Why spans cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The client cannot be set up.
    #[error("no HTTP client for the collector")]
    Client(#[from] reqwest::Error),
    /// The exporter does not take its settings.
    #[error("the exporter of spans cannot be set up")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// No thread or no runtime can be had.
    #[error("no thread for the exporter of spans")]
    Thread(#[from] std::io::Error),
}

/// Sends spans.
pub(crate) struct Exporter {
    /// `None` asks for the end.
    queue: mpsc::Sender<Option<Arc<Closed>>>,
    origins: Arc<RwLock<HashMap<String, Origin>>>,
    sample: f64,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Exporter {
    /// # Errors
    /// See [`ExportError`].
    pub(crate) fn start(settings: &OtlpSettings, metrics: Arc<Metrics>) -> Result<Self, ExportError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = http_client(&settings.endpoint).timeout(TIMEOUT).build()?;
        let headers = settings.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Client(client))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&settings.endpoint)
            .with_headers(headers.collect())
            .with_timeout(TIMEOUT)
            .build()?;
        exporter.set_resource(&resource(&settings.service));
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let origins = Arc::new(RwLock::default());
        let sender = Sender {
            exporter,
            scope: InstrumentationScope::builder("weir").with_version(env!("CARGO_PKG_VERSION")).build(),
            origins: Arc::clone(&origins),
            metrics: Arc::clone(&metrics),
            batch: Vec::new(),
            complained: None,
        };
        let run = move || runtime.block_on(sender.run(waiting));
        let thread = std::thread::Builder::new().name("spans".into()).spawn(run)?;
        Ok(Exporter { queue, origins, sample: settings.sample, metrics, thread: Mutex::new(Some(thread)) })
    }

    /// The share of traces that begin here and are recorded.
    pub(crate) fn sample(&self) -> f64 {
        self.sample
    }

    /// Which upstreams there are now.
    pub(crate) fn introduce(&self, backends: &[BackendSettings]) {
        *self.origins.write().unwrap_or_else(PoisonError::into_inner) = spans::origins(backends);
    }

    /// Takes a request's spans to be sent, if there is room for them.
    pub(crate) fn take(&self, closed: &Arc<Closed>) {
        let is_recorded = closed.trace.as_ref().is_some_and(|trace| trace.span_id.is_some());
        if is_recorded && self.queue.try_send(Some(Arc::clone(closed))).is_err() {
            self.metrics.spans_dropped("queue", 1 + closed.attempts.len());
        }
    }

    /// The sender, for whoever waits for it: it ends by itself when this is dropped and all is sent.
    pub(crate) fn thread(&self) -> Option<JoinHandle<()>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sends what waits, then ends; waits no longer than `most`.
    pub(crate) fn stop(&self, most: Duration) {
        let Some(thread) = self.thread() else { return };
        let until = std::time::Instant::now() + most;
        while self.queue.try_send(None).is_err() && std::time::Instant::now() < until && !thread.is_finished() {
            std::thread::sleep(LOOK_AGAIN);
        }
        wait_for(std::slice::from_ref(&thread), until);
    }
}

fn resource(service: &str) -> Resource {
    Resource::builder_empty()
        .with_service_name(service.to_owned())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()))
        .build()
}

struct Sender {
    exporter: opentelemetry_otlp::SpanExporter,
    scope: InstrumentationScope,
    origins: Arc<RwLock<HashMap<String, Origin>>>,
    metrics: Arc<Metrics>,
    batch: Vec<SpanData>,
    complained: Option<Instant>,
}

impl Sender {
    async fn run(mut self, mut waiting: mpsc::Receiver<Option<Arc<Closed>>>) {
        while let Some(Some(closed)) = waiting.recv().await {
            self.add(&closed);
            let until = Instant::now() + BATCH_TIME;
            let mut goes_on = true;
            while self.batch.len() < BATCH_MAX && goes_on {
                match timeout_at(until, waiting.recv()).await {
                    Ok(Some(Some(closed))) => self.add(&closed),
                    Ok(_) => goes_on = false,
                    Err(_) => break,
                }
            }
            self.send().await;
            if !goes_on {
                break;
            }
        }
        // After the wish to end: what came before it is all there is.
    }

    fn add(&mut self, closed: &Closed) {
        let origins = self.origins.read().unwrap_or_else(PoisonError::into_inner);
        self.batch.extend(spans::of(closed, &origins, &self.scope));
    }

    async fn send(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let count = batch.len();
        if let Err(error) = self.exporter.export(batch).await {
            self.metrics.spans_dropped("export", count);
            if self.complained.is_none_or(|when| when.elapsed() >= COMPLAIN_EVERY) {
                self.complained = Some(Instant::now());
                // The error's own words may name the address.
                tracing::debug!(%error, "export of spans");
                tracing::warn!(spans = count, "the trace collector does not take spans; they are lost");
            }
        } else {
            self.metrics.spans_sent(count);
        }
    }
}

/// Our own client: the process has one way to speak TLS.
#[derive(Debug)]
struct Client(reqwest::Client);

impl HttpClient for Client {
    fn send_bytes<'own, 'sending>(
        &'own self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'own: 'sending,
        Self: 'sending,
    {
        Box::pin(async move {
            let mut answer = self.0.execute(request.try_into()?).await?;
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await? {
                if body.len() + piece.len() > ANSWER_MAX {
                    return Err("the collector's answer is too long".into());
                }
                body.extend_from_slice(&piece);
            }
            let mut response = Response::new(Bytes::from(body));
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::ClientKind;
    use crate::config::telemetry::{LogTarget, RequestLogSettings, TelemetrySettings};
    use crate::record::redact::Redactor;
    use crate::record::{Record, Recorder};
    use http::HeaderMap;
    use weir_protocol::{ChatRequest, Dialect};

    #[test]
    fn what_was_said_does_not_wait_for_a_collector_that_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("requests.jsonl");
        let target = LogTarget::File(file.clone());
        let request_log = Some(RequestLogSettings { target, content: Some(Redactor::new(&[]).unwrap()) });
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1/traces", silent.local_addr().unwrap());
        let otlp = Some(OtlpSettings { endpoint, headers: Vec::new(), sample: 1.0, service: "weir".into() });
        let metrics = Arc::new(Metrics::new().unwrap());
        let recorder = Arc::new(Recorder::start(&TelemetrySettings { request_log, otlp }, metrics).unwrap());
        let trace = recorder.trace(&HeaderMap::new());
        assert!(trace.is_some());
        let record = Record::open(&recorder, "req-1", Dialect::OpenAiChat, trace);
        let request = Arc::new(ChatRequest::default());
        record.asked(&request, ClientKind::Other);
        drop(record);
        while std::fs::read(&file).unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(Arc::strong_count(&request), 1, "its line is written");
    }
}
