//! `POST /v1/messages/count_tokens` and `POST /v1/responses/input_tokens`: how many tokens a prompt has for whoever would
//! answer it. Counted where the tokenizer is here, or by the upstream where it counts; elsewhere an estimate, which says so.
//! Must never start an answer.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use weir_diffusion_engine::Engine;
use weir_protocol::{ChatRequest, EngineError};
use weir_router_policies::Features;

use super::answering::failure::Failure;
use super::answering::{Speaks, decoded};
use crate::backends::Backend;
use crate::backends::builtin::TOKEN_BYTES_MAX;
use crate::caller::Caller;
use crate::stack::Gateway;

/// A dialect in which prompts are counted.
pub(crate) trait Counts: Speaks {
    /// What its documents call themselves, where they do.
    const OBJECT: Option<&'static str>;
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'static str>,
    #[serde(flatten)]
    counted: Counted,
}

#[derive(Debug, Serialize)]
struct Counted {
    input_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    weir: Option<Estimated>,
}

/// How the number was come by, where it was not counted.
#[derive(Debug, Serialize)]
struct Estimated {
    estimated: bool,
    bytes_per_token: f32,
}

/// Counts one request's prompt.
pub(crate) async fn count<D: Counts>(State(gateway): State<Arc<Gateway>>, caller: Caller, body: Bytes) -> Response {
    let counted = counted::<D>(&gateway, &caller, &body).await;
    let outcome = match &counted {
        Ok(Counted { weir: None, .. }) => "counted",
        Ok(_) => "estimated",
        Err(error) => error.kind(),
    };
    gateway.metrics.question("count_tokens", outcome);
    match counted {
        Ok(counted) => Json(Shown { object: D::OBJECT, counted }).into_response(),
        Err(error) => D::refused(Failure::from(&error)),
    }
}

async fn counted<D: Counts>(gateway: &Gateway, caller: &Caller, body: &[u8]) -> Result<Counted, EngineError> {
    let request = decoded::<D>(caller, body)?;
    let backend = gateway.first(&request, caller).await?;
    let bytes = Features::of(&request).prompt_bytes;
    match &backend.engine {
        Some(engine) if bytes / TOKEN_BYTES_MAX <= u64::from(engine.info().context) => {
            exactly(engine.clone(), request).await
        }
        _ => match &backend.counter {
            Some(counter) => Ok(counter.count(&request).await.map_or_else(|_| roughly(backend, bytes), told)),
            None => Ok(roughly(backend, bytes)),
        },
    }
}

/// By the engine's own template and tokenizer.
async fn exactly(engine: Engine, request: ChatRequest) -> Result<Counted, EngineError> {
    // A long prompt takes milliseconds: not on a thread that serves sockets.
    let counting = tokio::task::spawn_blocking(move || engine.count_prompt_tokens(&request));
    let tokens = counting.await.map_err(|_| EngineError::internal("the engine's front end failed"))??;
    Ok(told(u64::from(tokens)))
}

fn told(input_tokens: u64) -> Counted {
    Counted { input_tokens, weir: None }
}

fn roughly(backend: &Backend, bytes: u64) -> Counted {
    let bytes_per_token = backend.facts.bytes_per_token;
    let tokens = (bytes as f64 / f64::from(bytes_per_token.max(f32::MIN_POSITIVE))).ceil() as u64;
    Counted { input_tokens: tokens, weir: Some(Estimated { estimated: true, bytes_per_token }) }
}
