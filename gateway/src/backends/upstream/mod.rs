//! An HTTP upstream as a backend, whatever it speaks: what differs between kinds is a [`Wire`] and its [`Decoder`], all
//! else is here once. An upstream is always asked to stream, so that a stalled or cut answer shows. Must never show
//! its key, its address or any text of the request in an error or a log.

pub(super) mod answer;
mod arguments;
pub(super) mod body;
mod clients;
mod clock;
pub(super) mod demands;
pub(super) mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod limits;
pub(super) mod lines;
pub(super) mod once;
mod one_call;
mod pieces;
mod reading;
pub(super) mod refusal;
pub(super) mod seal;
mod verbatim;

#[cfg(test)]
pub(super) mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Request, Response, Url};
use serde_json::Value;
use tower::service_fn;
use weir_protocol::{ChatRequest, EngineError, Event, TimeoutPhase};

use super::{Attempt, BackendService, EventStream};
use crate::config::settings::Secret;
use crate::config::{BackendSettings, is_this_machine};
use clients::Clients;
use clock::{Clock, Wait};
use frames::Framing;

/// What differs between kinds of upstream.
pub(super) trait Wire: Send + Sync + 'static {
    /// Where this request goes, below the base URL.
    fn path(&self, request: &ChatRequest) -> &'static str;

    /// What a streamed answer is framed in.
    fn framing(&self) -> Framing {
        Framing::Events
    }

    /// The header that carries the key.
    fn key(&self, key: &Secret) -> (HeaderName, String) {
        (AUTHORIZATION, format!("Bearer {}", key.expose()))
    }

    /// Headers the protocol demands; the operator's own go over them.
    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    /// Whether the upstream has room for one more request, as far as is known. Must not wait.
    ///
    /// # Errors
    /// It has none.
    fn admit(&self, _client: &Client, _headers: &HeaderMap) -> Result<(), EngineError> {
        Ok(())
    }

    /// The bytes to send, for a streamed answer.
    ///
    /// # Errors
    /// The request demands what this kind of upstream cannot carry.
    fn body(&self, request: &ChatRequest, model: &str) -> Result<Vec<u8>, EngineError>;

    /// Headers of this request alone.
    fn own_headers(&self, _request: &ChatRequest) -> Option<(HeaderName, HeaderValue)> {
        None
    }

    /// Reads one answer; `model` is the one asked for, `alike` whether the caller speaks this dialect too: seals and words
    /// that only this dialect has are then told.
    fn decoder(&self, model: &str, alike: bool) -> Box<dyn Decoder>;

    /// Whether it answers this request in the caller's own dialect: then its answer is passed on as it is.
    fn speaks(&self, _request: &ChatRequest) -> bool {
        false
    }

    /// Where prompts of its dialect are counted, below the base URL; `None`: nowhere.
    fn counts_at(&self) -> Option<&'static str> {
        None
    }

    /// The member of a body in its dialect that is sent otherwise than it came: without what others sealed. `None`: none is.
    fn unsealed(&self, _request: &ChatRequest) -> Option<(&'static str, Value)> {
        None
    }
}

/// What a caller of the same dialect may be shown of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// The piece as it is.
    Plain,
    /// Nothing: it is no part of the answer.
    Silent,
    /// Only what was read of it and of all after it: something had to be mended.
    Mended,
}

/// Turns an answer's pieces into events, as a state machine without sockets. Gives `Started` first and once, and
/// `Finished` last and once, and only if the upstream said that the answer is complete.
pub(super) trait Decoder: Send {
    /// The data of the next piece. Events before a fault are given too. Nothing after the end is taken.
    ///
    /// # Errors
    /// The answer is broken.
    fn take(&mut self, data: &str, events: &mut Vec<Event>) -> Result<(), EngineError>;

    /// One piece that says all that the first of `pieces` say, and how many those are; `None`: each is to be taken by itself.
    fn together(&self, _pieces: &[String]) -> Option<(String, usize)> {
        None
    }

    /// All of the answer as one document.
    ///
    /// # Errors
    /// The answer is broken or not complete.
    fn whole(&mut self, document: &[u8], events: &mut Vec<Event>) -> Result<(), EngineError>;

    /// What of the piece taken last can be shown as it is.
    fn shows(&self) -> Shows {
        Shows::Plain
    }

    /// The piece taken last as it is shown, where it has a word in it that means something else to clients.
    fn reworded(&self, _piece: &str) -> Option<String> {
        None
    }

    /// As far as it has come.
    fn answer(&self) -> &answer::Answer;

    /// Whether it is known how the answer ended, so that only counts can follow.
    fn has_reason(&self) -> bool {
        self.answer().has_reason()
    }

    /// Whether `Finished` was given.
    fn has_ended(&self) -> bool {
        self.answer().has_ended()
    }

    /// There is nothing more to read.
    ///
    /// # Errors
    /// The answer is not complete.
    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError>;
}

