//! An OpenAI-compatible upstream as a backend. It is always asked to stream, so that a stalled or cut answer shows.
//! Must never show its key, its address or any text of the request in an error or a log.

mod calls;
mod chunk;
mod clock;
mod reading;
mod refusal;
mod request;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::stream;
use http::header::{ACCEPT, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};
use tower::service_fn;
use weir_protocol::{EngineError, Event, TimeoutPhase};

use super::{Attempt, BackendService, EventStream};
use crate::config::BackendSettings;
use chunk::ChunkDecoder;
use clock::{Clock, Wait};

/// Largest answer taken as one JSON document.
const WHOLE_LIMIT: usize = 16 * 1024 * 1024;

struct Upstream {
    client: Client,
    settings: BackendSettings,
    url: String,
}

/// Where every HTTP client of this process starts.
pub(crate) fn http_client() -> ClientBuilder {
    // The client panics without a provider. That one is already installed, by whoever came first, is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
}

/// A backend over this upstream. Opens no connection yet.
///
/// # Errors
/// The client cannot be set up, for example because the system's root certificates cannot be read.
pub fn service(settings: BackendSettings) -> Result<BackendService, reqwest::Error> {
    let client = http_client()
        .connect_timeout(settings.connect_timeout)
        .redirect(Policy::none())
        .tcp_nodelay(true)
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let url = format!("{}/chat/completions", settings.base_url);
    let upstream = Arc::new(Upstream { client, settings, url });
    Ok(BackendService::new(service_fn(move |attempt| {
        let upstream = Arc::clone(&upstream);
        async move { upstream.call(attempt).await }
    })))
}

impl Upstream {
    async fn call(&self, attempt: Attempt) -> Result<EventStream, EngineError> {
        request::carries(&attempt.request)?;
        let model = attempt.model.as_deref().unwrap_or(&self.settings.model);
        let body = request::body(&attempt.request, model)?;
        let decoder = ChunkDecoder::new(model, self.settings.context_tokens);
        let clock = Clock::start(&self.settings);
        let response = clock.bound(Wait::Headers, self.request(body).send()).await?.map_err(|e| self.unsent(&e))?;
        if !response.status().is_success() {
            return Err(refusal::read(response, &clock, self.settings.context_tokens).await);
        }
        match content_type(&response) {
            "application/json" => {
                let bytes = clock.bound(Wait::FirstContent, reading::at_most(response, WHOLE_LIMIT)).await??;
                let events = decoder.whole(&bytes)?;
                Ok(Box::pin(stream::iter(events.into_iter().map(Ok::<Event, EngineError>))))
            }
            "text/html" => {
                let status = response.status().as_u16();
                Err(EngineError::Upstream { status, message: "it answered with a web page; check its base URL".into() })
            }
            _ => Ok(Box::pin(reading::events(response, decoder, clock))),
        }
    }

    fn request(&self, body: Vec<u8>) -> RequestBuilder {
        let mut request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        request = request.header(ACCEPT, "text/event-stream");
        if let Some(key) = &self.settings.api_key {
            request = request.bearer_auth(key.expose());
        }
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        request.body(body)
    }

    /// Why no answer began. The client's own words name the address, which may hold a password.
    fn unsent(&self, error: &reqwest::Error) -> EngineError {
        if error.is_connect() && error.is_timeout() {
            return clock::ran_out(TimeoutPhase::Connect, self.settings.connect_timeout);
        }
        let message =
            if error.is_connect() { "it cannot be reached" } else { "the connection broke before it answered" };
        EngineError::Upstream { status: 0, message: message.into() }
    }
}

fn content_type(response: &Response) -> &str {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}
