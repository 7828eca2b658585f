//! OpenAI chat completions: `POST /v1/chat/completions`. Decode, plan, run, encode; must never hold a rule about who
//! answers.

pub mod decode;
pub mod error;

mod body;
mod collect;
mod encode;
mod headers;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use weir_protocol::ChatRequest;

use crate::caller::Caller;
use crate::route::{Planned, Refusal};
use crate::stack::Gateway;
use error::ErrorReply;
use stream::{Identity, StreamWriter};

/// Answers one chat request.
pub async fn chat(State(gateway): State<Arc<Gateway>>, caller: Caller, body: Bytes) -> Response {
    let request = match decode::decode(&body) {
        Ok(request) => Arc::new(ChatRequest { tenant: caller.id(), ..request }),
        Err(error) => {
            gateway.metrics.rejected(error.kind());
            return ErrorReply::from(&error).into_response();
        }
    };
    drop(body);
    match gateway.plan(&request, &caller).await {
        Ok(planned) if request.stream => streamed(&gateway, &request, planned).await,
        Ok(planned) => whole(planned).await.unwrap_or_else(refused),
        Err(refusal) => refused(refusal),
    }
}

async fn whole(planned: Planned) -> Result<Response, Refusal> {
    let answer = planned.run().await?;
    let (report, limits) = (answer.report, answer.limits);
    match collect::collect(identity(), answer.events).await {
        Ok(completion) => {
            let response = headers::with_limits(Json(completion).into_response(), &limits);
            Ok(headers::with_route(response, &report))
        }
        Err(error) => Err(Refusal { report: Some(report), error }),
    }
}

/// Waits a while for the answer, since until the headers are sent an error still has its status; then the headers go
/// out, naming the plan, and comments keep the connection alive.
async fn streamed(gateway: &Gateway, request: &ChatRequest, planned: Planned) -> Response {
    let report = planned.report().clone();
    let writer = StreamWriter::new(identity(), request.include_usage, request.diffusion.drafts);
    let keep_alive = gateway.settings.keep_alive;
    let hold_headers = planned.hold_headers().unwrap_or(gateway.settings.hold_headers);
    let mut opening = Box::pin(planned.run());
    match tokio::time::timeout(hold_headers, &mut opening).await {
        Ok(Ok(answer)) => {
            let response = headers::event_stream(body::of(answer.events, writer, keep_alive), &answer.report);
            headers::with_limits(response, &answer.limits)
        }
        Ok(Err(refusal)) => refused(refusal),
        Err(_) => headers::event_stream(body::of(body::later(opening), writer, keep_alive), &report),
    }
}

fn refused(refusal: Refusal) -> Response {
    let response = ErrorReply::from(&refusal.error).into_response();
    match &refusal.report {
        Some(report) => headers::with_route(response, report),
        None => response,
    }
}

fn identity() -> Identity {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Identity { id: format!("chatcmpl-{}", uuid::Uuid::new_v4().simple()), created }
}
