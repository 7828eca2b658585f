//! Answers a request in any dialect: decode, plan, run, encode. A dialect says how its bodies are read and how its
//! answers look ([`Speaks`]); when headers go out, how silence is bridged and that a stream ends once is the same for
//! all and decided here. Must never hold a rule about who answers, nor a word of one dialect.

mod body;
pub(crate) mod braces;
pub(crate) mod collect;
pub(crate) mod failure;
pub(crate) mod frames;
mod headers;
pub(crate) mod stats;
pub(crate) mod stream;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use weir_protocol::{ChatRequest, EngineError};

use crate::caller::Caller;
use crate::route::{Planned, Refusal};
use crate::stack::Gateway;
use collect::{Collected, Words};
use failure::Failure;
use stream::{Grammar, StreamWriter};

/// One dialect.
pub(crate) trait Speaks: 'static {
    /// Writes its streams.
    type Grammar: Grammar;
    /// Its answer as one document.
    type Whole: Serialize;
    /// What is sent while nothing is ready: clients must ignore it.
    const KEEP_ALIVE: &'static [u8];

    /// Reads a body.
    fn decode(body: &[u8]) -> Result<ChatRequest, EngineError>;
    /// Writes the streamed answer to `request`.
    fn grammar(request: &ChatRequest) -> Self::Grammar;
    /// Writes the whole answer to `request`.
    fn whole(request: &ChatRequest, answer: Collected) -> Result<Self::Whole, EngineError>;
    /// The whole answer as the events of an upstream of this dialect make it, as JSON; `None`: they make none.
    fn joined(_pieces: &[String]) -> Option<String> {
        None
    }
    /// Shows an error before the first byte.
    fn refused(failure: Failure) -> Response;
}

/// Answers one request.
pub(crate) async fn answer<D: Speaks>(gateway: Arc<Gateway>, caller: Caller, body: Bytes) -> Response {
    let request = match decoded::<D>(&caller, &body) {
        Ok(request) => Arc::new(request),
        Err(error) => return D::refused(Failure::from(&error)),
    };
    drop(body);
    match gateway.plan(&request, &caller).await {
        Ok(planned) if request.stream => streamed::<D>(&gateway, &request, planned).await,
        Ok(planned) => whole::<D>(&request, planned).await.unwrap_or_else(refused::<D>),
        Err(refusal) => refused::<D>(refusal),
    }
}

/// The request, and whose it is.
pub(crate) fn decoded<D: Speaks>(caller: &Caller, body: &[u8]) -> Result<ChatRequest, EngineError> {
    D::decode(body).map(|request| caller.sign(request))
}

async fn whole<D: Speaks>(request: &ChatRequest, planned: Box<Planned>) -> Result<Response, Refusal> {
    let answer = planned.run().await?;
    let (report, limits) = (answer.report, answer.limits);
    match collect::collect(answer.events).await.and_then(|answer| written::<D>(request, answer)) {
        Ok(whole) => Ok(headers::with_route(headers::with_limits(whole, &limits), &report)),
        Err(error) => Err(Refusal { report: Some(report), error }),
    }
}

/// The document: in the upstream's own words where it speaks this dialect, once it is known that ours could say it too.
fn written<D: Speaks>(request: &ChatRequest, mut answer: Collected) -> Result<Response, EngineError> {
    let words = answer.words.take();
    let own = D::whole(request, answer)?;
    let whole = match words {
        Some(Words::Document(text)) => Some(text),
        Some(Words::Pieces(pieces)) => D::joined(&pieces),
        None => None,
    };
    let json = |text| ([(CONTENT_TYPE, "application/json")], text).into_response();
    Ok(whole.map_or_else(|| Json(own).into_response(), json))
}

/// Waits a while for the answer, since until the headers are sent an error still has its status; then the headers go
/// out, naming the plan, and keep-alives bridge the silence.
async fn streamed<D: Speaks>(gateway: &Gateway, request: &ChatRequest, planned: Box<Planned>) -> Response {
    let report = planned.report();
    let writer = StreamWriter::new(D::grammar(request), request.diffusion.drafts);
    let silence = body::Silence { after: gateway.settings.keep_alive, frame: D::KEEP_ALIVE };
    let hold_headers = planned.hold_headers().unwrap_or(gateway.settings.hold_headers);
    let mut opening = Box::pin(planned.run());
    match tokio::time::timeout(hold_headers, &mut opening).await {
        Ok(Ok(answer)) => {
            let response = headers::event_stream(body::of(answer.events, writer, silence), &answer.report);
            headers::with_limits(response, &answer.limits)
        }
        Ok(Err(refusal)) => refused::<D>(refusal),
        Err(_) => headers::event_stream(body::of(body::later(opening), writer, silence), &report),
    }
}

fn refused<D: Speaks>(refusal: Refusal) -> Response {
    let response = D::refused(Failure::from(&refusal.error));
    match &refusal.report {
        Some(report) => headers::with_route(response, report),
        None => response,
    }
}

/// What all pieces of one answer share.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Id of the answer.
    pub(crate) id: String,
    /// When it began, in seconds since 1970.
    pub(crate) created: u64,
}

impl Identity {
    /// A fresh one; `prefix` is the dialect's.
    pub(crate) fn fresh(prefix: &str) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Identity { id: format!("{prefix}{}", crate::ids::fresh().simple()), created }
    }
}