struct Upstream {
    clients: Clients,
    settings: BackendSettings,
    wire: Box<dyn Wire>,
    headers: HeaderMap,
    /// By path; parsed once.
    urls: RwLock<Vec<(&'static str, Url)>>,
}

/// What to do where no HTTP client can be made.
pub(crate) const NO_CLIENT: &str =
    "it needs CA certificates: install the package `ca-certificates`, or name a file in SSL_CERT_FILE";

/// Where every HTTP client of this process starts, for requests to this address. A proxy that the environment names is heard, but
/// not on the way to this machine: it would be told what was to stay here, and has another machine under that address.
pub(crate) fn http_client(to: &str) -> ClientBuilder {
    // The client panics without a provider. That one is already installed, by whoever came first, is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Sizes and sums of files are those of the bytes on the wire.
    let builder = Client::builder().gzip(false);
    if is_this_machine(to) { builder.no_proxy() } else { builder }
}

/// A backend over this upstream. Opens no connection yet.
///
/// # Errors
/// The client cannot be set up, for example because the system's root certificates cannot be read.
pub(super) fn service(settings: BackendSettings, wire: Box<dyn Wire>) -> Result<BackendService, reqwest::Error> {
    let clients = Clients::new(&settings)?;
    let headers = headers(&settings, wire.as_ref());
    let upstream = Arc::new(Upstream { clients, settings, wire, headers, urls: RwLock::default() });
    Ok(BackendService::new(service_fn(move |attempt| {
        let upstream = Arc::clone(&upstream);
        async move { upstream.call(attempt).await }
    })))
}

/// How long a connection to a server in the clear, which costs nothing to open, is kept unused. vLLM, SGLang, llama.cpp and Node
/// close theirs after 5 s: a request that is sent at that very moment is lost.
const IDLE_PLAIN: Duration = Duration::from_secs(4);

/// And one over TLS, which costs more: balancers close theirs after 60 s.
const IDLE_TLS: Duration = Duration::from_secs(50);

/// The client of one upstream.
pub(super) fn client(settings: &BackendSettings) -> Result<Client, reqwest::Error> {
    let builder = http_client(&settings.base_url);
    let is_plain = settings.base_url.starts_with("http:");
    builder
        .pool_idle_timeout(if is_plain { IDLE_PLAIN } else { IDLE_TLS })
        .connect_timeout(settings.connect_timeout)
        // HTTP/2 would put all requests on one connection: beyond the streams that a server allows they wait for each other,
        // and where its other end is gone, unnoticed, each of them fails.
        .http1_only()
        .redirect(Policy::none())
        .tcp_nodelay(true)
        .gzip(true)
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// What every request to it carries.
pub(super) fn headers(settings: &BackendSettings, wire: &dyn Wire) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static(wire.framing().media_type()));
    // A compressed stream is held back until the compressor has enough; one that comes anyway is decoded.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in wire.headers() {
        headers.insert(name, value);
    }
    if let Some(key) = &settings.api_key {
        let (name, value) = wire.key(key);
        // The config has checked that a header can carry it.
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    for (name, value) in &settings.headers {
        headers.insert(name.clone(), value.clone());
    }
    headers
}

/// Whether the answer can be read at all: the client takes away what it has decoded, so what is still named is in the way.
fn readable(response: &Response) -> Result<(), EngineError> {
    let coded = response.headers().get(CONTENT_ENCODING).filter(|coding| !coding.is_empty() && *coding != "identity");
    let Some(coding) = coded else { return Ok(()) };
    let known = ["br", "deflate", "zstd", "compress"].into_iter().find(|known| coding == known);
    let message = format!("its answer is compressed ({}), although none was asked for", known.unwrap_or("not in gzip"));
    Err(EngineError::Upstream { status: response.status().as_u16(), message, retry_after: None })
}

impl Upstream {
    async fn call(&self, attempt: Attempt) -> Result<EventStream, EngineError> {
        let model = attempt.model.as_deref().unwrap_or(&self.settings.model);
        let body = self.wire.body(&attempt.request, model)?;
        let client = self.clients.own(&self.settings);
        self.wire.admit(client, &self.headers)?;
        let passes = self.wire.speaks(&attempt.request);
        let decoder = self.wire.decoder(model, passes);
        let clock = Clock::start(&self.settings);
        let mut request = Request::new(Method::POST, self.url(self.wire.path(&attempt.request))?);
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().extend(self.wire.own_headers(&attempt.request));
        request.headers_mut().extend(attempt.trace);
        *request.body_mut() = Some(body.into());
        let response = clock.bound(Wait::Headers, client.execute(request)).await?.map_err(|e| self.unsent(&e))?;
        if !response.status().is_success() {
            return Err(refusal::read(response, &clock, self.settings.context_tokens).await);
        }
        readable(&response)?;
        let limits = limits::of(response.headers());
        let (status, framing, whole) = (response.status().as_u16(), self.wire.framing(), !attempt.request.stream);
        let reading = reading::Reading::new(status, framing, decoder, passes, whole);
        // What an upstream of the caller's dialect streams is its own affair.
        let objects = attempt.request.dialect.has_objects_as_arguments() && (whole || !passes);
        let reading = if objects { reading.with_objects() } else { reading };
        let takes_one = attempt.request.parallel_tool_calls == Some(false);
        let reading = if takes_one { reading.with_one_call(&self.settings.name) } else { reading };
        Ok(Box::pin(reading::events(response, reading, clock, limits)))
    }

    /// Where requests of this path go.
    fn url(&self, path: &'static str) -> Result<Url, EngineError> {
        // A list that was changed half way is as good: it is only added to.
        let known = self.urls.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, url)) = known.iter().find(|(known, _)| *known == path) {
            return Ok(url.clone());
        }
        drop(known);
        let url = Url::parse(&format!("{}{path}", self.settings.base_url));
        let url = url.map_err(|_| EngineError::Upstream {
            status: 0,
            message: "its base URL is none".into(),
            retry_after: None,
        })?;
        self.urls.write().unwrap_or_else(PoisonError::into_inner).push((path, url.clone()));
        Ok(url)
    }

    /// Why no answer began. The client's own words name the address, which may hold a password.
    fn unsent(&self, error: &reqwest::Error) -> EngineError {
        if error.is_connect() && error.is_timeout() {
            return clock::ran_out(TimeoutPhase::Connect, self.settings.connect_timeout);
        }
        let message =
            if error.is_connect() { "it cannot be reached" } else { "the connection broke before it answered" };
        EngineError::Upstream { status: 0, message: message.into(), retry_after: None }
    }
}
