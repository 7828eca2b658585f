//! Asks each upstream once, without generating anything: the list of its models; and the collector of traces to take none.
//! What came back serves several looks. The only part of the doctor that calls anybody by HTTP.

use std::error::Error;
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;

use crate::backends::http_client;
use crate::config::telemetry::OtlpSettings;
use crate::config::wire::BackendKind;
use crate::config::{BackendSettings, Settings};

/// Most time for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest list that is read.
const BODY_MAX: usize = 1 << 20;

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reached {
    /// It answers; the models it lists, if it lists any.
    Answers(Vec<String>),
    /// It answers with this status.
    Refuses(u16),
    /// Nobody listens there.
    NobodyListens,
    /// There is no host of this name.
    NoSuchHost,
    /// No answer in time.
    Silent,
    /// TLS failed.
    NoTls,
    /// The connection broke in another way.
    Broke,
}

/// One upstream, asked.
#[derive(Debug, Clone)]
pub(super) struct Called {
    pub(super) backend: String,
    pub(super) reached: Reached,
    /// Whether its health check is well; none if there is no check, or nobody to ask.
    pub(super) well: Option<bool>,
    /// What its `Date` says, and when that came.
    pub(super) date: Option<(SystemTime, SystemTime)>,
}

/// All upstreams, asked at once.
pub(super) fn all(settings: &Settings) -> Vec<Called> {
    if settings.backends.is_empty() {
        return Vec::new();
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let clients = settings.backends.iter().filter_map(|backend| Some((client(&backend.base_url)?, backend)));
    runtime.block_on(futures::future::join_all(clients.map(|(client, backend)| call(client, backend))))
}

/// What the collector of traces says to spans: none are sent.
pub(super) fn collector(settings: &OtlpSettings) -> Option<Reached> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asked =
        client(&settings.endpoint)?.post(&settings.endpoint).header(header::CONTENT_TYPE, "application/x-protobuf");
    let headers = settings.headers.iter();
    let asked = headers.fold(asked, |asked, (name, value)| asked.header(name, value.expose()));
    // A message without fields is an empty body.
    Some(match runtime.block_on(async { asked.body("").send().await }) {
        Ok(response) if response.status().is_success() => Reached::Answers(Vec::new()),
        Ok(response) => Reached::Refuses(response.status().as_u16()),
        Err(error) => broken(&error),
    })
}

fn client(to: &str) -> Option<reqwest::Client> {
    http_client(to).redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE).build().ok()
}

async fn call(client: reqwest::Client, backend: &BackendSettings) -> Called {
    let answer = client.get(url(backend)).headers(headers(backend)).send().await;
    let well = match (&answer, &backend.asking.health) {
        (Ok(_), Some(health)) => {
            let asked = client.get(&health.url).headers(headers(backend)).timeout(health.timeout).send().await;
            Some(asked.is_ok_and(|response| response.status().is_success()))
        }
        _ => None,
    };
    let mut date = None;
    let reached = match answer {
        Ok(mut response) => {
            let said = response.headers().get(header::DATE).and_then(|value| value.to_str().ok());
            date = said.and_then(|said| httpdate::parse_http_date(said).ok()).map(|said| (said, SystemTime::now()));
            match response.status() {
                status if status.is_success() => {
                    let mut body = Vec::new();
                    while let Ok(Some(piece)) = response.chunk().await {
                        body.extend_from_slice(&piece);
                        if body.len() > BODY_MAX {
                            break;
                        }
                    }
                    Reached::Answers(models(&body))
                }
                status => Reached::Refuses(status.as_u16()),
            }
        }
        Err(error) => broken(&error),
    };
    Called { backend: backend.name.clone(), reached, well, date }
}

fn url(backend: &BackendSettings) -> String {
    match backend.wire.kind {
        BackendKind::Ollama => format!("{}/api/tags", backend.base_url),
        _ => format!("{}/models", backend.base_url),
    }
}

fn headers(backend: &BackendSettings) -> HeaderMap {
    let mut headers: HeaderMap = backend.headers.iter().cloned().collect();
    let is_anthropic = backend.wire.kind == BackendKind::Anthropic;
    if is_anthropic {
        headers.entry("anthropic-version").or_insert(HeaderValue::from_static("2023-06-01"));
    }
    if let Some(key) = &backend.api_key {
        let (name, value) = match is_anthropic {
            true => (HeaderName::from_static("x-api-key"), key.expose().to_owned()),
            false => (header::AUTHORIZATION, format!("Bearer {}", key.expose())),
        };
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

/// OpenAI's and Anthropic's `data[].id`, or ollama's `models[].name`.
fn models(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let of = |list: &str, key: &str| -> Vec<String> {
        let items = body[list].as_array().into_iter().flatten();
        items.filter_map(|item| item[key].as_str().map(str::to_owned)).collect()
    };
    let listed = of("data", "id");
    if listed.is_empty() { of("models", "name") } else { listed }
}

fn broken(error: &reqwest::Error) -> Reached {
    if error.is_timeout() {
        return Reached::Silent;
    }
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    let mut words = String::new();
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<std::io::Error>()
            && io.kind() == ErrorKind::ConnectionRefused
        {
            return Reached::NobodyListens;
        }
        words += &this.to_string().to_lowercase();
        cause = this.source();
    }
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if says(&["dns", "name resolution", "lookup address", "no such host"]) {
        Reached::NoSuchHost
    } else if says(&["certificate", "tls", "handshake", "unknownissuer"]) {
        Reached::NoTls
    } else {
        Reached::Broke
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read_in_both_forms() {
        assert_eq!(models(br#"{"data":[{"id":"a"},{"id":"b"},{}]}"#), ["a", "b"]);
        assert_eq!(models(br#"{"models":[{"name":"a:latest"}]}"#), ["a:latest"]);
        assert!(models(b"<html>").is_empty());
    }
}
