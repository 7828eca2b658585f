//! `POST /v1/route/explain`: where a request would go, and why. Takes the body of any dialect; nothing is run or
//! remembered, and nothing charged but the question. Must never show more of backends than the caller's own requests would.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use weir_protocol::{Dialect, EngineError};

use super::any_dialect;
use crate::caller::Caller;
use crate::route::Explained;
use crate::stack::Gateway;

/// Its path.
pub const PATH: &str = "/v1/route/explain";
/// Says the dialect, as `?dialect=` does.
const DIALECT: &str = "x-weir-dialect";

/// `?dialect=`.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    dialect: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    dialect: &'static str,
    dialect_told_by: &'static str,
    #[serde(flatten)]
    explained: Explained,
}

/// Explains one request.
pub async fn explain(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = headers.get(DIALECT).and_then(|value| value.to_str().ok());
    let shown = shown(&gateway, &caller, asked.dialect.as_deref().or(header), &body).await;
    gateway.metrics.question("explain", shown.as_ref().map_or_else(EngineError::kind, |_| "explained"));
    match shown {
        Ok(shown) => Json(shown).into_response(),
        Err(error) => super::refused(PATH, &error),
    }
}

async fn shown(gateway: &Gateway, caller: &Caller, dialect: Option<&str>, body: &[u8]) -> Result<Shown, EngineError> {
    let dialect = dialect.map(|word| any_dialect::named(word).ok_or_else(unknown)).transpose()?;
    let decoded = any_dialect::decode(body, dialect)?;
    let request = caller.sign(decoded.request);
    let dialect_told_by = if decoded.guessed { "shape" } else { "caller" };
    let explained = gateway.explain(&request, caller).await?;
    Ok(Shown { dialect: decoded.dialect.as_str(), dialect_told_by, explained })
}

fn unknown() -> EngineError {
    let known = [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages, Dialect::OpenAiCompletions];
    EngineError::invalid("dialect", format!("is none of {}", known.map(Dialect::as_str).join(", ")))
}

#[cfg(test)]
mod tests;
