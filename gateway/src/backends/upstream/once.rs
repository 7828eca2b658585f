//! Small questions beside the answers, such as a count: one document each. Must never be used for what a caller streams.

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response};
use serde_json::Value;
use weir_protocol::EngineError;

use super::clock::{Clock, Wait};
use super::{Wire, refusal};
use crate::config::BackendSettings;
use crate::plain_json;

const BODY_LIMIT: usize = 64 * 1024;

/// Where they go.
#[derive(Debug, Clone)]
pub(in crate::backends) struct Once {
    client: Client,
    settings: BackendSettings,
    url: String,
    headers: HeaderMap,
}

impl Once {
    /// `path` is below the base URL.
    ///
    /// # Errors
    /// There is no HTTP client.
    pub(in crate::backends) fn new(
        settings: &BackendSettings,
        wire: &dyn Wire,
        path: &str,
    ) -> Result<Self, reqwest::Error> {
        let url = format!("{}{path}", settings.base_url);
        let headers = super::headers(settings, wire);
        Ok(Once { client: super::client(settings)?, settings: settings.clone(), url, headers })
    }

    /// The model asked for where the caller names none of its own.
    pub(in crate::backends) fn settings(&self) -> &BackendSettings {
        &self.settings
    }

    /// Asks, with a header of this question alone.
    ///
    /// # Errors
    /// It refused, took too long, or answered with something else.
    pub(in crate::backends) async fn ask(
        &self,
        body: Vec<u8>,
        own: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Value, EngineError> {
        let clock = Clock::start(&self.settings);
        let mut headers = self.headers.clone();
        headers.extend(own);
        let request = self.client.post(&self.url).headers(headers).body(body);
        let unsent = |_| EngineError::Upstream { status: 0, message: "it cannot be reached".into(), retry_after: None };
        let response = clock.bound(Wait::Headers, request.send()).await?.map_err(unsent)?;
        if !response.status().is_success() {
            return Err(refusal::read(response, &clock, self.settings.context_tokens).await);
        }
        let body = clock.bound(Wait::FirstContent, at_most(response, BODY_LIMIT)).await??;
        let odd = |_| EngineError::Upstream { status: 0, message: "its answer is not JSON".into(), retry_after: None };
        plain_json::parse_bytes(&body).map_err(odd)
    }
}

/// A body of at most `limit` bytes.
pub(in crate::backends) async fn at_most(mut response: Response, limit: usize) -> Result<Vec<u8>, EngineError> {
    let cut = |message: &str| EngineError::StreamCut { message: message.into() };
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|_| cut("the upstream's connection broke"))? {
        if body.len() + piece.len() > limit {
            return Err(cut("the upstream's answer is too long"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
